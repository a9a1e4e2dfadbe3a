//go:build linux

package view_test

import (
	"fmt"
	"testing"

	"cloche/share/internal/ninep"
)

// The layer uses the files of what is gone for what comes; one that is open goes on with its own.
func TestWhoeverHasAFileOpenThatIsGoneGoesOnWithItsBytes_HoweverManyComeAndGoAfterIt(t *testing.T) {
	r := newRig(t)
	r.mount()
	root := r.tree.Root()
	defer root.Drop()
	type kept struct {
		n ninep.Node
		f ninep.File
	}
	var open []kept
	come := func(name, text string) kept {
		n, f, err := root.Create(name, 2, 0o644)
		must(t, err)
		_, err = f.WriteAt([]byte(text), 0)
		must(t, err)
		return kept{n, f}
	}
	reads := func(k kept) string {
		b := make([]byte, 100)
		size, err := k.f.ReadAt(b, 0)
		must(t, err)
		return string(b[:size])
	}
	for i := range 3000 {
		k := come("f", fmt.Sprint("bytes of ", i))
		if got, want := reads(k), fmt.Sprint("bytes of ", i); got != want {
			t.Fatalf("a new file holds %q, want %q", got, want)
		}
		if i%100 == 99 { // replaced by another
			other := come("g", fmt.Sprint("the other of ", i))
			must(t, root.Rename("g", root, "f"))
			other.f.Close()
			other.n.Drop()
		}
		must(t, root.Unlink("f", false))
		if i%100 >= 98 {
			open = append(open, k)
			continue
		}
		k.f.Close()
		k.n.Drop()
	}
	for i, k := range open {
		number := i/2*100 + 98 + i%2
		if got, want := reads(k), fmt.Sprint("bytes of ", number); got != want {
			t.Errorf("the file of %d that is gone holds %q", number, got)
		}
		_, err := k.f.WriteAt([]byte("still"), 0)
		must(t, err)
		k.f.Close()
		k.n.Drop()
	}
}
