//go:build linux

// Package stream is one accepted connection as ninep wants it: blocking system calls on a socket, without the Go
// poller between, which would cost three more calls per request.
package stream

import (
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Conn is a connected stream socket.
type Conn struct {
	fd     int
	closed atomic.Bool
}

// bufferBytes is what we ask for in the socket's buffers, so that a frame of 512 KiB takes few turns; the kernel
// cuts it to its own limit.
const bufferBytes = 1 << 20

// New takes over a connected socket.
func New(fd int) *Conn {
	_ = unix.SetNonblock(fd, false)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferBytes)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
	return &Conn{fd: fd}
}

func (c *Conn) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNRESET:
			return 0, io.EOF
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// ReadFull fills b; MSG_WAITALL does so in one call.
func (c *Conn) ReadFull(b []byte) error {
	for len(b) > 0 {
		n, _, err := unix.Recvfrom(c.fd, b, unix.MSG_WAITALL)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b = b[n:]
		}
	}
	return nil
}

// WriteAll writes b. The runtime ignores SIGPIPE on descriptors above 2.
func (c *Conn) WriteAll(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(c.fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Close ends reads and writes that are under way. The descriptor itself stays until Free, so that no call can meet
// another connection under the same number.
func (c *Conn) Close() {
	if c.closed.CompareAndSwap(false, true) {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}

// Free gives the descriptor back, when nobody uses it any more.
func (c *Conn) Free() { _ = unix.Close(c.fd) }
