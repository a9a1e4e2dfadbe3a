package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const dialDeadline = 30 * time.Second

// destination is where a forward from the host ends in the guest.
type destination interface {
	dial(context.Context) (net.Conn, error)
}

type tcpDestination string

func parseDirectTCP(extra []byte) (destination, error) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(extra, &m) != nil || m.Port == 0 || m.Port > 65_535 || len(m.Host) > 255 {
		return nil, errors.New("no address")
	}
	return tcpDestination(net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port)))), nil
}

// The guest has only its loopback, so any address is allowed: who may connect to what is the wall's matter, not the agent's.
func (d tcpDestination) dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", string(d))
}

type unixDestination struct {
	s    *sshService
	path string
}

func (s *sshService) parseDirectUnix(extra []byte) (destination, error) {
	var m struct {
		Path     string
		Reserved string
		Unused   uint32
	}
	if ssh.Unmarshal(extra, &m) != nil || m.Path == "" || m.Path[0] == '@' || strings.IndexByte(m.Path, 0) >= 0 {
		return nil, errors.New("no path")
	}
	return unixDestination{s, m.Path}, nil
}

// dial connects with the user's rights, in every sense: file permissions on the way to the socket and what its server sees of the
// client (SO_PEERCRED). Linux keeps credentials per thread, so a thread takes the user's and ends with the goroutine.
func (d unixDestination) dial(ctx context.Context) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: Go ends the thread
		fd, err := d.connect()
		if err != nil {
			done <- result{nil, err}
			return
		}
		file := os.NewFile(uintptr(fd), "unix")
		conn, err := net.FileConn(file)
		file.Close()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (d unixDestination) connect() (int, error) {
	if c := d.s.credential(); c != nil {
		if err := becomeOnThisThread(c.Uid, c.Gid, c.Groups); err != nil {
			return -1, err
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	// A socket whose queue is full answers EAGAIN at once; that is an error of its server's, and no reason to wait here.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: d.path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// serveDirect carries one forwarded connection, both ways to their ends.
func (s *sshService) serveDirect(request ssh.NewChannel, parse func([]byte) (destination, error)) {
	to, err := parse(request.ExtraData())
	if err != nil {
		_ = request.Reject(ssh.Prohibited, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialDeadline)
	conn, err := to.dial(ctx)
	cancel()
	if err != nil {
		_ = request.Reject(ssh.ConnectionFailed, clip(err.Error(), 200))
		return
	}
	defer conn.Close()
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	ended := make(chan struct{})
	go guarded("ssh forward", func() {
		for r := range requests {
			_ = r.Reply(false, nil)
		}
		close(ended)
	})
	var both sync.WaitGroup
	both.Add(2)
	go guarded("ssh forward", func() {
		defer both.Done()
		_, writeErr := pump(conn, channel)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && writeErr == nil {
			_ = half.CloseWrite()
		}
	})
	go guarded("ssh forward", func() {
		defer both.Done()
		_, writeErr := pump(channel, conn)
		if writeErr == nil {
			_ = channel.CloseWrite()
		}
	})
	finished := make(chan struct{})
	go func() { both.Wait(); close(finished) }()
	select {
	case <-finished:
		_ = channel.Close()
		<-ended
	case <-ended: // the client closed: nobody reads and nobody writes
		conn.Close()
		<-finished
	}
}
