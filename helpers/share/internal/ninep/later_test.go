//go:build linux

package ninep_test

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// busy is a tree whose names have to wait while turn is closed to them.
type busy struct {
	root     *busyNode
	patience time.Duration

	mu      sync.Mutex
	done    chan struct{} // nil: nothing is in the way
	removed []string
	asked   atomic.Int32
}

type busyNode struct {
	ninep.Node
	tree *busy
	refs atomic.Int32
	name string
}

func (t *busy) Root() ninep.Node {
	t.root.Hold()
	return t.root
}

func (t *busy) StatFS() (wire.StatFS, error) { return wire.StatFS{}, nil }

// begin puts something in the way, and gives what takes it away.
func (t *busy) begin() (end func()) {
	done := make(chan struct{})
	t.mu.Lock()
	t.done = done
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		t.done = nil
		t.mu.Unlock()
		close(done)
	}
}

func (t *busy) remove(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked.Add(1)
	if t.done != nil {
		return &ninep.Later{Done: t.done, Patience: t.patience}
	}
	t.removed = append(t.removed, name)
	return nil
}

func (t *busy) gone() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.removed)
}

func (n *busyNode) Hold()                    { n.refs.Add(1) }
func (n *busyNode) Drop()                    { n.refs.Add(-1) }
func (n *busyNode) QID() wire.QID            { return wire.QID{Type: wire.QTDir} }
func (n *busyNode) Parent() ninep.Node       { return n.tree.Root() }
func (n *busyNode) Attr() (wire.Attr, error) { return wire.Attr{}, nil }
func (n *busyNode) Remove() error            { return n.tree.remove(n.name) }

func (n *busyNode) Unlink(name string, _ bool) error                 { return n.tree.remove(name) }
func (n *busyNode) Rename(name string, _ ninep.Node, _ string) error { return n.tree.remove(name) }
func (n *busyNode) RenameTo(_ ninep.Node, _ string) error            { return n.tree.remove(n.name) }

func (n *busyNode) Walk(name string) (ninep.Node, error) {
	child := &busyNode{tree: n.tree, name: name}
	child.refs.Store(1)
	return child, nil
}

func newBusy(patience time.Duration) *busy {
	t := &busy{patience: patience}
	t.root = &busyNode{tree: t}
	t.root.refs.Store(1)
	return t
}

func answered(t *testing.T, reply <-chan wire.Message) wire.Message {
	t.Helper()
	select {
	case m, open := <-reply:
		if !open {
			t.Fatal("the connection ended")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// Far more than a session works on at once: whatever waits must not keep the session from reading on.
const manyWaiting = 300

func TestRemovalsAndRenamesThatHaveToWaitAreDoneAfterIt_AndHoldUpNothingElse(t *testing.T) {
	tree := newBusy(time.Minute)
	c, ended := attached(t, tree)
	for fid := range uint32(manyWaiting) {
		if err := c.Walk(1, 100+fid, "child"); err != nil {
			t.Fatal(err)
		}
	}
	end := tree.begin()
	var replies []<-chan wire.Message
	for fid := range uint32(manyWaiting) {
		_, reply := c.Start([]wire.Message{
			&wire.Tunlinkat{Dir: 1, Name: "a"}, &wire.Trenameat{OldDir: 1, OldName: "a", NewDir: 1, NewName: "b"},
			&wire.Tremove{Fid: 100 + fid}, &wire.Trename{Fid: 100 + fid, Dir: 1, Name: "b"},
		}[fid%4])
		replies = append(replies, reply)
	}
	for tree.asked.Load() < manyWaiting {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Do(&wire.Tgetattr{Fid: 1}); err != nil {
		t.Errorf("another request: %v", err)
	}
	if err := c.Walk(1, 9999, "x"); err != nil {
		t.Errorf("a walk from a directory that a request waits in: %v", err)
	}
	other, otherEnded := attached(t, tree) // another client of the same folder
	if _, err := other.Do(&wire.Tgetattr{Fid: 1}); err != nil {
		t.Errorf("another client: %v", err)
	}
	other.Close()
	<-otherEnded
	if tree.gone() != 0 {
		t.Error("something was done meanwhile")
	}
	end()
	for _, reply := range replies {
		if e, failed := answered(t, reply).(*wire.Rlerror); failed {
			t.Errorf("one that waited: %v", syscall.Errno(e.Errno))
		}
	}
	if tree.gone() != manyWaiting {
		t.Errorf("%d of %d were done", tree.gone(), manyWaiting)
	}
	c.Close()
	<-ended
	if left := tree.root.refs.Load(); left != 1 {
		t.Errorf("the root has %d references left", left-1)
	}
}

func TestAFlushOfOneThatWaitsIsAnsweredAtOnce_AndItIsNotDone(t *testing.T) {
	tree := newBusy(time.Minute)
	c, ended := attached(t, tree)
	if err := c.Walk(1, 2, "child"); err != nil {
		t.Fatal(err)
	}
	end := tree.begin()
	for _, m := range []wire.Message{&wire.Tunlinkat{Dir: 1, Name: "a"}, &wire.Tremove{Fid: 2}} {
		asked := tree.asked.Load()
		tag, reply := c.Start(m)
		for tree.asked.Load() == asked {
			time.Sleep(time.Millisecond)
		}
		_, flush := c.Start(&wire.Tflush{OldTag: tag})
		answered(t, flush)
		select {
		case m := <-reply:
			t.Errorf("what was flushed was answered: %T", m)
		default:
		}
	}
	end()
	if _, err := c.Do(&wire.Tunlinkat{Dir: 1, Name: "control"}); err != nil {
		t.Errorf("control: %v", err)
	}
	if tree.gone() != 1 {
		t.Errorf("%d were done", tree.gone())
	}
	c.Close()
	<-ended
}

func TestOneThatWaitsTooLongIsRefused_AndASessionEndsWhateverWaits(t *testing.T) {
	tree := newBusy(50 * time.Millisecond)
	c, ended := attached(t, tree)
	end := tree.begin()
	if _, err := c.Do(&wire.Tunlinkat{Dir: 1, Name: "a"}); err != syscall.EBUSY {
		t.Errorf("after its patience: %v", err)
	}
	tree.mu.Lock()
	tree.patience = time.Hour
	tree.mu.Unlock()
	asked := tree.asked.Load()
	c.Start(&wire.Tunlinkat{Dir: 1, Name: "a"})
	for tree.asked.Load() == asked {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Do(&wire.Tversion{MSize: 64 << 10, Version: "9P2000.L"}); err != nil { // ends what waited
		t.Errorf("a new version: %v", err)
	}
	if _, err := c.Do(&wire.Tattach{Fid: 1, AuthFid: wire.NoFid, UID: 1000}); err != nil {
		t.Errorf("attach: %v", err)
	}
	asked = tree.asked.Load()
	c.Start(&wire.Tunlinkat{Dir: 1, Name: "b"})
	for tree.asked.Load() == asked {
		time.Sleep(time.Millisecond)
	}
	c.Close()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the session does not end")
	}
	end()
	if tree.gone() != 0 {
		t.Errorf("%d were done", tree.gone())
	}
}
