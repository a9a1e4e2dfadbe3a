//go:build linux

package changes_test

import "testing"

// The times of a file are as fine as the kernel's tick at best, on older kernels: they cannot tell of a second write within it.
func TestAWriteAfterTheLookIsNoPartOfWhatWasShown_HoweverSoonItComes(t *testing.T) {
	r := newRig(t)
	r.put("a", "before")
	r.open()
	n := r.at("a")
	defer n.Drop()
	f, err := n.Open(2)
	must(t, err)
	defer f.Close()
	write := func(text string) uint64 {
		_, err := f.WriteAt([]byte(text), 0)
		must(t, err)
		return r.change("a").Seq
	}
	shown := write("shown!")
	if again := r.change("a").Seq; again != shown {
		t.Errorf("a look alone moves the change from %d to %d", shown, again)
	}
	if hidden := write("hidden"); hidden == shown {
		t.Error("a write after the look leaves the change as it was shown but for the file's times")
	}
}
