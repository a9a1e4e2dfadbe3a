package main

import (
	"os"

	"golang.org/x/sys/unix"
)

const quiet = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

type mountPoint struct {
	kind, at, options string
	flags             uintptr
}

// What the agent needs before there is a root; they move along with the switch.
var earlyMounts = []mountPoint{
	{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
	{"proc", "/proc", "", quiet},
	{"sysfs", "/sys", "", quiet},
}

// What programs of the guest expect, in the new root. /tmp is on the task's disk: memory is scarce, and work in it survives a stop.
var lateMounts = []mountPoint{
	{"tmpfs", "/run", "mode=0755,size=25%", unix.MS_NOSUID | unix.MS_NODEV},
	{"devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"mqueue", "/dev/mqueue", "", quiet},
	{"cgroup2", "/sys/fs/cgroup", "nsdelegate", quiet},
}

// devtmpfs knows devices; these are habits.
var deviceLinks = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

func mountEarly() error { return mountAll(earlyMounts) }

func mountLate() error {
	if err := mountAll(lateMounts); err != nil {
		return err
	}
	for _, link := range deviceLinks {
		_ = unix.Symlink(link[0], link[1])
	}
	return nil
}

func mountAll(list []mountPoint) error {
	for _, m := range list {
		if err := unix.Mkdir(m.at, 0o755); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "mkdir", Path: m.at, Err: err}
		}
		// EBUSY: a kernel with DEVTMPFS_MOUNT was first
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.options); err != nil && err != unix.EBUSY {
			return &os.PathError{Op: "mount " + m.kind, Path: m.at, Err: err}
		}
	}
	return nil
}
