//go:build linux

package hostfs_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/ninetest"
	"cloche/share/internal/stream"
)

const rootFid = 1

// share is a folder served to a client, with a canary beside it that nothing may touch.
type share struct {
	*ninetest.Client
	t      testing.TB
	root   string // the folder on the host
	canary string
	server *ninep.Server
	ended  chan error
}

const canaryText = "canary: nobody outside may read or change this\n"

func newShare(t testing.TB, readOnly bool) *share {
	t.Helper()
	base := t.TempDir()
	s := &share{t: t, root: filepath.Join(base, "root"), canary: filepath.Join(base, "canary")}
	must(t, os.Mkdir(s.root, 0o755))
	must(t, os.WriteFile(s.canary, []byte(canaryText), 0o644))
	s.serve(readOnly, 0)
	t.Cleanup(func() {
		got, err := os.ReadFile(s.canary)
		if err != nil || string(got) != canaryText {
			t.Errorf("the canary outside the folder was changed: %q, %v", got, err)
		}
	})
	return s
}

// serve starts a server on s.root and attaches.
func (s *share) serve(readOnly bool, fidLimit int) {
	t := s.t
	t.Helper()
	root, err := unix.Open(s.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	tree, err := hostfs.New(hostfs.Options{Root: root, Proc: proc, ReadOnly: readOnly, UID: 1000, GID: 1000})
	must(t, err)
	s.server = &ninep.Server{Tree: tree, FidLimit: fidLimit}
	s.connect()
}

func (s *share) connect() {
	t := s.t
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	conn := stream.New(pair[0])
	ended := make(chan error, 1)
	s.ended = ended
	server := s.server
	go func() {
		err := server.ServeStream(conn)
		conn.Free()
		ended <- err
		close(ended)
	}()
	f := os.NewFile(uintptr(pair[1]), "client")
	client, err := net.FileConn(f)
	must(t, err)
	f.Close()
	s.Client = ninetest.New(client)
	c := s.Client
	must(t, s.Attach(rootFid))
	t.Cleanup(func() {
		c.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("the session did not end within 5 s")
		}
		if n := server.Stats.Fids.Load(); n != 0 {
			t.Errorf("%d fids are left after the session", n)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// host gives a path in the folder on the host.
func (s *share) host(names ...string) string {
	return filepath.Join(append([]string{s.root}, names...)...)
}

func (s *share) put(name, content string) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.host(name), []byte(content), 0o644))
}
