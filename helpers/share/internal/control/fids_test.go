//go:build linux

package control

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A guest may hold as many fids as the descriptors are for, no fewer and no more: each may take three.
func TestAGuestHoldsAsManyFidsAsDescriptorsAllow(t *testing.T) {
	var ours unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &ours))
	for name, c := range map[string]struct{ descriptors, fids uint64 }{
		"few":  {1024, 320},
		"many": {20_000, 6645},
	} {
		t.Run(name, func(t *testing.T) {
			if ours.Max < c.descriptors {
				t.Skipf("IGNORED: a process may have %d descriptors at most here", ours.Max)
			}
			f := newFixture(t, "root")
			p := start(t, nil)
			must(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: c.descriptors, Max: c.descriptors}, nil))
			if answer := p.call("serve", f.serve("rw")); code(answer) != "" {
				t.Fatal(answer)
			}
			client := f.mount(t) // holds one: the root's
			defer client.Close()
			p.notified("attached")
			for i := uint64(1); i < c.fids; i++ {
				if err := client.Walk(1, uint32(i+1), "file"); err != nil {
					t.Fatalf("fid %d of %d: %v", i+1, c.fids, err)
				}
			}
			if err := client.Walk(1, uint32(c.fids+1), "file"); !errors.Is(err, syscall.ENFILE) {
				t.Errorf("one more than %d: %v, want ENFILE", c.fids, err)
			}
		})
	}
}
