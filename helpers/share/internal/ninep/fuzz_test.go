//go:build linux

package ninep_test

import (
	"bytes"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// script is a stream that plays bytes and swallows replies.
type script struct {
	mu   sync.Mutex
	left []byte
}

func (s *script) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *script) ReadFull(b []byte) error { _, err := io.ReadFull(s, b); return err }
func (s *script) WriteAll(b []byte) error {
	if len(b) < wire.HeaderBytes || int(wire.Size(b)) != len(b) {
		panic("a reply is not a frame")
	}
	return nil
}
func (s *script) Close() {}

// sessions are what mutations begin with: one of each kind of request, and of what attacks are made of.
func sessions() [][]byte {
	frames := func(messages ...wire.Message) []byte {
		var all []byte
		for i, m := range messages {
			b, _ := wire.Encode(nil, uint16(i), m)
			all = append(all, b...)
		}
		return all
	}
	hello := []wire.Message{&wire.Tversion{MSize: 65536, Version: "9P2000.L"}, &wire.Tattach{Fid: 1, AuthFid: wire.NoFid}}
	with := func(more ...wire.Message) []byte { return frames(append(hello, more...)...) }
	return [][]byte{
		with(&wire.Twalk{Fid: 1, NewFid: 2, Names: []string{"file"}}, &wire.Tlopen{Fid: 2, Flags: 2}, &wire.Twrite{Fid: 2, Data: []byte("x")}, &wire.Tread{Fid: 2, Count: 10}, &wire.Tclunk{Fid: 2}),
		with(&wire.Twalk{Fid: 1, NewFid: 2, Names: []string{"link", "..", "canary"}}, &wire.Tlcreate{Fid: 1, Name: "new", Flags: 2, Mode: 0o7777}, &wire.Tremove{Fid: 1}),
		with(&wire.Tsymlink{Fid: 1, Name: "l", Target: "../canary"}, &wire.Trenameat{OldDir: 1, OldName: "file", NewDir: 1, NewName: "l"}, &wire.Tflush{OldTag: 3}, &wire.Tlopen{Fid: 1}, &wire.Treaddir{Fid: 1, Count: 4096}),
		with(&wire.Txattrcreate{Fid: 1, Name: "user.x", Size: 1}, &wire.Twrite{Fid: 1, Data: []byte("v")}, &wire.Tclunk{Fid: 1}, &wire.Tversion{MSize: 8192, Version: "9P2000.L"}),
		with(&wire.Tlock{Fid: 1, Kind: 9}, &wire.Tgetlock{Fid: 1}, &wire.Tstatfs{Fid: 1}, &wire.Tmknod{Fid: 1, Name: "n"}, &wire.Tlink{Dir: 1, Fid: 1, Name: "n"}),
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	}
}

// played is where sessions are played: a folder, and a canary beside it.
type played struct{ base, root, canary string }

func newPlayed(t testing.TB) played {
	base := t.TempDir()
	p := played{base, filepath.Join(base, "root"), filepath.Join(base, "canary")}
	if err := os.WriteFile(p.canary, []byte("canary"), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// session plays arbitrary frames over a real folder: it always ends, holds nothing afterwards and touches nothing outside.
func (p played) session(t testing.TB, data []byte) {
	base, root, canary := p.base, p.root, p.canary
	_ = os.RemoveAll(root)
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o644)
	_ = os.Symlink("..", filepath.Join(root, "link"))
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := hostfs.New(hostfs.Options{Root: dir, Proc: proc})
	if err != nil {
		t.Fatal(err)
	}
	server := &ninep.Server{Tree: tree, FidLimit: 64}
	done := make(chan struct{})
	go func() {
		_ = server.ServeStream(&script{left: data})
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the session does not end")
	}
	unix.Close(dir)
	unix.Close(proc)
	if n := server.Stats.Fids.Load(); n != 0 {
		t.Fatalf("%d fids are left", n)
	}
	entries, err := os.ReadDir(base)
	got, _ := os.ReadFile(canary)
	if err != nil || len(entries) != 2 || string(got) != "canary" {
		t.Fatalf("outside: %v, %q, %v", entries, got, err)
	}
}

func FuzzSession(f *testing.F) {
	for _, data := range sessions() {
		f.Add(data)
	}
	p := newPlayed(f)
	f.Fuzz(func(t *testing.T, data []byte) { p.session(t, data) })
}

// What FuzzSession finds by looking for new paths, a little of it with every run: the same cases each time.
func TestSessionsOfAHostileGuestEndAndTouchNothingOutside(t *testing.T) {
	random := rand.New(rand.NewSource(9))
	seeds := sessions()
	p := newPlayed(t)
	for range 2000 {
		data := bytes.Clone(seeds[random.Intn(len(seeds))])
		for n := 1 + random.Intn(6); n > 0 && len(data) > 0; n-- {
			at := random.Intn(len(data))
			switch random.Intn(6) {
			case 0:
				data[at] = byte(random.Intn(256))
			case 1:
				data[at] ^= 1 << random.Intn(8)
			case 2:
				data = append(data[:at], data[at+1:]...)
			case 3:
				data = append(data[:at], append([]byte{byte(random.Intn(256))}, data[at:]...)...)
			case 4: // a number that means much
				copy(data[at:], [][]byte{{0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 0}, {7, 0, 0, 0}, {0, 0, 0, 0x80}}[random.Intn(4)])
			default:
				other := seeds[random.Intn(len(seeds))]
				data = append(data[:at], other[random.Intn(len(other)):]...)
			}
		}
		p.session(t, data)
	}
}
