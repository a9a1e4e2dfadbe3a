package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// hostSide is what the guest's streams arrive at.
type hostSide struct {
	t       testing.TB
	streams chan *hostStream
	refuse  bool
}

type hostStream struct {
	line string
	*bufio.Reader
	file *os.File
}

// dial makes a stream as the agent sees one, and its other end.
func (h *hostSide) dial() (*os.File, error) {
	if h.refuse {
		return nil, errors.New("nobody listens")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(pair[1]), "host")
	go func() {
		reader := bufio.NewReader(ours)
		line, err := reader.ReadString('\n')
		if err != nil {
			ours.Close()
			return
		}
		h.streams <- &hostStream{line, reader, ours}
	}()
	return os.NewFile(uintptr(pair[0]), "guest"), nil
}

func (h *hostSide) next() *hostStream {
	select {
	case s := <-h.streams:
		h.t.Cleanup(func() { s.file.Close() })
		return s
	case <-time.After(10 * time.Second):
		h.t.Fatal("no stream comes to the host")
		return nil
	}
}

// inMachine runs f on a thread whose network is a machine's without a card, with the way out in place.
func inMachine(t *testing.T, f func(*testing.T, *egress, *hostSide)) {
	done := make(chan struct{})
	missing := ""
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its network
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			missing = "no network of its own for a test here: " + err.Error()
			return
		}
		if err := bringUpLoopback(poolMask); err != nil {
			t.Error(err)
			return
		}
		host := &hostSide{t: t, streams: make(chan *hostStream, 16)}
		e := newEgress(host.dial, func(level, format string, args ...any) { t.Logf(level+": "+format, args...) })
		if err := e.start(); err != nil {
			if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
				missing = "this kernel has no nftables: " + err.Error()
				return
			}
			t.Error(err)
			return
		}
		f(t, e, host)
	}()
	<-done
	if missing != "" {
		t.Skip("IGNORED: " + missing)
	}
}

func dial(t *testing.T, network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return conn, err
}

func resolveName(t *testing.T, name string) string {
	conn, err := dial(t, "udp4", "198.18.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(question(t, name+".", dnsmessage.TypeA)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 512)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(buffer[:n]); err != nil || len(m.Answers) != 1 {
		t.Fatalf("%v %+v", err, m)
	}
	return netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A).String()
}

func TestCapture_ConnectionToAName_BecomesAStreamThatNamesIt_AndCarriesBothWays(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		conn, err := dial(t, "tcp4", resolveName(t, "api.example.com")+":443")
		if err != nil {
			t.Fatal(err)
		}
		stream := host.next()
		if stream.line != "connect api.example.com 443\n" {
			t.Fatalf("%q", stream.line)
		}
		big := strings.Repeat("0123456789abcdef", 40_000)
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = io.WriteString(conn, big) })
		got := make([]byte, len(big))
		if _, err := io.ReadFull(stream, got); err != nil || string(got) != big {
			t.Fatal("what the program sends does not arrive whole", err)
		}
		wait.Go(func() { _, _ = io.WriteString(stream.file, big); stream.file.Close() })
		back, err := io.ReadAll(conn)
		if err != nil || string(back) != big {
			t.Fatal("what the host sends does not arrive whole", err, len(back))
		}
		wait.Wait()
	})
}

func TestCapture_AddressThatAProgramDials_IsTheHostOfTheStream(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		for _, to := range []string{"8.8.8.8:853", "10.0.0.5:80", "169.254.169.254:80", "203.0.113.7:1"} {
			if _, err := dial(t, "tcp4", to); err != nil {
				t.Fatal(to, err)
			}
			if line := host.next().line; line != "connect "+strings.Replace(to, ":", " ", 1)+"\n" {
				t.Errorf("%s: %q", to, line)
			}
		}
		// also from an address that the program chose
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Timeout: 5 * time.Second}
		conn, err := d.Dial("tcp4", "8.8.4.4:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if line := host.next().line; line != "connect 8.8.4.4 80\n" {
			t.Errorf("%q", line)
		}
	})
}

