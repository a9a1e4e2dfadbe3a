package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// A cover is an empty filesystem that nobody can write to, root neither, under each folder. While a folder is away between two of
// its share servers, a program finds the cover in its place and fails with EROFS, instead of writing into a directory of the guest's
// own that the next mount hides. The guest's root can take a cover away, as it can the folder; then it knows.

// cover gives a descriptor of the cover at a place, made where there is none yet. bare is the place without it, or with it.
func (t *shareTable) cover(path string, bare int, u guestUser) (int, error) {
	if id, there := t.coverAt(path); there {
		if at, err := mountIDOf(bare); err != nil {
			return -1, err
		} else if at == id {
			return unix.FcntlInt(uintptr(bare), unix.F_DUPFD_CLOEXEC, 3)
		}
	}
	point, id, err := newCover(bare, u)
	if err != nil {
		return -1, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.covers[path] = id
	return point, nil
}

// newCover mounts a cover over a directory, and gives a descriptor of its root with the mount's id.
func newCover(bare int, u guestUser) (int, uint64, error) {
	config, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, 0, os.NewSyscallError("fsopen tmpfs", err)
	}
	defer unix.Close(config)
	for _, option := range [][2]string{{"source", "cloche"}, {"mode", "0555"}, {"uid", itoa(int(u.UID))}, {"gid", itoa(int(u.GID))}} {
		if err := unix.FsconfigSetString(config, option[0], option[1]); err != nil {
			return -1, 0, os.NewSyscallError("fsconfig "+option[0], err)
		}
	}
	// Of the filesystem, not of this mount alone: no copy of the mount in another namespace can be written either.
	if err := unix.FsconfigSetFlag(config, "ro"); err != nil {
		return -1, 0, os.NewSyscallError("fsconfig ro", err)
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, 0, os.NewSyscallError("fsconfig", err)
	}
	point, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, 0, os.NewSyscallError("fsmount", err)
	}
	if err := unix.MoveMount(point, "", bare, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		unix.Close(point)
		return -1, 0, os.NewSyscallError("move_mount", err)
	}
	id, err := mountIDOf(point)
	if err != nil {
		unix.Close(point)
		return -1, 0, err
	}
	return point, id, nil
}

func mountIDOf(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	return st.Mnt_id, nil
}

// uncover gives a place back to the guest, whose folder does not come again.
func (t *shareTable) uncover(path string) error {
	id, there := t.coverAt(path)
	if !there {
		return nil
	}
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	if at := findMount(string(info), id); at != "" {
		// lazily: somebody may have their working directory in it
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return os.NewSyscallError("umount", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.covers, path)
	return nil
}

func (t *shareTable) coverAt(path string) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, there := t.covers[path]
	return id, there
}
