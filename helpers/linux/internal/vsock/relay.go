package vsock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"cloche/helper/internal/plan"
)

// Conn is one stream of a Network.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Listener accepts the streams that guests open to one port of the host.
type Listener interface {
	// Accept gives a stream and the CID it comes from.
	Accept() (Conn, uint32, error)
	Close() error
}

// Network is the host's vsock, seen from one machine; AF_VSOCK in the product, a double in tests.
type Network interface {
	// Dial connects to a port of the guest.
	Dial(port uint32) (Conn, error)
	// Listen awaits guests on a port of the host.
	Listen(port uint32) (Listener, error)
}

const (
	// maxConnections bounds what one machine can hold open through its relay.
	maxConnections = 2048
	// maxConnectLine is "CONNECT 4294967295\n" and not a byte more.
	maxConnectLine = len("CONNECT 4294967295\n")
	// handshakeTime is for the host's own client to say where it wants to go.
	handshakeTime = 10 * time.Second
)

// Relay is the Streams of a machine whose vsock the host's kernel carries.
type Relay struct {
	streams string
	network Network
	cid     uint32
	base    *net.UnixListener

	lock      sync.Mutex // guards the rest
	listeners map[uint32]Listener
	open      map[io.Closer]struct{}
	stopped   bool
	running   sync.WaitGroup
}

// NewRelay binds the base socket and serves it. Streams from another CID than cid are refused.
func NewRelay(streams string, network Network, cid uint32) (*Relay, error) {
	base, err := net.ListenUnix("unix", &net.UnixAddr{Name: streams, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(streams, 0o600); err != nil {
		base.Close()
		return nil, err
	}
	r := &Relay{streams: streams, network: network, cid: cid, base: base, listeners: map[uint32]Listener{}, open: map[io.Closer]struct{}{}}
	r.running.Add(1)
	go r.serveBase()
	return r, nil
}

// OpenPort lets the guest dial a port of the host.
func (r *Relay) OpenPort(port uint32) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.stopped || r.listeners[port] != nil {
		return nil
	}
	listener, err := r.network.Listen(port)
	if err != nil {
		return err
	}
	r.listeners[port] = listener
	r.running.Add(1)
	go r.servePort(port, listener)
	return nil
}

// ClosePort refuses the guest's next connections; those that stand go on.
func (r *Relay) ClosePort(port uint32) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	if listener := r.listeners[port]; listener != nil {
		delete(r.listeners, port)
		return listener.Close()
	}
	return nil
}

// Stop ends every stream and removes the base socket.
func (r *Relay) Stop() {
	r.lock.Lock()
	r.stopped = true
	_ = r.base.Close() // removes the socket's file
	for port, listener := range r.listeners {
		_ = listener.Close()
		delete(r.listeners, port)
	}
	for c := range r.open {
		_ = c.Close()
	}
	r.lock.Unlock()
	r.running.Wait()
}

func (r *Relay) serveBase() {
	defer r.running.Done()
	for {
		client, err := r.base.AcceptUnix()
		if err != nil {
			if r.wait(err) {
				continue
			}
			return
		}
		r.start(client, func() { r.inward(client) })
	}
}

func (r *Relay) servePort(port uint32, listener Listener) {
	defer r.running.Done()
	for {
		guest, cid, err := listener.Accept()
		if err != nil {
			if r.wait(err) {
				continue
			}
			return
		}
		if cid != r.cid { // another machine's guest, or a program of the host
			_ = guest.Close()
			continue
		}
		r.start(guest, func() { r.outward(port, guest) })
	}
}

// wait says whether an Accept is worth repeating: out of descriptors passes, a closed listener does not.
func (r *Relay) wait(err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return false
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.stopped {
		return false
	}
	time.Sleep(10 * time.Millisecond)
	return true
}

// start runs serve for a connection that Stop can close, or refuses it when there are too many.
func (r *Relay) start(c io.Closer, serve func()) {
	if !r.hold(c) {
		_ = c.Close()
		return
	}
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		defer r.release(c)
		serve()
	}()
}

func (r *Relay) hold(c io.Closer) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.stopped || len(r.open) >= 2*maxConnections {
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *Relay) release(c io.Closer) {
	_ = c.Close()
	r.lock.Lock()
	delete(r.open, c)
	r.lock.Unlock()
}

// inward serves one host program that wants a port of the guest.
func (r *Relay) inward(client *net.UnixConn) {
	_ = client.SetReadDeadline(time.Now().Add(handshakeTime))
	port, err := readConnect(client)
	if err != nil {
		return
	}
	_ = client.SetReadDeadline(time.Time{})
	guest, err := r.network.Dial(port)
	if err != nil || !r.hold(guest) {
		if guest != nil {
			_ = guest.Close()
		}
		return // a closed connection instead of OK is the convention's refusal
	}
	defer r.release(guest)
	if _, err := fmt.Fprintf(client, "OK %d\n", port); err != nil {
		return
	}
	splice(client, guest)
}

// outward serves one stream that the guest opened to an open port.
func (r *Relay) outward(port uint32, guest Conn) {
	server, err := net.Dial("unix", portPath(r.streams, port))
	if err != nil {
		return
	}
	if !r.hold(server) {
		_ = server.Close()
		return
	}
	defer r.release(server)
	splice(server.(*net.UnixConn), guest)
}

// readConnect reads the line byte by byte, so that nothing after it is swallowed.
func readConnect(client io.Reader) (uint32, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(client, one); err != nil {
			return 0, err
		}
		if one[0] == '\n' {
			break
		}
		if line = append(line, one[0]); len(line) >= maxConnectLine {
			return 0, errors.New("vsock: a CONNECT line is too long")
		}
	}
	digits, found := bytes.CutPrefix(line, []byte("CONNECT "))
	port, err := strconv.ParseUint(string(digits), 10, 32)
	if !found || err != nil {
		return 0, errors.New("vsock: not a CONNECT line")
	}
	if problem := plan.CheckPort(uint32(port)); problem != "" {
		return 0, errors.New("vsock: the port " + problem)
	}
	return uint32(port), nil
}

// splice copies both ways until both sides have ended; the end of one direction is passed on as a half-close.
func splice(a, b Conn) {
	var both sync.WaitGroup
	both.Add(2)
	one := func(to, from Conn) {
		defer both.Done()
		_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
		if err != nil { // a broken direction breaks the stream: the other end must not wait for it
			_ = to.Close()
			_ = from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	go one(a, b)
	go one(b, a)
	both.Wait()
}
