//go:build linux

package view_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/ninep"
)

// deep makes a chain of directories in a directory until it is refused, and gives the deepest.
func deep(t *testing.T, at ninep.Node) (ninep.Node, int) {
	t.Helper()
	name := strings.Repeat("d", 250)
	for depth := 0; ; depth++ {
		_, err := at.Mkdir(name, 0o755)
		if err == syscall.ENAMETOOLONG {
			return at, depth
		}
		must(t, err)
		next, err := at.Walk(name)
		must(t, err)
		at = next
		if depth > 100 {
			t.Fatal("no end")
		}
	}
}

func TestPathsInTheLayerAreBounded(t *testing.T) {
	r := newRig(t)
	r.mount()
	r.mkdir("a")
	r.mkdir("b")
	a, err := r.at("a")
	must(t, err)
	b, err := r.at("b")
	must(t, err)
	deepest, depth := deep(t, a)
	if depth < 14 {
		t.Errorf("%d directories of 250 bytes were allowed", depth)
	}
	deep(t, b)
	root := r.tree.Root()
	defer root.Drop()
	// Nor by moving one chain below the other.
	refused(t, "a chain below a chain", root.Rename("b", deepest, "b"), syscall.ENAMETOOLONG)
	must(t, root.Rename("b", a, "c"))
}

func TestWhatWasMovedAndThenDeletedIsADeletion(t *testing.T) {
	r := newRig(t)
	r.mount()
	for _, path := range []string{"d", "d/sub"} {
		must(t, os.Mkdir(r.host(path), 0o755))
	}
	r.hostWrite("d/a", "a")
	r.hostWrite("d/sub/b", "b")
	must(t, r.rename("d", "e"))
	must(t, r.rename("e/a", "x"))
	must(t, r.rename("e/sub/b", "y"))
	if n := r.node("e/a"); !n.Whiteout || !n.Moved {
		t.Errorf("after the move: %+v", n)
	}
	must(t, r.unlink("x"))
	r.create("z", "z")
	must(t, r.rename("z", "y"))
	for _, path := range []string{"e/a", "e/sub/b"} {
		if n := r.node(path); !n.Whiteout || n.Moved {
			t.Errorf("%s: %+v", path, n)
		}
	}
}
