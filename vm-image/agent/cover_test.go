package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inOwnMounts runs a test as root in a mount namespace of its own.
func inOwnMounts(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("IGNORED: mounting needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

func openPlace(t *testing.T, place string) int {
	t.Helper()
	fd, err := unix.Open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func makes(place string) error {
	name := filepath.Join(place, "new")
	err := os.WriteFile(name, nil, 0o644)
	if err == nil {
		err = os.Remove(name)
	}
	return err
}

func TestCover_AFoldersPlaceCannotBeWrittenByRootWhileTheFolderIsAway(t *testing.T) {
	inOwnMounts(t)
	place := t.TempDir()
	table := newShareTable()
	if err := makes(place); err != nil {
		t.Fatal("control: the bare place:", err)
	}
	folder := func() {
		t.Helper()
		point, err := table.cover("/folder", openPlace(t, place), guestUser{UID: 1000, GID: 1000})
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(point)
		if err := unix.Mount("folder", "/proc/self/fd/"+itoa(point), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := makes(place); err != nil {
			t.Fatal("control: the folder:", err)
		}
	}
	for range 2 { // it comes, goes and comes again over the same cover
		folder()
		if err := unix.Unmount(place, 0); err != nil {
			t.Fatal(err)
		}
		if err := makes(place); !errors.Is(err, unix.EROFS) {
			t.Fatalf("a write while the folder is away: %v", err)
		}
	}
	if err := table.uncover("/folder"); err != nil {
		t.Fatal(err)
	}
	if err := makes(place); err != nil {
		t.Fatalf("after the folder was taken out: %v", err)
	}
	if _, there := table.coverAt("/folder"); there {
		t.Error("a cover is still known")
	}
}

func TestCover_OneThatTheGuestTookAwayIsMadeAnew(t *testing.T) {
	inOwnMounts(t)
	place := t.TempDir()
	table := newShareTable()
	for range 2 {
		point, err := table.cover("/folder", openPlace(t, place), guestUser{UID: 1000, GID: 1000})
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(point)
		if err := makes(place); !errors.Is(err, unix.EROFS) {
			t.Fatalf("a write: %v", err)
		}
		if err := unix.Unmount(place, 0); err != nil { // once, so that no second one lies under the first
			t.Fatal(err)
		}
		if err := makes(place); err != nil {
			t.Fatal("control: the bare place:", err)
		}
	}
	if err := table.uncover("/folder"); err != nil {
		t.Fatal(err)
	}
}