func TestCapture_ProxysClient_IsLedOnAsOne(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		conn, err := dial(t, "tcp4", "198.18.0.1:3128")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "CONNECT example.com:443 HTTP/1.1\r\n\r\n")
		stream := host.next()
		if stream.line != "proxy\n" {
			t.Fatalf("%q", stream.line)
		}
		if line, err := stream.ReadString('\n'); line != "CONNECT example.com:443 HTTP/1.1\r\n" {
			t.Error(line, err)
		}
	})
}

func TestCapture_LoopbackAndTheMachinesOwnAddresses_AreLeftAlone(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		for _, own := range []string{"127.0.0.1", "127.0.1.1", "198.18.0.1", "::1"} {
			listener, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
			if err != nil {
				t.Fatal(own, err)
			}
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "mine")
					conn.Close()
				}
			}()
			conn, err := dial(t, "tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(own, err)
			}
			if text, err := io.ReadAll(conn); string(text) != "mine" {
				t.Errorf("%s: %q %v", own, text, err)
			}
			listener.Close()
			if _, err := dial(t, "tcp", listener.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s, nobody listens: %v", own, err)
			}
		}
		if len(host.streams) != 0 {
			t.Errorf("%q left the machine", (<-host.streams).line)
		}
	})
}

func TestCapture_WhatIsNotTCP_IsRefusedAtOnce(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		quic := resolveName(t, "quic.example.com")
		for _, to := range []string{"8.8.8.8:53", "8.8.8.8:443", quic + ":443", "198.18.0.1:5353"} {
			conn, err := dial(t, "udp4", to)
			if err != nil {
				t.Fatal(to, err)
			}
			began := time.Now()
			_, err = conn.Write([]byte("x"))
			if err == nil {
				_, err = conn.Read(make([]byte, 16))
			}
			if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) > time.Second {
				t.Errorf("UDP to %s: %v after %v", to, err, time.Since(began))
			}
		}
		for _, to := range []string{"8.8.8.8", quic} {
			if conn, err := net.Dial("ip4:icmp", to); err != nil {
				t.Error(err)
			} else {
				if _, err := conn.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); !errors.Is(err, syscall.EPERM) {
					t.Errorf("ICMP to %s: %v", to, err)
				}
				conn.Close()
			}
		}
		if _, err := dial(t, "tcp6", "[2001:db8::1]:443"); !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("IPv6: %v", err)
		}
		if len(host.streams) != 0 {
			t.Errorf("%q left the machine", (<-host.streams).line)
		}
	})
}

func TestCapture_ConnectionsThatStandForNothing_AreReset(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		// an address of the pool without a name, and the listener itself
		for _, to := range []string{"198.18.7.7:443", "198.19.255.254:80", "198.18.0.1:3129"} {
			expectReset(t, to)
		}
		if len(host.streams) != 0 {
			t.Errorf("%q left the machine", (<-host.streams).line)
		}
	})
}

func TestCapture_HostThatRefuses_IsAResetToTheProgram(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		address := resolveName(t, "api.example.com") + ":443"
		host.refuse = true
		expectReset(t, address)
		host.refuse = false
		go func() { host.next().file.Close() }()
		expectReset(t, address)
	})
}

func expectReset(t *testing.T, to string) {
	t.Helper()
	conn, err := dial(t, "tcp4", to)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %v", to, err)
	}
}

func TestCapture_AnswerBeforeTheEnd_ArrivesWhole_AlsoWhileTheProgramStillSends(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, host *hostSide) {
		conn, err := dial(t, "tcp4", resolveName(t, "api.example.com")+":80")
		if err != nil {
			t.Fatal(err)
		}
		stream := host.next()
		// the host refuses in the middle of an upload, and closes
		go func() {
			for {
				if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		_, _ = io.ReadFull(stream, make([]byte, 1<<20))
		refusal := strings.Repeat("403 ", 10_000)
		_, _ = io.WriteString(stream.file, refusal)
		stream.file.Close()
		got, err := io.ReadAll(conn)
		if string(got) != refusal {
			t.Errorf("%d of %d bytes, %v", len(got), len(refusal), err)
		}
	})
}

