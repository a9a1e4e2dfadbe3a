//go:build linux

package view

import (
	"slices"
	"strings"
	"syscall"

	"cloche/share/internal/layer"
)

// Where the folder has an object now. The guest's name for what it holds is that of its walk; the host renames files and directories
// whenever it likes, git and most editors at every save. A handle leads to the object by whatever name, so that each write to the folder
// itself first asks the host for that name.

// ordinary refuses a write to the folder's own object where the name that it has by now is one whose changes are the layer's: what the
// guest holds is not what it opened.
func (n *node) ordinary(low Object, directory bool) error {
	t := n.tree
	if t.options.Layered == nil {
		return nil
	}
	place, err := low.Place()
	if err != nil {
		if err == syscall.ENOENT {
			return nil // only the guest has it
		}
		return syscall.ESTALE
	}
	if judged := n.judged.Load(); judged != nil && *judged == place {
		return nil
	}
	path, asked := layer.Components(place), false
	if slices.ContainsFunc(path, t.hidden) {
		return syscall.ESTALE // an apply, undo or restore has it under way: taken out, it may go back to a name that the guest has no right to
	}
	look := t.lookBelow(path)
	if t.options.Layered(path, directory, func(depth int, name string) bool { asked = true; return look(depth, name) }) {
		return syscall.ESTALE
	}
	if !asked { // what the folder has may be another thing at the next write
		n.judged.Store(&place)
	}
	return nil
}

// lookBelow is a Look at the folder by its own names. What cannot be looked at counts as there: it may be on its way.
func (t *Tree) lookBelow(path []string) Look {
	return func(depth int, name string) bool {
		at, err := t.lowerAt(path[:depth])
		if err != nil {
			return true
		}
		defer at.Drop()
		there, directory := at.Has(name)
		return there && !(directory && name == "HEAD")
	}
}

// follow takes a directory that the host moved to where it is now, before anything in it is judged by its path. The caller holds
// Tree.names.
func (n *node) follow() error {
	t, s := n.tree, n.now()
	if s.id != 0 {
		n.refind()
		return nil
	}
	if s.low == nil || s.gone || n.parentNode() == nil {
		return nil
	}
	place, err := s.low.Place()
	if err != nil || place == strings.Join(n.path(), "/") || n.isAt(place, s.low) {
		return nil // or the folder's own answer to whatever is done in it
	}
	at := t.root
	at.Hold()
	for _, name := range layer.Components(place) {
		next, err := at.walk(name)
		at.Drop()
		if err != nil {
			return syscall.ESTALE
		}
		at = next
	}
	defer at.Drop()
	if at != n || !n.inPlace() {
		return syscall.ESTALE
	}
	return nil
}

// refind makes what stands at a directory's place in the folder now its own, for one that the layer has, where that is another one since the
// host took it away or made it anew. The task's things in it stay where the task put them.
func (n *node) refind() {
	parent := n.parentNode()
	if parent == nil {
		return
	}
	t, s := n.tree, n.now()
	e := n.entry(s)
	if e == nil || e.Opaque || e.Base == nil || e.Whiteout {
		return
	}
	if s.low != nil {
		if place, err := s.low.Place(); err == nil && n.isAt(place, s.low) {
			return
		}
	}
	if low := t.lowerOf(parent, parent.now(), e); low != nil {
		n.become(low, s.id)
		return
	}
	t.mu.Lock()
	if n.low != nil {
		n.before, n.low = append(n.before, n.low), nil
	}
	t.mu.Unlock()
}

// inPlace tells whether the folder has a node that the layer knows nothing of where the guest last named it.
func (n *node) inPlace() bool {
	low := n.now().low
	if low == nil || n.parentNode() == nil {
		return true
	}
	place, err := low.Place()
	return err == nil && n.isAt(place, low)
}

// isAt tells whether a lower object, which the host says is at a place, is where the folder should have the node. A host that folds case
// and forms tells the spelling that somebody asked for first, and only the host knows which ones are the same.
func (n *node) isAt(place string, low Object) bool {
	want := n.lowerPath()
	if place == want {
		return true
	}
	if strings.Count(place, "/") != strings.Count(want, "/") {
		return false
	}
	found, err := n.tree.resolve(want)
	if err != nil {
		return false
	}
	defer found.Drop()
	return sameObject(found, low)
}
