//go:build linux

package gitchange

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"cloche/share/internal/gitrepo"
	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
)

// Folder is a folder of the host's and what a task made of it.
type Folder struct {
	Lower  ninep.Tree // its nodes implement view.Object
	Merged ninep.Tree
	Layer  *layer.Layer
	Branch string // names the first of the branches that are offered
}

// Locator finds git directories; after use it is closed, and then both of its views.
func (f *Folder) Locator() *gitrepo.Locator {
	return &gitrepo.Locator{Lower: gitrepo.FromNode(f.Lower.Root()), Merged: gitrepo.FromNode(f.Merged.Root())}
}

// walk opens what stands at a path; nil when nothing does.
func walk(tree ninep.Tree, path []string) (ninep.Node, error) {
	n := tree.Root()
	for _, name := range path {
		next, err := n.Walk(name)
		n.Drop()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

func openDir(tree ninep.Tree, path string) (gitrepo.Dir, error) {
	n, err := walk(tree, layer.Components(path))
	if n == nil {
		return nil, err
	}
	const directory = 0x80
	if n.QID().Type&directory == 0 {
		n.Drop()
		return nil, errPointer
	}
	return gitrepo.FromNode(n), nil
}

// errPointer: a `.git` that is a file says where a worktree's or submodule's repository is.
var errPointer = errors.New("it only points to a repository elsewhere, which is neither followed nor taken over")

// Open opens the git directory at a path from the folder.
func (f *Folder) Open(ctx context.Context, dir string) (*gitrepo.Repository, error) {
	lower, err := openDir(f.Lower, dir)
	if err != nil {
		return nil, err
	}
	merged, err := openDir(f.Merged, dir)
	if err != nil {
		if lower != nil {
			lower.Close()
		}
		return nil, err
	}
	return gitrepo.Open(ctx, gitrepo.Input{
		Lower: lower, Merged: merged, Branch: f.Branch,
		Moved: func(path ...string) bool { return f.moved(append(layer.Components(dir), path...)) },
	})
}

// identity tells what the host has at a path; nil when there is nothing.
func (f *Folder) identity(path []string) (*layer.Base, error) {
	n, err := walk(f.Lower, path)
	if n == nil {
		return nil, err
	}
	defer n.Drop()
	o, ok := n.(view.Object)
	if !ok {
		return nil, errors.New("the folder's nodes tell no identity")
	}
	return view.Identity(o, layer.Join("", join(path)))
}

func join(path []string) string {
	whole := ""
	for _, name := range path {
		whole = layer.Join(whole, name)
	}
	return whole
}

// moved tells whether the host's object at a path is another one than the layer noted when the task changed it there.
// Not knowing is moved; a path that the task did not change is not.
func (f *Folder) moved(path []string) bool {
	now, err := f.identity(path)
	if err != nil {
		return true
	}
	then, known, changed := f.begun(path)
	switch {
	case !changed:
		return false
	case !known:
		return true
	case then == nil || now == nil:
		return then != now
	}
	return !then.Same(now)
}

// begun gives what the host had at a path when the task changed it.
func (f *Folder) begun(path []string) (then *layer.Base, known, changed bool) {
	at := layer.RootID
	hidden := false // a directory above shows nothing of the folder
	for i, name := range path {
		n := f.Layer.Child(at, name)
		here := join(path[:i+1])
		switch {
		case n == nil:
			return nil, false, hidden
		case i == len(path)-1:
			if hidden {
				return nil, false, true
			}
			return standing(n, here), true, true
		case n.Kind == layer.Directory && !n.Whiteout && !n.Made && n.Base != nil && n.Base.Path == here:
			hidden = hidden || n.Opaque
			at = n.ID
		default:
			// The directory itself was removed, replaced or moved. As long as the host's is untouched, so are its files.
			base := standing(n, here)
			now, err := f.identity(path[:i+1])
			switch {
			case err != nil || hidden:
				return nil, false, true
			case base == nil && now == nil:
				return nil, true, true
			case i != len(path)-2 || base == nil || now == nil || !base.Same(now):
				return nil, false, true
			}
			then, err := f.identity(path)
			return then, err == nil, true
		}
	}
	return nil, false, false
}

// standing is what of the folder stood at the place of a node.
func standing(n *layer.Node, path string) *layer.Base {
	if n.Over != nil {
		return n.Over
	}
	if n.Base != nil && (n.Base.Path == path || n.Made || n.Whiteout) {
		return n.Base
	}
	return nil
}
