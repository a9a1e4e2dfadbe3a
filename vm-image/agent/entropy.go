package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addEntropy mixes the host's randomness into the kernel's pool and credits it: the host is trusted with more than that.
func addEntropy(random []byte) error {
	if len(random) == 0 {
		return nil
	}
	fd, err := unix.Open("/dev/random", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// struct rand_pool_info: bits, bytes, the bytes
	info := make([]byte, 8+len(random))
	binary.NativeEndian.PutUint32(info, uint32(len(random)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(random)))
	copy(info[8:], random)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return errno
	}
	return nil
}
