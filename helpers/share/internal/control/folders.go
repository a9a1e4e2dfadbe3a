//go:build linux

package control

import (
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ignore"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// What is looked up in the folder itself, by names alone: projects with dependency folders, and names that look like secrets.
const (
	// lookDepth and lookEntries bound the look for projects, lookNames the one for secrets.
	lookDepth   = 4
	lookEntries = 20_000
	lookNames   = 200_000
	maxLocal    = 100
	maxSecrets  = 100
	maxIgnore   = 1 << 20
	maxConfig   = 1 << 20
)

// visit is one directory with the names in it; what says whether to go below one of them.
type visit struct {
	dir     ninep.Node
	path    []string
	entries []wire.Dirent
}

// eachDirectory goes through the folder by directories, the upper ones first, until the bounds are met or use says false. below says
// which directories are entered. complete is false when a bound cut the look short.
func eachDirectory(root ninep.Node, depth, entries int, use func(visit) bool, below func(path []string) bool) (complete bool) {
	type place struct {
		node ninep.Node
		path []string
	}
	root.Hold()
	queue := []place{{root, nil}}
	complete = true
	defer func() {
		for _, p := range queue {
			p.node.Drop()
		}
	}()
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		list, err := listNames(at.node, &entries)
		if entries <= 0 {
			complete = false
		}
		if err != nil || !use(visit{at.node, at.path, list}) {
			at.node.Drop()
			if err == nil {
				return complete
			}
			continue
		}
		for _, d := range list {
			path := append(append([]string{}, at.path...), d.Name)
			if d.Type != unix.DT_DIR || len(path) > depth || !below(path) {
				continue
			}
			if next, err := at.node.Walk(d.Name); err == nil {
				queue = append(queue, place{next, path})
			}
		}
		at.node.Drop()
	}
	return complete
}

// listNames lists a directory as far as the budget goes, which it takes from.
func listNames(dir ninep.Node, budget *int) ([]wire.Dirent, error) {
	var all []wire.Dirent
	if *budget <= 0 {
		return all, nil
	}
	err := ninep.EachName(dir, func(d wire.Dirent) bool {
		all = append(all, d)
		*budget--
		return *budget > 0
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// contentOf reads a small regular file; nil where there is none or it is too large.
func contentOf(dir ninep.Node, name string, most int) []byte {
	n, err := dir.Walk(name)
	if err != nil {
		return nil
	}
	defer n.Drop()
	a, err := n.Attr()
	if err != nil || a.Mode&unix.S_IFMT != unix.S_IFREG || a.Size > uint64(most) {
		return nil
	}
	f, err := n.Open(0)
	if err != nil {
		return nil
	}
	defer f.Close()
	data := make([]byte, a.Size)
	got, err := f.ReadAt(data, 0)
	if err != nil {
		return nil
	}
	return data[:got]
}

// at walks a path; nil where it does not lead anywhere.
func at(root ninep.Node, path []string) ninep.Node {
	root.Hold()
	n := root
	for _, name := range path {
		next, err := n.Walk(name)
		n.Drop()
		if err != nil {
			return nil
		}
		n = next
	}
	return n
}

// localFolders are the dependency and cache folders that shall live on the guest's own disk: those that a project's first command
// would make, and those that are there but git ignores or that are empty.
func localFolders(root ninep.Node) []string {
	ignored := ignoredIn(root)
	var found []string
	eachDirectory(root, lookDepth, lookEntries, func(v visit) bool {
		var all []string
		kinds := map[string]uint8{}
		for _, d := range v.entries {
			all = append(all, d.Name)
			kinds[d.Name] = d.Type
		}
		for _, folder := range names.LocalFolders(all) {
			path := append(append([]string{}, v.path...), folder.Name)
			kind, there := kinds[folder.Name]
			switch {
			case !there && !folder.WhenAbsent,
				there && kind != unix.DT_DIR,
				there && !ignored(path) && !isEmpty(v.dir, folder.Name):
				continue
			}
			if len(found) < maxLocal {
				found = append(found, strings.Join(path, "/"))
			}
		}
		return len(found) < maxLocal
	}, func(path []string) bool {
		last := path[len(path)-1]
		return !strings.HasPrefix(last, ".") && !ignored(path) && last != "node_modules"
	})
	sort.Strings(found)
	return outermost(found)
}

// outermost leaves out what lies in another one of the list; the list is sorted.
func outermost(paths []string) []string {
	kept := []string{}
	for _, path := range paths {
		if n := len(kept); n == 0 || !strings.HasPrefix(path, kept[n-1]+"/") {
			kept = append(kept, path)
		}
	}
	return kept
}

func isEmpty(dir ninep.Node, name string) bool {
	n, err := dir.Walk(name)
	if err != nil {
		return false
	}
	defer n.Drop()
	budget := 1
	list, err := listNames(n, &budget)
	return err == nil && len(list) == 0
}

// ignoredIn tells of a directory whether git ignores it; never where the folder is no work tree.
func ignoredIn(root ninep.Node) func(path []string) bool {
	git := at(root, []string{".git"})
	if git == nil {
		return func([]string) bool { return false }
	}
	defer git.Drop()
	var exclude []byte
	if info := at(git, []string{"info"}); info != nil {
		exclude = contentOf(info, "exclude", maxIgnore)
		info.Drop()
	}
	matcher := ignore.New(func(directory []string) ([]byte, error) {
		n := at(root, directory)
		if n == nil {
			return nil, nil
		}
		defer n.Drop()
		return contentOf(n, ".gitignore", maxIgnore), nil
	}, exclude)
	return func(path []string) bool {
		ignored, err := matcher.Ignored(path, true)
		return err == nil && ignored
	}
}

// secretNames are the files whose names look like secrets, and a git configuration that holds a token in a remote's address.
func secretNames(root ninep.Node) (paths []innerPath, more bool) {
	paths = []innerPath{}
	complete := eachDirectory(root, 64, lookNames, func(v visit) bool {
		for _, d := range v.entries {
			path := layer.Join(strings.Join(v.path, "/"), d.Name)
			secret := d.Type != unix.DT_DIR && names.Secret(d.Name)
			if d.Name == "config" && len(v.path) > 0 && v.path[len(v.path)-1] == ".git" {
				secret = secret || names.TokenInRemote(contentOf(v.dir, d.Name, maxConfig))
			}
			if !secret || len(path) > maxInnerPath {
				continue
			}
			if len(paths) == maxSecrets {
				more = true
				return false
			}
			paths = append(paths, innerPath(path))
		}
		return true
	}, func(path []string) bool {
		last := path[len(path)-1]
		return last != "node_modules" && !(len(path) > 1 && path[len(path)-2] == ".git")
	})
	return paths, more || !complete
}
