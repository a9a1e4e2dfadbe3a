//go:build linux

package hostfs_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	unix.Umask(0) // as confine sets it: the guest says which mode a file has
	os.Exit(m.Run())
}
