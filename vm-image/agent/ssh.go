package main

import (
	"os"
	"strings"
	"sync"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// Commands, terminals, sftp and forwards are OpenSSH's. The agent listens on vsock and gives each stream of the host to an sshd of
// its own, as standard input and output: no byte passes through the agent.

const (
	runDir = "/run/cloche"
	// Readable by the user, because sshd reads the authorized key with his rights; the host key beside it is root's alone.
	sshDir            = runDir + "/ssh"
	hostKeyFile       = sshDir + "/host_key"
	authorizedKeyFile = sshDir + "/authorized_keys"
	sshdConfigFile    = sshDir + "/sshd_config"
)

// sshdPrograms: OpenSSH as the image builds it for the guest, static and without Kerberos, PAM and audit, when the image has it; else Debian's.
var sshdPrograms = []string{"/usr/lib/cloche/sshd", "/usr/sbin/sshd"}

func findSshd() (string, error) {
	var err error
	for _, path := range sshdPrograms {
		if _, err = os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", err
}

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

// sshdConfig is the whole configuration; nothing of /etc/ssh is read. First the wall's side: one user, one key, no PAM (a third of
// the handshake). Then speed under emulation: one algorithm of each kind, those that cost least, and no look-ups.
func sshdConfig(u guestUser, env map[string]string) string {
	return strings.Join([]string{
		"HostKey " + hostKeyFile,
		"AuthorizedKeysFile " + authorizedKeyFile,
		"AllowUsers " + u.Name,
		"AuthenticationMethods publickey",
		"PubkeyAuthentication yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin no",
		"UsePAM no",
		"PermitUserRC no",
		"PermitUserEnvironment no",
		"AcceptEnv *", // only the keeper has the key
		"SetEnv" + sshdWords(merged(u, env)),
		"KexAlgorithms curve25519-sha256",
		"HostKeyAlgorithms ssh-ed25519",
		"PubkeyAcceptedAlgorithms ssh-ed25519",
		"Ciphers aes128-gcm@openssh.com,chacha20-poly1305@openssh.com",
		"Compression no",
		"UseDNS no",
		"TCPKeepAlive no",
		"ClientAliveInterval 0",
		"LoginGraceTime 60",
		"MaxSessions 4096", // channels of one connection: the keeper has one
		"MaxAuthTries 3",
		"PrintMotd no",
		"PrintLastLog no",
		"X11Forwarding no",
		"AllowTcpForwarding yes",
		"AllowStreamLocalForwarding yes",
		"StreamLocalBindUnlink yes",
		"GatewayPorts no",
		"PidFile none",
		"LogLevel ERROR",
		"Subsystem sftp internal-sftp",
		"",
	}, "\n")
}

type sshService struct {
	procs *registry

	program  string     // set before the first stream
	mu       sync.Mutex // guards the rest
	listener *os.File
	closed   bool
}

func (s *sshService) start(p sshParams, u guestUser, env map[string]string, group func() int) error {
	fail := func(what string, err error) error { return nativeError("agent.ssh", what, err) }
	for _, dir := range []struct {
		path string
		mode uint32
	}{{runDir, 0o755}, {sshDir, 0o755}, {"/run/sshd", 0o755}} {
		if err := putDir(dir.path, dir.mode, 0, 0); err != nil {
			return fail("a directory of ssh cannot be made", err)
		}
	}
	if err := putFile(hostKeyFile, withNewline(p.HostKey), 0o600, 0, 0); err != nil {
		return fail("the host key cannot be written", err)
	}
	if err := putFile(authorizedKeyFile, withNewline(p.AuthorizedKey), 0o644, 0, 0); err != nil {
		return fail("the authorized key cannot be written", err)
	}
	if err := s.setEnvironment(u, env); err != nil {
		return err
	}
	program, err := findSshd()
	if err != nil {
		return fail("sshd is missing", err)
	}
	listener, err := listenHost(uint32(p.Port))
	if err != nil {
		return fail("the ssh port cannot be opened", err)
	}
	s.mu.Lock()
	s.listener, s.program = listener, program
	s.mu.Unlock()
	go s.accept(listener, group)
	return nil
}

// setEnvironment writes the files that new connections read.
func (s *sshService) setEnvironment(u guestUser, env map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := putFile(environmentFile, shellLines(merged(u, env)), 0o644, 0, 0); err != nil {
		return nativeError("agent.native", "the environment cannot be written", err)
	}
	if err := putFile(sshdConfigFile, sshdConfig(u, env), 0o600, 0, 0); err != nil {
		return nativeError("agent.ssh", "the configuration of sshd cannot be written", err)
	}
	return nil
}

func (s *sshService) accept(listener *os.File, group func() int) {
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
		if err := s.serve(fd, group()); err != nil {
			logf("ssh: %v", err)
		}
		unix.Close(fd)
	}
}

// serve starts one sshd on the stream. Its messages go to the kernel's log, below the console's level.
func (s *sshService) serve(fd, group int) error {
	_, err := s.procs.start(command{
		path: s.program,
		args: []string{s.program, // sshd wants its own full path
			"-i", "-e", "-f", sshdConfigFile},
		env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		files: []uintptr{uintptr(fd), uintptr(fd), uintptr(logFd)},
		group: group,
	})
	return err
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

func withNewline(text string) string { return strings.TrimRight(text, "\n") + "\n" }
