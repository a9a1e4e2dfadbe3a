//go:build linux

package hostfs

import (
	"bytes"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxXattr is XATTR_SIZE_MAX and XATTR_LIST_MAX.
	maxXattr  = 64 << 10
	userXattr = "user."
)

// withOpen runs do on a descriptor that the xattr calls accept; an O_PATH one is not.
func (n *node) withOpen(do func(fd int) error) error {
	if n.kind != regular && n.kind != directory {
		return syscall.ENODATA // Linux keeps user.* on those two only
	}
	if err := n.stay(); err != nil {
		return err
	}
	fd, err := n.reopen(unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return retry(func() error { return do(fd) })
}

func (n *node) ListXattr() ([]byte, error) {
	if n.kind != regular && n.kind != directory {
		return nil, nil
	}
	buffer := make([]byte, maxXattr)
	var size int
	err := n.withOpen(func(fd int) (err error) {
		size, err = unix.Flistxattr(fd, buffer)
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []byte
	for _, name := range bytes.SplitAfter(buffer[:size], []byte{0}) {
		if strings.HasPrefix(string(name), userXattr) {
			list = append(list, name...)
		}
	}
	return list, nil
}

func (n *node) GetXattr(name string) ([]byte, error) {
	buffer := make([]byte, maxXattr)
	var size int
	err := n.withOpen(func(fd int) (err error) {
		size, err = unix.Fgetxattr(fd, name, buffer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buffer[:size]), nil
}

func (n *node) SetXattr(name string, value []byte, flags uint32) error {
	if err := n.tree.mayChange(); err != nil {
		return err
	}
	return n.change("", nil, func() error { return n.setXattr(name, value, flags) })
}

func (n *node) setXattr(name string, value []byte, flags uint32) error {
	return n.withOpen(func(fd int) error {
		if len(value) == 0 && flags&unix.XATTR_REPLACE != 0 { // this is how Linux's 9P client removes
			return unix.Fremovexattr(fd, name)
		}
		return unix.Fsetxattr(fd, name, value, int(flags&(unix.XATTR_CREATE|unix.XATTR_REPLACE)))
	})
}
