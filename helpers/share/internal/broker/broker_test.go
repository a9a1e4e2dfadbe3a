//go:build linux

package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/confine"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type fixture struct {
	base, root, target string
	broker             *Broker
}

func newFixture(t testing.TB) *fixture {
	base := t.TempDir()
	f := &fixture{base: base, root: filepath.Join(base, "root"), target: filepath.Join(base, "store", "versions", "writer", "d1")}
	must(t, os.MkdirAll(filepath.Join(f.root, "sub"), 0o755))
	must(t, os.MkdirAll(f.target, 0o755))
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o644))
	for _, name := range []string{"file", "sub/inner", "other"} {
		must(t, os.WriteFile(filepath.Join(f.root, name), []byte(name), 0o644))
	}
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	f.broker = &Broker{Root: open(f.root), Store: open(filepath.Join(base, "store")), Writer: "writer", Seal: func() []confine.Measure {
		return []confine.Measure{{Name: "test", Active: true}}
	}}
	return f
}

// inode gives what a path in the folder is.
func (f *fixture) inode(t testing.TB, path string) (device, inode uint64) {
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(f.base, path), &st))
	return st.Dev, st.Ino
}

func request(device, inode, directory uint64, path string) []byte {
	m := []byte{move}
	for _, n := range []uint64{device, inode, directory} {
		m = binary.LittleEndian.AppendUint64(m, n)
	}
	return append(m, path...)
}

func TestAFileIsMovedOnlyAsTheOneThatWasNamed(t *testing.T) {
	f := newFixture(t)
	must(t, os.Symlink("../canary", filepath.Join(f.root, "link")))
	must(t, os.Symlink(f.base, filepath.Join(f.root, "up")))
	must(t, unix.Mkfifo(filepath.Join(f.root, "pipe"), 0o644))
	must(t, os.WriteFile(filepath.Join(f.target, "taken"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(f.root, "joined"), nil, 0o644))
	must(t, os.Link(filepath.Join(f.root, "joined"), filepath.Join(f.base, "outside")))
	device, file := f.inode(t, "root/file")
	_, inner := f.inode(t, "root/sub/inner")
	_, joined := f.inode(t, "root/joined")
	_, link := f.inode(t, "root/link")
	_, sub := f.inode(t, "root/sub")
	_, pipe := f.inode(t, "root/pipe")
	_, canary := f.inode(t, "canary")
	for _, c := range []struct {
		what                     string
		inode, directory, device uint64
		path                     string
		want                     error
	}{
		{"another inode", inner, 1, device, "file/x", unix.ESTALE},
		{"another device", file, 1, device + 1, "file/x", unix.ESTALE},
		{"no such name", file, 1, device, "nothing/x", unix.ENOENT},
		{"a directory", sub, 1, device, "sub/x", unix.EPERM},
		{"a FIFO", pipe, 1, device, "pipe/x", unix.EPERM},
		{"a file with another name", joined, 1, device, "joined/x", unix.EMLINK},
		{"through a link", canary, 1, device, "up/canary/x", unix.ENOTDIR},
		{"no such directory in the store", file, 7, device, "file/x", unix.ENOENT},
		{"directory 0", file, 0, device, "file/x", unix.EINVAL},
		{"directory out of range", file, 1 << 63, device, "file/x", unix.EINVAL},
		{"a name that is taken", file, 1, device, "file/taken", unix.EEXIST},
		{"control: a file", file, 1, device, "file/x", nil},
		{"control: below", inner, 1, device, "sub/inner/inner", nil},
		{"control: a link itself", link, 1, device, "link/link", nil},
		{"twice", file, 1, device, "file/x2", unix.ENOENT},
	} {
		answer, err := f.broker.answer(request(c.device, c.inode, c.directory, c.path), nil)
		must(t, err)
		want := unix.Errno(0)
		if c.want != nil {
			want = c.want.(unix.Errno)
		}
		if got := unix.Errno(binary.LittleEndian.Uint32(answer)); got != want {
			t.Errorf("%s: %v, want %v", c.what, got, want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(f.target, "x")); err != nil || string(got) != "file" {
		t.Errorf("the moved file: %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(f.base, "canary")); err != nil || string(got) != "canary" {
		t.Errorf("the canary: %q, %v", got, err)
	}
}

func TestAMessageThatIsNotWellFormedEndsTheBroker(t *testing.T) {
	f := newFixture(t)
	device, inode := f.inode(t, "root/file")
	for what, m := range map[string][]byte{
		"unknown kind":  []byte("x"),
		"long hello":    []byte("hh"),
		"no path":       request(device, inode, 1, ""),
		"no name":       request(device, inode, 1, "file"),
		"up":            request(device, inode, 1, "../file/x"),
		"dot":           request(device, inode, 1, "./file/x"),
		"target up":     request(device, inode, 1, "file/.."),
		"absolute":      request(device, inode, 1, "/file/x"),
		"empty part":    request(device, inode, 1, "sub//inner/x"),
		"NUL":           request(device, inode, 1, "file\x00/x"),
		"a long name":   request(device, inode, 1, "file/"+strings.Repeat("n", 256)),
		"a long path":   request(device, inode, 1, strings.Repeat("a/", 3000)+"x"),
		"half a header": request(device, inode, 1, "")[:10],
	} {
		ours, theirs, err := Socketpair()
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- f.broker.Serve(ours) }()
		c := NewClient(theirs)
		if measures, err := c.Measures(); err != nil || len(measures) != 1 { // control
			t.Errorf("hello: %v, %v", measures, err)
		}
		if _, err := theirs.Write(m); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, errMalformed) {
			t.Errorf("%s: the broker ended with %v", what, err)
		}
		ours.Close()
		theirs.Close()
	}
	if _, err := os.Stat(filepath.Join(f.root, "file")); err != nil {
		t.Error(err)
	}
}

func TestTheBrokerConfinesItselfBeforeItLooksAtARequest(t *testing.T) {
	f := newFixture(t)
	sealed := 0
	f.broker.Seal = func() []confine.Measure { sealed++; return nil }
	ours, theirs, err := Socketpair()
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- f.broker.Serve(ours) }()
	_, err = theirs.Write([]byte("nonsense"))
	must(t, err)
	if err := <-ended; !errors.Is(err, errMalformed) || sealed != 1 {
		t.Errorf("%v, sealed %d times", err, sealed)
	}
	theirs.Close()
}

// Whatever a server that was taken over sends: nothing outside changes, nothing of the folder is lost.
func FuzzBroker(f *testing.F) {
	x := newFixture(f)
	_ = os.Symlink(x.base, filepath.Join(x.root, "up"))
	device, file := x.inode(f, "root/file")
	_, canary := x.inode(f, "canary")
	for _, path := range []string{"file/x", "../canary/x", "up/canary/x", "sub/inner/../x", "file/../../../canary", "other/d1"} {
		f.Add(request(device, file, 1, path))
		f.Add(request(device, canary, 1, path))
	}
	f.Add([]byte{hello})
	f.Fuzz(func(t *testing.T, message []byte) {
		_, _ = x.broker.answer(message, nil)
		if got, err := os.ReadFile(filepath.Join(x.base, "canary")); err != nil || string(got) != "canary" {
			t.Fatalf("the canary: %q, %v", got, err)
		}
		found := 0
		_ = filepath.Walk(x.base, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				content, _ := os.ReadFile(path)
				for _, name := range []string{"file", "sub/inner", "other"} {
					if bytes.Equal(content, []byte(name)) {
						found++
					}
				}
			}
			return nil
		})
		if found != 3 {
			t.Fatalf("%d of 3 files are left", found)
		}
	})
}
