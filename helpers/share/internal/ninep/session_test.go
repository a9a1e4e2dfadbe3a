//go:build linux

package ninep_test

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
	"cloche/share/internal/ninetest"
	"cloche/share/internal/stream"
	"cloche/share/internal/wire"
)

// stuck is a tree whose StatFS waits until it is let go, as on a stalled network mount.
type stuck struct{ letGo chan struct{} }

func (s *stuck) Root() ninep.Node { return stuckNode{} }
func (s *stuck) StatFS() (wire.StatFS, error) {
	<-s.letGo
	return wire.StatFS{}, nil
}

type stuckNode struct{ ninep.Node }

func (stuckNode) Hold()                    {}
func (stuckNode) Drop()                    {}
func (stuckNode) QID() wire.QID            { return wire.QID{Type: wire.QTDir} }
func (stuckNode) Attr() (wire.Attr, error) { return wire.Attr{}, nil }

// newClient goes through net, as closing a plain blocking file would wait for the read that is under way.
func newClient(t *testing.T, fd int) *ninetest.Client {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return ninetest.New(conn)
}

func newStuck(t *testing.T) (*ninetest.Client, *stuck, chan error) {
	tree := &stuck{letGo: make(chan struct{})}
	c, ended := attached(t, tree)
	return c, tree, ended
}

// attached gives a client of a tree that is served for it alone; its root is fid 1.
func attached(t *testing.T, tree ninep.Tree) (*ninetest.Client, chan error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, ended := &ninep.Server{Tree: tree}, make(chan error, 1)
	go func() { ended <- server.ServeStream(stream.New(pair[0])) }()
	c := newClient(t, pair[1])
	if err := c.Attach(1); err != nil {
		t.Fatal(err)
	}
	return c, ended
}

func TestASlowRequestHoldsUpNoOther(t *testing.T) {
	c, tree, ended := newStuck(t)
	// Apart, so that the leader takes each for the last one and handles it itself.
	for range 3 {
		_, reply := c.Start(&wire.Tstatfs{Fid: 1})
		time.Sleep(20 * time.Millisecond)
		begin := time.Now()
		if _, err := c.Do(&wire.Tgetattr{Fid: 1}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("waited %v behind a slow request", took)
		}
		select {
		case <-reply:
			t.Fatal("the slow request was answered already")
		default:
		}
	}
	close(tree.letGo)
	c.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the session does not end")
	}
}

func TestAFlushIsAnsweredAfterWhatItFlushes(t *testing.T) {
	c, tree, ended := newStuck(t)
	tag, slow := c.Start(&wire.Tstatfs{Fid: 1})
	_, flush := c.Start(&wire.Tflush{OldTag: tag})
	select {
	case <-flush:
		t.Error("the flush was answered while its request was at work")
	case <-time.After(100 * time.Millisecond):
	}
	close(tree.letGo)
	for _, reply := range []<-chan wire.Message{slow, flush} {
		select {
		case _, ok := <-reply:
			if !ok {
				t.Fatal("the connection ended")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no answer")
		}
	}
	if _, err := c.Do(&wire.Tflush{OldTag: 999}); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
	c.Close()
	<-ended
}

func TestNothingIsServedBeforeAVersion(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, ended := &ninep.Server{Tree: &stuck{}}, make(chan error, 1)
	go func() { ended <- server.ServeStream(stream.New(pair[0])) }()
	c := newClient(t, pair[1])
	for version, want := range map[string]string{"9P2000": "unknown", "9P2000.u": "unknown", "9P2000.Lx": "unknown", "": "unknown", "9P2000.L": "9P2000.L", "9P2000.L.more": "9P2000.L"} {
		r, err := ninetest.Ask[*wire.Rversion](c, &wire.Tversion{MSize: 1 << 30, Version: version})
		if err != nil || r.Version != want || r.MSize > 1<<20 {
			t.Errorf("%q: %+v, %v", version, r, err)
		}
	}
	if r, err := ninetest.Ask[*wire.Rversion](c, &wire.Tversion{MSize: 100, Version: "9P2000.L"}); err != nil || r.Version != "unknown" {
		t.Errorf("frames of 100 bytes: %+v, %v", r, err)
	}
	if _, err := c.Do(&wire.Tattach{Fid: 1, AuthFid: wire.NoFid}); err == nil || err == syscall.EIO {
		t.Errorf("attach without a version: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the session does not end")
	}
}
