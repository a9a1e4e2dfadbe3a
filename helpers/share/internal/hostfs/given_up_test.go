//go:build linux

package hostfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/versions"
)

// keepsAll says that everything is kept.
type keepsAll struct{}

func (keepsAll) Move(versions.Victim) (bool, error)               { return false, nil }
func (keepsAll) Keep(versions.Victim) error                       { return nil }
func (keepsAll) KeepPart(versions.Victim) (*versions.Part, error) { return nil, nil }
func (keepsAll) Note(versions.Victim) error                       { return nil }

// One request gives up the last reference on a node, another renames its file before the node has left the guard's table.
// Were it taken up again there, its descriptor would be closed twice, the second time as somebody else's.
func TestARenameTakesUpNoNodeThatIsGivenUp(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"f", "g"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	tree, err := New(Options{Root: open(root), Proc: open("/proc/self/fd"), Versions: keepsAll{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string]bool{"f": true, "g": false} {
		n, err := tree.root.walk(name)
		if err != nil {
			t.Fatal(err)
		}
		if given {
			n.refs.Add(-1) // as Drop does first
		}
		if err := tree.root.Rename(name, tree.root, name+"-renamed"); err != nil {
			t.Fatal(err)
		}
		_, err = unix.FcntlInt(uintptr(n.fd), unix.F_GETFD, 0)
		if _, known := n.held.Load().nodes[n]; err != nil || !known {
			t.Errorf("given up %v: the descriptor %v, known to the guard %v", given, err, known)
		}
		if moved := n.name == name+"-renamed"; moved == given {
			t.Errorf("given up %v: it was moved %v", given, moved)
		}
	}
}
