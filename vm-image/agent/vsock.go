package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const hostCID = unix.VMADDR_CID_HOST

// dialHost connects to a port of the host. The file is non-blocking and waits in Go's poller.
func dialHost(port uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: hostCID, Port: port}); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "vsock:"+itoa(int(port)))
	if err := connected(f); err != nil {
		f.Close()
		return nil, os.NewSyscallError("connect", err)
	}
	return f, nil
}

// connected waits for the end of a connect. The kernel gives up after 2 s by itself.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err != nil {
			result = err
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if err != nil {
		return err
	}
	return result
}

// blockingFd takes a stream's descriptor out of the poller, for the kernel's 9P client.
func blockingFd(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, dupErr
	}
	return fd, unix.SetNonblock(fd, false)
}

// listenHost accepts streams on a port of the guest.
func listenHost(port uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("listen", err)
	}
	return os.NewFile(uintptr(fd), "vsock:"+itoa(int(port))), nil
}

// acceptHost gives the next stream of the host as a non-blocking descriptor. Processes of the guest can reach the port over vsock's
// loopback; they are turned away before a byte of theirs is read.
func acceptHost(listener *os.File) (int, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return -1, err
	}
	for {
		fd := -1
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(l uintptr) bool {
			fd, from, failed = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return -1, err
		case failed == unix.EINTR || failed == unix.ECONNABORTED:
			continue
		case failed == unix.EMFILE || failed == unix.ENFILE || failed == unix.ENOMEM || failed == unix.ENOBUFS:
			time.Sleep(50 * time.Millisecond) // a guest out of memory: the next try may find some
			continue
		case failed != nil:
			return -1, failed
		}
		if peer, ok := from.(*unix.SockaddrVM); !ok || peer.CID != hostCID {
			unix.Close(fd)
			continue
		}
		return fd, nil
	}
}
