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
	if made, err := createFile(path, content, mode, uid, gid); made {
		return err
	}
	temporary := path + ".cloche~"
	_ = os.Remove(temporary)
	fd, err := unix.Open(temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: temporary, Err: err}
	}
	f := os.NewFile(uintptr(fd), temporary)
	defer f.Close()
	if err = fill(f, content, mode, uid, gid); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// createFile makes a file where nothing is; made says that nothing was there. Nobody reads it meanwhile who would miss it, so it needs no
// second name, and on the overlay a rename is the dearest step of all. What a cut of power leaves of it is found wrong at the next start.
func createFile(path, content string, mode os.FileMode, uid, gid int) (made bool, err error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := fill(f, content, mode, uid, gid); err != nil {
		_ = os.Remove(path)
		return true, err
	}
	return true, nil
}

// fill gives a new file of the caller's its content, owner and mode.
func fill(f *os.File, content string, mode os.FileMode, uid, gid int) error {
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	if uid != 0 || gid != 0 {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return f.Chmod(mode)
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
