//go:build linux

package hostfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
)

type placed interface{ Place() (string, error) }

// What the host calls an object, whatever the guest walked it by: what may be written is judged by it.
func TestAnObjectIsWhereTheHostHasItNow(t *testing.T) {
	base := t.TempDir()
	at := func(path string) string { return filepath.Join(base, "folder", path) }
	must(t, os.MkdirAll(at("d/sub"), 0o755))
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	tree, err := hostfs.New(hostfs.Options{Root: open(at("")), Proc: open("/proc/self/fd"), UID: 1000, GID: 1000})
	must(t, err)
	walk := func(path string) ninep.Node {
		t.Helper()
		n := tree.Root()
		for _, name := range strings.Split(path, "/") {
			next, err := n.Walk(name)
			n.Drop()
			must(t, err)
			n = next
		}
		t.Cleanup(n.Drop)
		return n
	}
	is := func(n ninep.Node, want string, wantErr error) {
		t.Helper()
		if got, err := n.(placed).Place(); got != want || err != wantErr {
			t.Errorf("it is %.60q (%d bytes), %v; want %.60q, %v", got, len(got), err, want, wantErr)
		}
	}
	write := func(path string) { must(t, os.WriteFile(at(path), []byte("x"), 0o644)) }
	root := tree.Root()
	defer root.Drop()
	is(root, "", nil)

	write("d/sub/f")
	file, sub := walk("d/sub/f"), walk("d/sub")
	is(file, "d/sub/f", nil)
	must(t, os.Rename(at("d/sub/f"), at("d/sub/g")))
	is(file, "d/sub/g", nil)
	must(t, os.Rename(at("d"), at("e")))
	is(file, "e/sub/g", nil)
	is(sub, "e/sub", nil)

	// Another name of it is left, and the kernel tells only the one that is gone.
	must(t, os.Link(at("e/sub/g"), at("second")))
	must(t, os.Remove(at("e/sub/g")))
	is(file, "", syscall.ESTALE)
	must(t, os.Remove(at("second")))
	is(file, "", syscall.ENOENT)
	must(t, os.Remove(at("e/sub")))
	is(sub, "", syscall.ENOENT)

	// Names that look like what the kernel says of what is gone.
	write("f (deleted)")
	odd := walk("f (deleted)")
	is(odd, "f (deleted)", nil)
	must(t, os.Link(at("f (deleted)"), at("f")))
	must(t, os.Remove(at("f (deleted)")))
	is(odd, "", syscall.ESTALE)

	// Out of the folder, and beside it under a name that begins like the folder's.
	write("out")
	out := walk("out")
	must(t, os.Rename(at("out"), filepath.Join(base, "folder-out")))
	is(out, "", syscall.ESTALE)
	must(t, os.Rename(at(""), filepath.Join(base, "moved"))) // the folder itself: what is in it is still there
	must(t, os.Rename(filepath.Join(base, "folder-out"), filepath.Join(base, "moved/back")))
	is(out, "back", nil)
	must(t, os.Rename(filepath.Join(base, "moved"), at("")))

	// Deeper than the kernel tells.
	dir, path := root, ""
	for range 20 {
		name := strings.Repeat("n", 250)
		_, err := dir.Mkdir(name, 0o755)
		must(t, err)
		dir, err = dir.Walk(name)
		must(t, err)
		path += "/" + name
	}
	deep, f, err := dir.Create("deep", 2, 0o644)
	must(t, err)
	f.Close()
	is(deep, path[1:]+"/deep", nil)
	must(t, dir.Rename("deep", dir, "other"))
	is(deep, "", syscall.ESTALE) // nobody can tell
	// Shorter again, by the host's hand.
	must(t, os.Rename(at(path[1:2510]), at("up")))
	is(deep, "up"+path[2510:]+"/other", nil)
}

// Lacks is a cheaper question before a walk and must not find a name free that a walk would find, or refuse.
func TestANameIsLackingOnlyWhereAWalkFindsNothing(t *testing.T) {
	base := t.TempDir()
	at := func(path string) string { return filepath.Join(base, "folder", path) }
	must(t, os.MkdirAll(at("d/sub"), 0o755))
	must(t, os.WriteFile(at("d/file"), nil, 0o644))
	must(t, os.Symlink("nowhere", at("d/link")))
	must(t, unix.Mkfifo(at("d/fifo"), 0o644))
	tree, err := hostfs.New(hostfs.Options{Root: directoryFD(t, at("")), Proc: procFD(t), UID: 1000, GID: 1000})
	must(t, err)
	root := tree.Root()
	defer root.Drop()
	d, err := root.Walk("d")
	must(t, err)
	defer d.Drop()
	lacks := func(n ninep.Node, name string, want bool, wantErr error) {
		t.Helper()
		got, err := n.(interface {
			Lacks(name string) (bool, error)
		}).Lacks(name)
		if got != want || err != wantErr {
			t.Errorf("%s is lacking: %v, %v; want %v, %v", name, got, err, want, wantErr)
		}
		to, walked := n.Walk(name)
		if walked == nil {
			to.Drop()
		}
		if (walked == syscall.ENOENT) != want {
			t.Errorf("a walk to %s: %v", name, walked)
		}
	}
	for _, name := range []string{"sub", "file", "link", "fifo"} {
		lacks(d, name, false, nil)
	}
	lacks(d, "none", true, nil)
	file, err := d.Walk("file")
	must(t, err)
	defer file.Drop()
	lacks(file, "none", false, syscall.ENOTDIR)
	must(t, os.Rename(at("d"), filepath.Join(base, "away")))
	lacks(d, "none", false, syscall.ESTALE)
	lacks(d, "file", false, syscall.ESTALE)
}
