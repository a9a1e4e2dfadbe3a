package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGuestPath_PlacesThatAreFine(t *testing.T) {
	for _, path := range []string{"/home/you/receipts", "/home/you/a b\nc", "/work", "/work/deep/er", "/mnt/x", "/srv/x", "/home/you/.x", "/usrlocal"} {
		if _, err := splitGuestPath(path, "/home/you"); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestGuestPath_PlacesThatAreNot(t *testing.T) {
	for _, path := range []string{
		"", "work", "/", "//work", "/work/", "/work//x", "/work/./x", "/home/you/../x", "/..", "/work\x00x", "/home", "/home/you",
		"/proc", "/proc/1", "/sys", "/dev/shm/x", "/run/user", "/etc", "/etc/x", "/usr/local/x", "/bin", "/lib64", "/root/x", "/tmp/x", "/var/x", "/boot",
		"/work/" + strings.Repeat("x", 256), "/" + strings.Repeat("x/", 520) + "x",
	} {
		if _, err := splitGuestPath(path, "/home/you"); err == nil {
			t.Errorf("%q is accepted", path)
		}
	}
}

func openRoot(t *testing.T) (string, int) {
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return root, fd
}

func TestOpenGuestPath_MakesTheFoldersOnTheWay(t *testing.T) {
	root, fd := openRoot(t)
	got, err := openGuestPath(fd, []string{"home", "you", "x"}, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(got)
	if st, err := os.Stat(filepath.Join(root, "home/you/x")); err != nil || !st.IsDir() {
		t.Fatal(err)
	}
}

func TestOpenGuestPath_LinkAnywhereOnTheWay_IsRefused(t *testing.T) {
	root, fd := openRoot(t)
	outside := t.TempDir()
	for _, link := range []string{"first", "home/middle", "home/last"} {
		at := filepath.Join(root, link)
		_ = os.MkdirAll(filepath.Dir(at), 0o755)
		if err := os.Symlink(outside, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"first/x", "home/middle/x/y", "home/last"} {
		if got, err := openGuestPath(fd, strings.Split(path, "/"), os.Getuid(), os.Getgid()); err == nil {
			unix.Close(got)
			t.Errorf("%s was opened", path)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("made outside: %v", left)
	}
}

func TestFindMount_ByIDWithEscapes(t *testing.T) {
	info := "21 1 0:20 / / rw - overlay root rw\n29 21 0:31 / /home/you/a\\040b\\012c rw - 9p cloche rw\n2 21 0:31 / /x rw - 9p c rw\n"
	if got := findMount(info, 29); got != "/home/you/a b\nc" {
		t.Errorf("%q", got)
	}
	if got := findMount(info, 9); got != "" {
		t.Errorf("%q", got)
	}
}
