package main

import (
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	loginGrace     = 60 * time.Second
	maxAuthTries   = 3
	maxSSHChannels = 1024 // of one connection, of all kinds
	// A pipe of the kernel holds 64 KiB, a packet of SSH 32.
	copyBytes = 32 << 10
)

// The algorithms of both sides (app/core/guest/ssh.ts has the same), one of each kind, by cost under emulation: README.md, "Choices".
var (
	sshKeyExchanges = []string{"curve25519-sha256"}
	sshCiphers      = []string{"chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"}
	sshMACs         = []string{"hmac-sha2-256-etm@openssh.com"} // of ciphers without a tag of their own, which we have not
)

var errNotAllowed = errors.New("not the user with the key")

// serverConfig lets one user in, with one key and by no other way.
func serverConfig(user, hostKey, authorizedKey string) (*ssh.ServerConfig, error) {
	signer, err := ssh.ParsePrivateKey([]byte(hostKey))
	if err != nil {
		return nil, errors.New("the host key: " + err.Error())
	}
	authorized, _, options, _, err := ssh.ParseAuthorizedKey([]byte(authorizedKey))
	if err != nil {
		return nil, errors.New("the authorized key: " + err.Error())
	}
	// Options restrict a key; accepting one and not acting by it would let in more than was asked for.
	if len(options) > 0 || authorized.Type() != ssh.KeyAlgoED25519 || signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, errors.New("both keys are ssh-ed25519 without options")
	}
	wanted := authorized.Marshal()
	config := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: sshKeyExchanges, Ciphers: sshCiphers, MACs: sshMACs},
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519},
		MaxAuthTries:            maxAuthTries,
		ServerVersion:           "SSH-2.0-Cloche",
		PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if conn.User() != user || subtle.ConstantTimeCompare(key.Marshal(), wanted) != 1 {
				return nil, errNotAllowed
			}
			return nil, nil
		},
	}
	config.AddHostKey(signer)
	return config, nil
}

// streamConn is a stream of the host as Go's ssh wants it: package net knows no vsock.
type streamConn struct {
	byteStream
	mu      sync.Mutex
	waiting []byte
	until   *time.Timer // set while writes wait
}

// byteStream is what streamConn takes from *os.File, whose other ways to write would go past its own.
type byteStream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

func (*streamConn) LocalAddr() net.Addr  { return noAddr{} }
func (*streamConn) RemoteAddr() net.Addr { return noAddr{} }

func (c *streamConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		return c.byteStream.Write(b)
	}
	c.waiting = append(c.waiting, b...)
	return len(b), nil
}

// together has the packets that `write` makes leave as one: each that leaves by itself wakes the host.
// They wait no longer than writeTogether, whatever write waits for, as all channels' packets wait meanwhile.
func (c *streamConn) together(write func()) {
	c.mu.Lock()
	if c.until == nil {
		c.until = time.AfterFunc(writeTogether, c.flush)
	}
	c.mu.Unlock()
	write()
	c.flush()
}

const writeTogether = 10 * time.Millisecond

func (c *streamConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		return
	}
	c.until.Stop()
	c.until = nil
	_, _ = c.byteStream.Write(c.waiting) // a stream that has ended fails the next write too
	c.waiting = nil
}

type noAddr struct{}

func (noAddr) Network() string { return "vsock" }
func (noAddr) String() string  { return "vsock" }

// guarded keeps a panic from ending PID 1. Goroutines that the ssh package starts itself are out of its reach; what they read
// comes from the host alone.
func guarded(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			logf("a bug in the agent: %s: %v %s", what, p, debug.Stack())
		}
	}()
	f()
}

// serve speaks SSH on one stream to its end.
func (s *sshService) serve(stream *streamConn) {
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(loginGrace))
	conn, channels, requests, err := ssh.NewServerConn(stream, s.config)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			logf("ssh: %v", err)
		}
		return
	}
	defer conn.Close()
	_ = stream.SetDeadline(time.Time{})
	go guarded("ssh requests", func() { answerGlobal(requests) })
	var open atomic.Int32
	var all sync.WaitGroup
	for channel := range channels {
		if open.Add(1) > maxSSHChannels {
			open.Add(-1)
			_ = channel.Reject(ssh.ResourceShortage, "too many channels")
			continue
		}
		all.Add(1)
		go guarded("ssh channel", func() {
			defer func() { open.Add(-1); all.Done() }()
			s.serveChannel(stream, channel)
		})
	}
	all.Wait()
}

func (s *sshService) serveChannel(stream *streamConn, channel ssh.NewChannel) {
	switch channel.ChannelType() {
	case "session":
		s.serveSession(stream, channel)
	case "direct-tcpip":
		s.serveDirect(channel, parseDirectTCP)
	case "direct-streamlocal@openssh.com":
		s.serveDirect(channel, s.parseDirectUnix)
	default: // also x11 and auth-agent, which only a server opens
		_ = channel.Reject(ssh.UnknownChannelType, "not served here")
	}
}

// answerGlobal: keepalive wants any answer at all. Forwards from the guest to the host (tcpip-forward, streamlocal-forward) are refused:
// nothing in the guest gets a way to the host that its owner has not asked for by name.
func answerGlobal(requests <-chan *ssh.Request) {
	for request := range requests {
		_ = request.Reply(request.Type == "keepalive@openssh.com", nil)
	}
}

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// pump copies until one side ends; it never holds more than its buffer.
func pump(to io.Writer, from io.Reader) (readErr, writeErr error) {
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			if _, writeErr = to.Write(buffer[:n]); writeErr != nil {
				return nil, writeErr
			}
		}
		if err != nil {
			return err, nil
		}
	}
}
