//go:build linux

package gitrepo_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var zeroTime = time.Unix(1_000_000_000, 0)

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

func mkfifo(path string) error { return unix.Mkfifo(path, 0o644) }
