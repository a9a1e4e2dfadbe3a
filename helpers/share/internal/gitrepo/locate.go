package gitrepo

import (
	"errors"
	"io/fs"
	"strings"
)

// Locator tells which paths of a folder belong to git directories. It remembers what it looked up, so it is made
// anew for every listing.
type Locator struct {
	Lower, Merged Dir // the folder itself in both views
	known         map[string]bool
}

// Place is what a path belongs to.
type Place struct {
	// Dir is the git directory, from the folder on.
	Dir []string
	// Pointer: Dir is no directory but a file `.git` (of a worktree or submodule) or another thing of that name; it
	// points to where the repository is and is never followed nor taken over.
	Pointer bool
}

// Find gives the innermost git directory that path lies in or is. Anything called .git is one, however it is
// written, and within one, as in a folder that has no name of its own for it (a bare repository), what has HEAD,
// objects and refs. A folder of the host's that was no git directory does not become one by what the guest puts
// there: the guest could hide the user's files so.
func (l *Locator) Find(path []string) (Place, bool, error) {
	found, within := 0, false
	for n := 1; n <= len(path); n++ {
		named := looksLike(path[n-1], "git")
		is := named
		if !is {
			var err error
			if is, err = l.isGitDir(path[:n], within); err != nil {
				return Place{}, false, err
			}
		}
		if is {
			found, within = n, within || named
		}
	}
	if found == 0 {
		return Place{}, false, nil
	}
	place := Place{Dir: path[:found]}
	if !looksLike(path[found-1], "git") {
		return place, true, nil
	}
	for _, view := range []Dir{l.Merged, l.Lower} {
		kind, err := kindAt(view, place.Dir)
		if err == nil && kind == Directory {
			return place, true, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Place{}, false, err
		}
	}
	place.Pointer = true
	return place, true, nil
}

// isGitDir: what the host has decides where it has anything; below a .git only the guest may have it too.
func (l *Locator) isGitDir(path []string, within bool) (bool, error) {
	key := strings.Join(path, "/")
	if is, ok := l.known[key]; ok {
		return is, nil
	}
	is, err := looksLikeGitDir(l.Lower, path)
	if err == nil && !is {
		var host Kind
		if host, err = kindAt(l.Lower, path); errors.Is(err, fs.ErrNotExist) || err == nil && within && host == Directory {
			is, err = looksLikeGitDir(l.Merged, path)
		}
	}
	if err != nil {
		return false, err
	}
	if l.known == nil {
		l.known = map[string]bool{}
	}
	if len(l.known) < maxNames {
		l.known[key] = is
	}
	return is, nil
}

func kindAt(root Dir, path []string) (Kind, error) {
	if root == nil {
		return Other, fs.ErrNotExist
	}
	d, err := reach(root, path[:len(path)-1]...)
	if errors.Is(err, errKind) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Other, err
	}
	if d != root {
		defer d.Close()
	}
	return d.Kind(path[len(path)-1])
}

func looksLikeGitDir(root Dir, path []string) (bool, error) {
	kind, err := kindAt(root, path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && kind != Directory {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d, err := reach(root, path...)
	if err != nil {
		return false, err
	}
	defer d.Close()
	for _, want := range []struct {
		name string
		kind Kind
	}{{"HEAD", Regular}, {"objects", Directory}, {"refs", Directory}} {
		kind, err := d.Kind(want.name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && kind != want.kind {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
