package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeFile writes to a file that is there, such as a kernel switch: nothing is created, truncated or synced.
func writeFile(path, content string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(content))
	return err
}

// putFile makes a file have a content, a mode and an owner, whatever was there before, a link included: the new one is made
// beside it and renamed over it, so that a reader sees the old or the new one. A file that is as it should be is left alone:
// on the overlay each write is a copy up.
func putFile(path, content string, mode os.FileMode, uid, gid int) error {
	if is(path, content, mode, uid, gid) {
		return nil
	}
	temporary := path + ".cloche~"
	_ = os.Remove(temporary)
	fd, err := unix.Open(temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: temporary, Err: err}
	}
	f := os.NewFile(uintptr(fd), temporary)
	defer f.Close()
	if _, err = f.WriteString(content); err == nil {
		if err = f.Chown(uid, gid); err == nil {
			if err = f.Chmod(mode); err == nil {
				err = os.Rename(temporary, path)
			}
		}
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

func is(path, content string, mode os.FileMode, uid, gid int) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(len(content)) ||
		os.FileMode(st.Mode&0o7777) != mode || int(st.Uid) != uid || int(st.Gid) != gid {
		return false
	}
	now, err := os.ReadFile(path)
	return err == nil && string(now) == content
}

// putDir makes a directory with exactly this mode and owner. What is there and is no directory is an error.
func putDir(path string, mode uint32, uid, gid int) error {
	if err := unix.Mkdir(path, mode); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	return unix.Fchmod(fd, mode)
}
