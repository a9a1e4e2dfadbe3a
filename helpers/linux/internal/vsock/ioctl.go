package vsock

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlPointer is the one ioctl here that takes a pointer to 64 bits.
func ioctlPointer(file *os.File, request uintptr, value *uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
		return errno
	}
	return nil
}