func TestCapture_ProgramThatHasSentAll_StillGetsItsAnswer_AndTheStreamEnds(t *testing.T) {
	inMachine(t, func(t *testing.T, e *egress, host *hostSide) {
		conn, err := dial(t, "tcp4", resolveName(t, "api.example.com")+":80")
		if err != nil {
			t.Fatal(err)
		}
		stream := host.next()
		_, _ = io.WriteString(conn, "question")
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.ReadFull(stream, make([]byte, 8))
		_, _ = io.WriteString(stream.file, "answer")
		got := make([]byte, 6)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "answer" {
			t.Errorf("%q %v", got, err)
		}
		began := time.Now()
		_ = stream.file.SetReadDeadline(began.Add(3 * lingerIdle))
		if _, err := stream.ReadByte(); err != io.EOF {
			t.Errorf("the stream of a program that is gone stays: %v", err)
		}
	})
}

func TestCapture_AboveTheLimit_ConnectionsAreResetAtOnce_AndGoAgainBelowIt(t *testing.T) {
	inMachine(t, func(t *testing.T, e *egress, host *hostSide) {
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go e.accept(listener, e.serveProxy, 2)
		to := listener.Addr().String()
		first, _ := dial(t, "tcp4", to)
		if _, err := dial(t, "tcp4", to); err != nil {
			t.Fatal(err)
		}
		held := host.next()
		host.next()
		expectReset(t, to)
		first.Close()
		held.file.Close()
		for deadline := time.Now().Add(10 * time.Second); ; {
			conn, err := dial(t, "tcp4", to)
			if err == nil {
				_, _ = io.WriteString(conn, "x")
				_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
					break // it is carried
				}
			} else if !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err) // a reset may come before connect() has answered
			}
			if time.Now().After(deadline) {
				t.Fatal("the place of a connection that ended is not free again")
			}
		}
	})
}

func TestCapture_DNSOverTCP(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, _ *hostSide) {
		conn, err := dial(t, "tcp4", "198.18.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		asked := question(t, "api.example.com.", dnsmessage.TypeA)
		for range 2 {
			_, _ = conn.Write(append([]byte{0, byte(len(asked))}, asked...))
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, int(length[0])<<8|int(length[1]))
			var m dnsmessage.Message
			if _, err := io.ReadFull(conn, answer); err != nil || m.Unpack(answer) != nil || len(m.Answers) != 1 {
				t.Fatal(err, m)
			}
		}
	})
}

func TestCapture_IdleConnections_HoldNoBuffers(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "a"), os.NewFile(uintptr(pair[1]), "b")
	defer theirs.Close()
	var got []byte
	ended := make(chan error)
	go func() {
		ended <- whileReadable(ours, func(b []byte) error { got = append(got, b...); return nil })
	}()
	for _, text := range []string{"one", "two"} {
		if _, err := theirs.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	theirs.Close()
	if err := <-ended; err != io.EOF || string(got) != "onetwo" {
		t.Errorf("%q %v", got, err)
	}
}

func TestWaitForEgress_ProgramsWaitForTheWayOut_AndNotWhereThereIsNone(t *testing.T) {
	none := newAgent(&bootParams{})
	none.startEgress(nil)
	none.waitForEgress()
	a := newAgent(&bootParams{})
	waited := make(chan struct{})
	go func() { a.waitForEgress(); close(waited) }()
	select {
	case <-waited:
		t.Error("a program starts before its way out is there")
	case <-time.After(50 * time.Millisecond):
	}
	close(a.egressReady)
	<-waited
}
