package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Connections at a time; each is two descriptors and, only while bytes move, a buffer.
	maxCarried = 4096
	// Streams have no half-close, so the end of one side ends the other after what is still on its way: this long without a byte.
	lingerIdle = 3 * time.Second
	tellEvery  = time.Minute
	// a guest out of descriptors or memory: the next try may find some
	failedAcceptPause = 50 * time.Millisecond

	maxFirstLine = 280
)

var errNoSuchLine = errors.New("no host that a stream's first line can name")

// connectLine: helpers/contract/README.md, "Egress streams".
func connectLine(host string, port uint16) (string, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		if !address.Is4() || address.String() != host {
			return "", errNoSuchLine
		}
	} else if !isHostName(host) {
		return "", errNoSuchLine
	}
	line := "connect " + host + " " + strconv.Itoa(int(port)) + "\n"
	if port == 0 || len(line) > maxFirstLine {
		return "", errNoSuchLine
	}
	return line, nil
}

// accept serves each connection until the listener is closed. Above the limit they are reset, so that programs see an error and not a wait.
func (e *egress) accept(listener *net.TCPListener, serve func(*net.TCPConn), limit int) {
	slots := make(chan struct{}, limit)
	for {
		conn, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(failedAcceptPause)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			reset(conn)
			e.complain("more than %d connections at a time: further ones are reset", limit)
			continue
		}
		go guarded("egress", func() {
			defer func() { <-slots }()
			serve(conn)
		})
	}
}

// serveCaptured carries a connection that the kernel led here from where it wanted to go.
func (e *egress) serveCaptured(conn *net.TCPConn) {
	to, err := originalDestination(conn)
	if err != nil || to.Addr() == netip.AddrFrom4(loopbackAddress) || to.Addr().IsLoopback() {
		reset(conn) // somebody dialled this port itself
		return
	}
	host := to.Addr().String()
	if poolPrefix.Contains(to.Addr()) {
		l, ok := e.pool.open(to.Addr())
		if !ok {
			reset(conn) // the name that it stood for is forgotten, or it never stood for one
			return
		}
		defer e.pool.close(l)
		host = l.name
	}
	line, err := connectLine(host, to.Port())
	if err != nil {
		reset(conn)
		return
	}
	e.carry(conn, line)
}

// serveProxy carries a connection of a program that is set to use a proxy; the host reads what it says.
func (e *egress) serveProxy(conn *net.TCPConn) { e.carry(conn, "proxy\n") }

// carry copies both ways until either side has ended. A program whose stream ends before a byte came back sees a reset.
func (e *egress) carry(conn *net.TCPConn, line string) {
	defer conn.Close()
	stream, err := e.dial()
	if err == nil {
		defer stream.Close()
		_, err = io.WriteString(stream, line)
	}
	if err != nil {
		reset(conn)
		e.complain("the host takes no connections: %v", err)
		return
	}
	var lingering atomic.Bool
	sent := make(chan struct{})
	go guarded("egress", func() {
		defer close(sent)
		gone := false
		err := whileReadable(conn, func(b []byte) error {
			// What comes when the stream is gone is dropped: to close on unread bytes is a reset, which could take from the program an
			// answer that it has not read yet.
			if !gone {
				_, err := stream.Write(b)
				gone = err != nil
			}
			return nil
		})
		if err == io.EOF {
			lingering.Store(true)
			_ = stream.SetReadDeadline(time.Now().Add(lingerIdle))
		} else {
			_ = stream.SetReadDeadline(time.Unix(1, 0))
		}
	})
	answered := false
	err = whileReadable(stream, func(b []byte) error {
		answered = true
		if lingering.Load() {
			_ = stream.SetReadDeadline(time.Now().Add(lingerIdle))
		}
		_, err := conn.Write(b)
		return err
	})
	if err == io.EOF && answered {
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(lingerIdle))
	} else {
		reset(conn)
	}
	stream.Close() // also ends a write that waits for a host that reads no more
	<-sent
}

// whileReadable gives what arrives to use, until an end or an error of either. While nothing arrives it holds no buffer.
func whileReadable(from syscall.Conn, use func([]byte) error) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buffer *[copyBytes]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			buffer = copyBuffers.Get().(*[copyBytes]byte)
			for {
				if n, failed = unix.Read(int(fd), buffer[:]); failed != unix.EINTR {
					break
				}
			}
			if failed == unix.EAGAIN {
				copyBuffers.Put(buffer)
				buffer = nil
				return false
			}
			return true
		})
		if err == nil {
			err = failed
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil {
			err = use(buffer[:n])
		}
		if buffer != nil {
			copyBuffers.Put(buffer)
		}
		if err != nil {
			return err
		}
	}
}

// complain tells the host of connections that were not carried, at most once a minute.
func (e *egress) complain(format string, args ...any) {
	now := time.Now().UnixNano()
	if until := e.quiet.Load(); now < until || !e.quiet.CompareAndSwap(until, now+int64(tellEvery)) {
		return
	}
	e.tell("warning", format, args...)
}

// originalDestination is where a redirected connection was to go.
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		// struct sockaddr_in, 16 bytes, in a structure that is large enough
		var m *unix.IPv6Mreq
		if m, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); failed == nil {
			b := m.Multiaddr
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	})
	return to, errors.Join(err, failed)
}

// reset ends a connection with RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}
