package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// accounts keeps what the guest's files say of the user: `usermod -aG docker you` and `chsh` hold for the next session, as under sshd.
type accounts struct {
	mu      sync.Mutex
	groups  cached[[]uint32]
	shell   cached[string]
	ttyGID  int
	wasRead bool
}

// cached is what was read from a file, for as long as the file is the same.
type cached[T any] struct {
	of    unix.Stat_t
	value T
}

func (c *cached[T]) get(path string, parse func(string) T) T {
	var now unix.Stat_t
	if unix.Stat(path, &now) != nil {
		return c.value
	}
	if now.Dev == c.of.Dev && now.Ino == c.of.Ino && now.Size == c.of.Size && now.Mtim == c.of.Mtim && now.Ctim == c.of.Ctim {
		return c.value
	}
	if text, err := os.ReadFile(path); err == nil {
		c.value, c.of = parse(string(text)), now
	}
	return c.value
}

// supplementary lists the groups that have the user as a member, and the terminals' group.
func supplementary(group, user string) (gids []uint32, tty int) {
	tty = 5
	for line := range strings.SplitSeq(group, "\n") {
		f := strings.Split(line, ":")
		if len(f) != 4 {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		if f[0] == "tty" {
			tty = int(gid)
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if member == user {
				gids = append(gids, uint32(gid))
			}
		}
	}
	return gids, tty
}

func loginShell(passwd, user string) string {
	for line := range strings.SplitSeq(passwd, "\n") {
		f := strings.Split(line, ":")
		if len(f) == 7 && f[0] == user && strings.HasPrefix(f[6], "/") {
			return f[6]
		}
	}
	return "/bin/bash"
}

// credential is the user as the kernel knows him; nil leaves a process as the agent is.
func (s *sshService) credential() *syscall.Credential {
	if s.own {
		return nil
	}
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	groups := s.accounts.groups.get("/etc/group", func(text string) []uint32 {
		gids, tty := supplementary(text, s.user.Name)
		s.accounts.ttyGID = tty
		return append([]uint32{uint32(s.user.GID)}, gids...)
	})
	if groups == nil {
		groups = []uint32{uint32(s.user.GID)}
	}
	return &syscall.Credential{Uid: uint32(s.user.UID), Gid: uint32(s.user.GID), Groups: groups}
}

// owner is whose a new terminal is.
func (s *sshService) owner() (uid, gid int) {
	if s.own {
		return -1, -1
	}
	s.credential()
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return int(s.user.UID), max(s.accounts.ttyGID, 0)
}

func (s *sshService) shell() string {
	if s.own {
		return "/bin/bash"
	}
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	path := s.accounts.shell.get("/etc/passwd", func(text string) string { return loginShell(text, s.user.Name) })
	if path == "" {
		return "/bin/bash"
	}
	return path
}

// environment is what a process starts with: who the user is, the task's variables, the client's for this session, the terminal.
// SSH_CLIENT is missing on purpose: Debian's bash reads ~/.bashrc before every command when it is there, which a command would pay for.
// Editors look at SSH_CONNECTION and SSH_TTY; there is no network, so the addresses are placeholders.
func (x *session) environment() []string {
	u := x.s.user
	pairs := [][2]string{
		{"USER", u.Name}, {"LOGNAME", u.Name}, {"HOME", u.home()}, {"SHELL", x.s.shell()}, {"MAIL", "/var/mail/" + u.Name},
		{"SSH_CONNECTION", "127.0.0.1 0 127.0.0.1 22"},
	}
	if task := x.s.env.Load(); task != nil {
		pairs = append(pairs, *task...)
	}
	pairs = append(pairs, x.env...)
	if x.terminal != nil {
		pairs = append(pairs, [2]string{"SSH_TTY", x.terminal.name})
		if x.terminal.term != "" {
			pairs = append(pairs, [2]string{"TERM", x.terminal.term})
		}
	}
	at := make(map[string]int, len(pairs))
	list := make([]string, 0, len(pairs))
	for _, p := range pairs {
		text := p[0] + "=" + p[1]
		if i, ok := at[p[0]]; ok {
			list[i] = text
			continue
		}
		at[p[0]] = len(list)
		list = append(list, text)
	}
	return list
}
