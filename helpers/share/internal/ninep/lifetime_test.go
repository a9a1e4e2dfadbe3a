//go:build linux

package ninep_test

import (
	"sync/atomic"
	"testing"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// counted is a tree whose nodes know whether they are still held.
type counted struct {
	root    *countedNode
	inside  chan struct{} // an Attr of a child has begun
	letGo   chan struct{} // it may end
	outlive atomic.Bool   // the node was given up while it was at work
}

type countedNode struct {
	ninep.Node
	tree *counted
	refs atomic.Int32
	name string
}

func (t *counted) Root() ninep.Node {
	t.root.Hold()
	return t.root
}

func (t *counted) StatFS() (wire.StatFS, error) { return wire.StatFS{}, nil }

func (n *countedNode) Hold()         { n.refs.Add(1) }
func (n *countedNode) Drop()         { n.refs.Add(-1) }
func (n *countedNode) QID() wire.QID { return wire.QID{Type: wire.QTDir} }

func (n *countedNode) Parent() ninep.Node { return n.tree.Root() }

func (n *countedNode) Walk(name string) (ninep.Node, error) {
	child := &countedNode{tree: n.tree, name: name}
	child.refs.Store(1)
	return child, nil
}

func (n *countedNode) Attr() (wire.Attr, error) {
	if n.name != "" {
		n.tree.inside <- struct{}{}
		<-n.tree.letGo
		n.tree.outlive.Store(n.refs.Load() <= 0)
	}
	return wire.Attr{}, nil
}

// A node that is given up closes its descriptor, whose number may then be anything's: no request may go on with one.
func TestAWalkThatReplacesAFidsNodeTakesItFromNoRequestAtWork(t *testing.T) {
	tree := &counted{inside: make(chan struct{}), letGo: make(chan struct{})}
	tree.root = &countedNode{tree: tree}
	tree.root.refs.Store(1)
	c, ended := attached(t, tree)
	if err := c.Walk(1, 2, "child"); err != nil {
		t.Fatal(err)
	}
	_, reply := c.Start(&wire.Tgetattr{Fid: 2})
	<-tree.inside
	if err := c.Walk(2, 2, ".."); err != nil {
		t.Fatal(err)
	}
	close(tree.letGo)
	<-reply
	if tree.outlive.Load() {
		t.Error("the node was given up while a request was at work on it")
	}
	c.Close()
	<-ended
	if left := tree.root.refs.Load(); left != 1 {
		t.Errorf("the root has %d references left", left-1)
	}
}
