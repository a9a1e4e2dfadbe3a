package main

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"cloche/contract"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Commands, terminals, sftp and forwards come over SSH, and the agent serves it: OpenSSH's sshd needs ten times as long for a first
// handshake under emulation (README.md, "Choices"). One connection of the protocol per stream of the host:
//
//	stream ─ handshake, one user, one key (ssh_server.go) ─┬─ session ─ process, pipes or a terminal (ssh_session.go, ssh_pty.go)
//	                                                       └─ direct-tcpip, direct-streamlocal (ssh_forward.go)

const (
	runDir = "/run/cloche"
	// Streams at a time. The keeper has one; `cp` and an editor have theirs.
	maxSSHConnections = 64
)

type sshParams struct {
	Port          int64  `json:"port"`
	HostKey       string `json:"hostKey"`
	AuthorizedKey string `json:"authorizedKey"`
}

func (p sshParams) check() error {
	if err := checkInt("ssh.port", p.Port, firstPort, lastPort); err != nil {
		return err
	}
	if err := checkLength("ssh.hostKey", p.HostKey, maxHostKey); err != nil {
		return err
	}
	if err := checkLength("ssh.authorizedKey", p.AuthorizedKey, maxAuthorizedKey); err != nil {
		return err
	}
	if strings.ContainsAny(strings.TrimSuffix(p.AuthorizedKey, "\n"), "\n\r\x00") {
		return contract.BadParams("ssh.authorizedKey is more than one line")
	}
	return nil
}

// sshService is ssh for one machine: what all its connections share.
type sshService struct {
	procs *registry
	ready func() // waits for what a program needs to be there

	// set before the first stream
	config   *ssh.ServerConfig
	user     guestUser
	captured bool       // what leaves the machine goes through the host
	group    func() int // the control group of what is started
	own      bool       // processes run as the caller is: tests, which are not root
	accounts accounts   // the user's groups and shell
	env      atomic.Pointer[[][2]string]
	slots    chan struct{}

	mu       sync.Mutex // guards the rest
	listener *os.File
	closed   bool
}

func newSSHService(procs *registry, ready func()) *sshService {
	return &sshService{procs: procs, ready: ready, slots: make(chan struct{}, maxSSHConnections)}
}

func (s *sshService) start(p sshParams, u guestUser, env map[string]string, captured bool, group func() int) error {
	fail := func(what string, err error) error { return nativeError("agent.ssh", what, err) }
	if err := putDir(runDir, 0o755, 0, 0); err != nil {
		return fail("the directory of the environment cannot be made", err)
	}
	config, err := serverConfig(u.Name, p.HostKey, p.AuthorizedKey)
	if err != nil {
		return fail("the keys of ssh are of no use", err)
	}
	s.config, s.user, s.captured, s.group = config, u, captured, group
	if err := s.setEnvironment(u, env); err != nil {
		return err
	}
	listener, err := listenHost(uint32(p.Port))
	if err != nil {
		return fail("the ssh port cannot be opened", err)
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	go s.accept(listener)
	return nil
}

// setEnvironment holds for every process that is started after it, on whatever connection.
func (s *sshService) setEnvironment(u guestUser, env map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	env, err := putGitCredentials(u, env)
	if err != nil {
		return nativeError("agent.native", "git's credentials cannot be written", err)
	}
	pairs := merged(u, s.captured, env)
	if err := putFile(environmentFile, shellLines(pairs), 0o644, 0, 0); err != nil {
		return nativeError("agent.native", "the environment cannot be written", err)
	}
	s.env.Store(&pairs)
	return nil
}

func (s *sshService) accept(listener *os.File) {
	for {
		fd, err := acceptHost(listener)
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if !closed {
				logf("ssh: accept: %v", err)
			}
			return
		}
		select {
		case s.slots <- struct{}{}:
		default:
			logf("ssh: more than %d connections at a time", maxSSHConnections)
			unix.Close(fd)
			continue
		}
		go guarded("ssh connection", func() {
			defer func() { <-s.slots }()
			s.serve(&streamConn{byteStream: os.NewFile(uintptr(fd), "ssh")})
		})
	}
}

// close ends the service; connections that are there go on until their processes are ended.
func (s *sshService) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
}
