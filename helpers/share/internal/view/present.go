//go:build linux

package view

import (
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
		at := t.options.Lower.Root()
		for _, step := range path[:depth] {
			next, err := at.Walk(step)
			at.Drop()
			if err != nil {
				return true
			}
			at = next
		}
		defer at.Drop()
		there, directory := at.(Object).Has(name)
		return there && !(directory && name == "HEAD")
	}
}

// follow takes a directory that the host moved to where it is now, before anything in it is judged by its path. The caller holds
// Tree.names.
func (n *node) follow() error {
	t, s := n.tree, n.now()
	if t.options.Layered == nil || s.low == nil || s.gone || n.parentNode() == nil || t.opaque(s.id) {
		return nil
	}
	place, err := s.low.Place()
	if err == nil && (place == strings.Join(n.path(), "/") || place == n.lowerPath()) {
		return nil
	}
	if s.id != 0 {
		n.relook(s.id)
		return nil
	}
	if err != nil {
		return nil // the folder's own answer to whatever is done in it
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
	if at != n {
		return syscall.ESTALE
	}
	return nil
}

// relook makes what stands at a directory's place in the folder now its own, for one that the layer has: the task's things in it stay
// where the task put them.
func (n *node) relook(id layer.ID) {
	t := n.tree
	e, parent := t.layer.Get(id), n.parentNode()
	if e == nil || parent == nil {
		return
	}
	if low := t.lowerOf(parent, parent.now(), e); low != nil {
		n.become(low, id)
		return
	}
	t.mu.Lock()
	if n.low != nil {
		n.before, n.low = append(n.before, n.low), nil
	}
	t.mu.Unlock()
}

// inPlace tells whether a node that the layer knows nothing of is where the guest last named it.
func (n *node) inPlace() bool {
	t := n.tree
	t.mu.Lock()
	parent, name, low := n.parent, n.name, n.low
	if parent == nil || low == nil {
		t.mu.Unlock()
		return true
	}
	parent.Hold()
	low.Hold()
	t.mu.Unlock()
	defer parent.Drop()
	defer low.Drop()
	above := parent.now().low
	if above == nil {
		return false
	}
	found, err := above.Walk(name)
	if err != nil {
		return false
	}
	defer found.Drop()
	return sameObject(found.(Object), low)
}
