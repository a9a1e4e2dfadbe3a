package vsock

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Device is the host kernel's vsock device. The helper opens it and QEMU gets the descriptor.
const Device = "/dev/vhost-vsock"

// vhostSetGuestCID is VHOST_VSOCK_SET_GUEST_CID, _IOW(0xAF, 0x60, __u64) of include/uapi/linux/vhost.h.
const vhostSetGuestCID = 0x4008AF60

// dialTime bounds a connect to a guest that does not answer.
const dialTime = 5 * time.Second

// Reserve opens the device and takes a CID that no other machine of this host has; both are ours until the
// descriptor is closed. CIDs are drawn at random, as helpers do not know of each other.
func Reserve() (*os.File, uint32, error) {
	device, err := os.OpenFile(Device, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	for range 64 {
		cid, err := randomCID()
		if err != nil {
			device.Close()
			return nil, 0, err
		}
		err = setCID(device, cid)
		if err == nil {
			return device, cid, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			device.Close()
			return nil, 0, fmt.Errorf("setting the guest's CID: %w", err)
		}
	}
	device.Close()
	return nil, 0, errors.New("no free CID in 64 tries")
}

func setCID(device *os.File, cid uint32) error {
	raw := uint64(cid)
	return ioctlPointer(device, vhostSetGuestCID, &raw)
}

// randomCID draws from 2^16 up to 2^31, away from what people choose by hand.
func randomCID() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return 1<<16 + binary.LittleEndian.Uint32(b[:])%(1<<31-1<<16), nil
}

// Kernel is AF_VSOCK as the Network of the machine with the given CID.
type Kernel struct{ CID uint32 }

// Dial connects to the guest.
func (k Kernel) Dial(port uint32) (Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(int64(dialTime))
	if err := unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: k.CID, Port: port}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newKernelConn(fd)
}

// Listen awaits guests. The port is the host's as a whole, so one that another machine listens on is refused.
func (k Kernel) Listen(port uint32) (Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.Listen(fd, 128); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &kernelListener{file: os.NewFile(uintptr(fd), "vsock listener")}, nil
}

type kernelListener struct{ file *os.File }

func (l *kernelListener) Close() error { return l.file.Close() }

func (l *kernelListener) Accept() (Conn, uint32, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var fd int
	var from unix.Sockaddr
	var failed error
	err = raw.Read(func(listener uintptr) bool {
		fd, from, failed = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, 0, err
	}
	peer, ok := from.(*unix.SockaddrVM)
	if !ok {
		unix.Close(fd)
		return nil, 0, errors.New("vsock: a peer without a CID")
	}
	conn, err := newKernelConn(fd)
	return conn, peer.CID, err
}

// kernelConn is an AF_VSOCK stream in the runtime's poller, which package net does not know.
type kernelConn struct{ *os.File }

func newKernelConn(fd int) (Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return kernelConn{os.NewFile(uintptr(fd), "vsock stream")}, nil
}

func (c kernelConn) CloseWrite() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return err
	}
	return failed
}
