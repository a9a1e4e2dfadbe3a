//go:build linux

package changes

import "cloche/share/internal/layer"

// edit is one change of the layer on its way: what is looked at is as the steps so far have left it.
type edit struct {
	layer   *layer.Layer
	put     map[layer.ID]*layer.Node
	removed map[layer.ID]bool
	order   []layer.ID
	// come are those that a directory gets.
	come map[layer.ID][]layer.ID
	drop []uint64
}

func (s *Set) edit() *edit {
	return &edit{layer: s.options.Layer, put: map[layer.ID]*layer.Node{}, removed: map[layer.ID]bool{}, come: map[layer.ID][]layer.ID{}}
}

// get gives a node as it will be, to change it and then set it.
func (e *edit) get(id layer.ID) *layer.Node {
	if e.removed[id] {
		return nil
	}
	if n := e.put[id]; n != nil {
		return n
	}
	return e.layer.Get(id)
}

func (e *edit) set(n *layer.Node) {
	if e.put[n.ID] == nil && !e.removed[n.ID] {
		e.order = append(e.order, n.ID)
	}
	delete(e.removed, n.ID)
	e.put[n.ID] = n
	e.come[n.Parent] = append(e.come[n.Parent], n.ID)
}

// setWhole is set of what may be no directory any more: what lay in it goes then.
func (e *edit) setWhole(n *layer.Node) {
	if e.set(n); n.Kind == layer.Directory {
		return
	}
	for _, c := range e.children(n.ID) {
		e.remove(c)
	}
}

// children gives what lies in a directory as it will be.
func (e *edit) children(id layer.ID) []*layer.Node {
	var all []*layer.Node
	seen := map[layer.ID]bool{}
	add := func(id layer.ID, parent layer.ID) {
		if n := e.get(id); n != nil && n.Parent == parent && !seen[id] {
			seen[id] = true
			all = append(all, n)
		}
	}
	for _, n := range e.layer.Children(id) {
		add(n.ID, id)
	}
	for _, child := range e.come[id] {
		add(child, id)
	}
	return all
}

func (e *edit) child(id layer.ID, name string) *layer.Node {
	for _, n := range e.children(id) {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// remove takes a node away with all below it.
func (e *edit) remove(n *layer.Node) {
	for stack := []*layer.Node{n}; len(stack) > 0; {
		at := stack[len(stack)-1]
		stack = append(stack[:len(stack)-1], e.children(at.ID)...)
		e.drops(at)
		if e.put[at.ID] == nil && !e.removed[at.ID] {
			e.order = append(e.order, at.ID)
		}
		delete(e.put, at.ID)
		e.removed[at.ID] = true
	}
}

func (e *edit) drops(n *layer.Node) {
	e.drop = append(e.drop, n.Content)
	if n.Base != nil {
		e.drop = append(e.drop, n.Base.Content)
	}
}

// merge brings what is known below one node, of a directory that is not there any more, to where that is now: marks of deletions alone,
// or all of it. What is there already counts.
func (e *edit) merge(from, to *layer.Node, marks bool) {
	for _, c := range e.children(from.ID) {
		if marks && !c.Whiteout {
			continue
		}
		there := e.child(to.ID, c.Name)
		switch {
		case there == nil:
			c.Parent = to.ID
			e.set(c)
		case !c.Whiteout:
			// Both are the task's, which one name has no room for: it stays where it is, see remains.
		default:
			if there.Made && there.Base == nil && !c.Moved {
				base := *c.Base
				base.Content = 0
				there.Base = &base
				e.set(there)
			}
			if there.Whiteout || there.Made {
				e.merge(c, there, marks)
			}
			if !e.remains(c.ID) {
				e.remove(c)
			}
		}
	}
}

// remains tells whether anything of the task's lies below a node that is no mark of a deletion.
func (e *edit) remains(id layer.ID) bool {
	for _, c := range e.children(id) {
		if !c.Whiteout && !c.Passing() || e.remains(c.ID) {
			return true
		}
	}
	return false
}

// steps gives the change.
func (e *edit) steps() []layer.Op {
	ops := make([]layer.Op, 0, len(e.order))
	for _, id := range e.order {
		if n := e.put[id]; n != nil {
			ops = append(ops, layer.Put(n))
		} else if e.removed[id] && e.layer.Has(id) {
			ops = append(ops, layer.Remove(id))
		}
	}
	return ops
}

// do makes the change, and gives up the contents that it leaves without a node.
func (e *edit) do(more ...layer.Op) error {
	ops := append(e.steps(), more...)
	if len(ops) == 0 {
		return nil
	}
	if err := e.layer.Decide(ops...); err != nil {
		return err
	}
	e.layer.DropContent(e.drop...)
	return nil
}
