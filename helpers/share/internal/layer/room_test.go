//go:build linux

package layer

import (
	"errors"
	"math"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheHostKeepsAReserve(t *testing.T) {
	l := open(t, t.TempDir())
	var st unix.Statfs_t
	must(t, unix.Fstatfs(l.content, &st))
	free := int64(st.Bavail) * int64(st.Bsize)
	if err := l.Room(free); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("all that is free: %v", err)
	}
	if err := l.Room(math.MaxInt64); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("more than there is: %v", err)
	}
	reserve := min(int64(maxReserve), int64(st.Blocks)*int64(st.Bsize)/reserveShare)
	if free < reserve+2*roomStep {
		t.Log("IGNORED: this disk is too full for the control")
		return
	}
	must(t, l.Room(4096))
	if err := l.Room(free); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("all that is free, after a small write: %v", err)
	}
	must(t, l.Room(4096))
}
