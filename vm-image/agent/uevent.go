package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// watchLayers tells the host when a block of a layer does not match its hash: the program that read it sees only EIO. dm-verity says so
// in a uevent, at most a hundred times in a device's life, so a broken file on the host cannot flood the log.
func (a *agent) watchLayers() {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		logf("no uevents: %v", err)
		return
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		logf("no uevents: %v", err)
		return
	}
	f := os.NewFile(uintptr(fd), "uevent")
	buffer := make([]byte, 8192)
	for {
		n, err := f.Read(buffer)
		if err != nil {
			if pathErr, ok := err.(*os.PathError); ok && pathErr.Err == unix.ENOBUFS {
				continue
			}
			return
		}
		if what := damaged(string(buffer[:n])); what != "" {
			a.tell("error", "the guest image is damaged: %s", what)
		}
	}
}

// damaged reads one uevent: NUL-separated, the first part is action@path.
func damaged(uevent string) string {
	var device, block string
	for _, field := range strings.Split(uevent, "\x00") {
		if v, ok := strings.CutPrefix(field, "DM_VERITY_ERR_BLOCK_NR="); ok {
			block = strings.ReplaceAll(v, ",", " ")
		} else if v, ok := strings.CutPrefix(field, "DEVNAME="); ok {
			device = v
		}
	}
	if block == "" {
		return ""
	}
	return "block (kind number) " + block + " of " + device
}
