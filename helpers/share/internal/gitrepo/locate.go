package gitrepo

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// Locator tells which paths of a folder belong to git directories. It remembers what it looked up, so it is made
// anew for every listing.
type Locator struct {
	Lower, Merged Dir // the folder itself in both views
	known         map[string]bool
	keys          int // bytes of known's paths
	lower, merged way
}

// Close lets go of what the Locator opened, not of Lower and Merged.
func (l *Locator) Close() {
	l.lower.leave(0)
	l.merged.leave(0)
}

// way keeps the directories down to the last path open, as paths come in order.
type way struct {
	names []string
	dirs  []Dir // one for each name
}

func (w *way) leave(depth int) {
	for len(w.dirs) > depth {
		w.dirs[len(w.dirs)-1].Close()
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
	w.names = w.names[:depth]
}

// to opens the directory at a path; it stays the way's.
func (w *way) to(root Dir, path []string) (Dir, error) {
	same := 0
	for same < len(path) && same < len(w.names) && path[same] == w.names[same] {
		same++
	}
	w.leave(same)
	for _, name := range path[same:] {
		at := root
		if len(w.dirs) > 0 {
			at = w.dirs[len(w.dirs)-1]
		}
		next, err := at.Dir(name)
		if err != nil {
			return nil, err
		}
		w.names, w.dirs = append(w.names, name), append(w.dirs, next)
	}
	if len(w.dirs) == 0 {
		return root, nil
	}
	return w.dirs[len(w.dirs)-1], nil
}

// Place is what a path belongs to.
type Place struct {
	// Dir is the git directory, from the folder on.
	Dir []string
	// Pointer: Dir is no directory but a file `.git` (of a worktree or submodule) or another thing of that name; it
	// points to where the repository is and is never followed nor taken over.
	Pointer bool
}

// maxKnown bounds the paths that are remembered, in bytes.
const maxKnown = 16 << 20

// maxDepth is how many directories are held open; deeper down only what is called .git is found.
const maxDepth = 200

// Find gives the innermost git directory that path lies in or is. Anything called .git is one, however it is
// written, and within one, as in a folder that has no name of its own for it (a bare repository), what has HEAD,
// objects and refs. A folder of the host's that was no git directory does not become one by what the guest puts
// there: the guest could hide the user's files so.
func (l *Locator) Find(path []string) (Place, bool, error) {
	found, within := 0, false
	var trouble error
	for n := 1; n <= len(path); n++ {
		named := looksLike(path[n-1], "git")
		is := named
		if !is {
			var err error
			if is, err = l.isGitDir(path[:n], within); err != nil {
				trouble = err // what is above is one by its name all the same
			}
		}
		if is {
			found, within = n, within || named
		}
	}
	if found == 0 {
		return Place{}, false, trouble
	}
	place := Place{Dir: path[:found]}
	if !looksLike(path[found-1], "git") || found > maxDepth {
		return place, true, nil
	}
	for _, kindAt := range []func([]string) (Kind, error){l.mergedKind, l.lowerKind} {
		kind, err := kindAt(place.Dir)
		if err == nil && kind == Directory || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return place, true, nil
		}
	}
	place.Pointer = true
	return place, true, nil
}

// isGitDir: what the host has decides where it has anything; below a .git only the guest may have it too.
func (l *Locator) isGitDir(path []string, within bool) (bool, error) {
	if len(path) > maxDepth {
		return false, nil
	}
	key := strings.Join(path, "/")
	if is, ok := l.known[key]; ok {
		return is, nil
	}
	host, err := l.lowerKind(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, err
	}
	if !missing && host != Directory {
		return false, nil
	}
	is := false
	if !missing {
		if is, err = looksLikeGitDir(&l.lower, l.Lower, path); err != nil {
			return false, err
		}
	}
	if !is && (missing || within) {
		guest, err := l.mergedKind(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if err != nil || guest != Directory {
			return false, nil
		}
		if is, err = looksLikeGitDir(&l.merged, l.Merged, path); err != nil {
			return false, err
		}
	}
	if l.known == nil {
		l.known = map[string]bool{}
	}
	if len(l.known) < maxNames && l.keys+len(key) <= maxKnown {
		l.keys += len(key)
		l.known[key] = is
	}
	return is, nil
}

func (l *Locator) lowerKind(path []string) (Kind, error)  { return kindAt(&l.lower, l.Lower, path) }
func (l *Locator) mergedKind(path []string) (Kind, error) { return kindAt(&l.merged, l.Merged, path) }

func kindAt(w *way, root Dir, path []string) (Kind, error) {
	if root == nil {
		return Other, fs.ErrNotExist
	}
	d, err := w.to(root, path[:len(path)-1])
	if errors.Is(err, errKind) || errors.Is(err, syscall.ENOTDIR) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Other, err
	}
	return d.Kind(path[len(path)-1])
}

// looksLikeGitDir looks into a directory.
func looksLikeGitDir(w *way, root Dir, path []string) (bool, error) {
	d, err := w.to(root, path)
	if err != nil {
		return false, err
	}
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
