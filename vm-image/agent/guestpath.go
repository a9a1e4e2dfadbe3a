package main

import (
	"strings"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// systemFolders must not be covered: the guest lives there. The keeper has the same list (app/core/share/guest-path.ts).
var systemFolders = []string{
	"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var",
}

// splitGuestPath checks where a folder may appear, and gives the path's components.
func splitGuestPath(path, home string) ([]string, error) {
	if err := checkGuestPath("guestPath", path); err != nil {
		return nil, err
	}
	refuse := func(why string) ([]string, error) {
		return nil, contract.Errorf("agent.path", "a folder cannot appear at %q: %s", path, why)
	}
	parts := strings.Split(path[1:], "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return refuse("it has an empty, `.` or `..` component")
		}
		if len(part) > 255 {
			return refuse("a component is longer than 255 bytes")
		}
	}
	for _, system := range systemFolders {
		if parts[0] == system {
			return refuse("/" + system + " belongs to the guest's own system")
		}
	}
	if path == "/home" || path == home {
		return refuse("it would cover the user's home folder")
	}
	return parts, nil
}

// openGuestPath makes the folders on the way and gives a descriptor of the last. One component at a time from the parent's
// descriptor, and no link is followed: the user of a kept task may have put links anywhere since the last start.
func openGuestPath(root int, parts []string, uid, gid int) (int, error) {
	at, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, err
	}
	for _, part := range parts {
		next, err := openOrMake(at, part, uid, gid)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

func openOrMake(at int, name string, uid, gid int) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if fd, err := unix.Openat(at, name, flags, 0); err != unix.ENOENT {
		return fd, err
	}
	if err := unix.Mkdirat(at, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	} else if err == nil {
		if err := unix.Fchownat(at, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
	}
	return unix.Openat(at, name, flags, 0)
}
