package main

import (
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A share server serves one connection at a time: a stream that is kept open keeps the folder from whoever comes next.
func TestShares_TheStreamOfEachFolderThatTheGuestUnmountsItselfIsLetGo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("IGNORED: mounting needs root")
	}
	table := newShareTable()
	for round := range 200 {
		place := t.TempDir()
		if err := unix.Mount("folder", place, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, place, 0, unix.STATX_MNT_ID, &st); err != nil {
			t.Fatal(err)
		}
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		server := os.NewFile(uintptr(ends[1]), "server")
		ended := make(chan error, 1)
		go func() { // in Go's poller, as the agent's streams are
			_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err := server.Read(make([]byte, 1))
			ended <- err
		}()
		table.hold(place, &share{mountID: st.Mnt_id, stream: shareStream{fd: ends[0]}})
		time.Sleep(time.Duration(round%4) * time.Millisecond) // at once, and when everything has come to rest
		if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != io.EOF {
			t.Fatalf("round %d: the stream of a folder that is not mounted any more is open still: %v", round, err)
		}
		server.Close()
		table.release(place)
	}
}
