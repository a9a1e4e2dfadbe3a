package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPool opens the kernel's pool. It is done before the root is made: while that goes on, /dev moves from the old root to the new
// one, and for a moment the name leads nowhere.
func openPool() (int, error) { return unix.Open("/dev/random", unix.O_WRONLY|unix.O_CLOEXEC, 0) }

// addEntropy mixes the host's randomness into the kernel's pool and credits it: the host is trusted with more than that.
func addEntropy(pool int, random []byte) error {
	if len(random) == 0 {
		return nil
	}
	// struct rand_pool_info: bits, bytes, the bytes
	info := make([]byte, 8+len(random))
	binary.NativeEndian.PutUint32(info, uint32(len(random)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(random)))
	copy(info[8:], random)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pool), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return errno
	}
	return nil
}
