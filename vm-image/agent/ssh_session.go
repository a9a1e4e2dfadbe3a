package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// The bounds of `env` requests of one session: what one exec of Linux takes, less the task's own variables.
const (
	maxSessionVariables     = 1024
	maxSessionVariableBytes = 128<<10 - 1 - maxVariableName - 1 // MAX_ARG_STRLEN for NAME=VALUE and its NUL
	maxSessionBytes         = 1 << 20
)

var sftpServers = []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server"}

// session is one channel of type session: at most one process, on pipes or on a terminal.
//
// It ends in the order of OpenSSH without a terminal: when the process has ended *and* nobody holds its output open any more, so
// `cmd &` keeps a session for as long as cmd keeps standard output. All output is delivered, then the status, then the end and the close. With a
// terminal the end of the process is the end: what is in the terminal's buffer is delivered, what is left running loses its terminal.
type session struct {
	s       *sshService
	stream  *streamConn
	channel ssh.Channel
	ended   chan struct{} // closed when the channel is, by the client or with its connection

	env      [][2]string
	envBytes int
	terminal *terminal

	child *child
	over  atomic.Bool // the process has ended and its status is sent
	ours  []*os.File  // our ends of the pipes, or the terminal's master
}

func (s *sshService) serveSession(stream *streamConn, request ssh.NewChannel) {
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	x := &session{s: s, stream: stream, channel: channel, ended: make(chan struct{})}
	var done sync.WaitGroup
	for r := range requests {
		run := x.answer(r)
		if run != nil {
			done.Add(1)
			go guarded("ssh session", func() { defer done.Done(); run() })
		}
	}
	// The client closed the channel or is gone. What still runs is told so; pipes close, so that who ignores it meets the broken pipe.
	// What a process left behind when it ended by itself goes on.
	close(x.ended)
	if x.child != nil && !x.over.Load() {
		_ = x.child.signal(unix.SIGHUP)
	} else if x.child == nil {
		_ = channel.Close()
	}
	x.closeOurs()
	if x.child == nil && x.terminal != nil {
		x.terminal.slave.Close()
	}
	done.Wait()
}

// answer acts on one request of the channel; it returns what has to run beside the requests that follow.
func (x *session) answer(r *ssh.Request) (run func()) {
	ok := false
	switch r.Type {
	case "env":
		ok = x.child == nil && x.addVariable(r.Payload)
	case "pty-req":
		if x.child == nil && x.terminal == nil {
			ok = x.openTerminal(r.Payload)
		}
	case "window-change":
		var size struct{ Columns, Rows, Width, Height uint32 }
		if x.terminal != nil && ssh.Unmarshal(r.Payload, &size) == nil {
			ok = x.terminal.resize(size.Columns, size.Rows, size.Width, size.Height) == nil
		}
	case "signal":
		var m struct{ Name string }
		if x.child != nil && ssh.Unmarshal(r.Payload, &m) == nil {
			if n := signalNumber(m.Name); n != 0 {
				ok = x.child.signal(n) == nil
			}
		}
	case "shell":
		path := x.s.shell()
		run = x.startFromHome(path, []string{"-" + path[strings.LastIndexByte(path, '/')+1:]})
		ok = run != nil
	case "exec":
		var m struct{ Line string }
		if ssh.Unmarshal(r.Payload, &m) == nil {
			// bash whatever the user's shell: the host quotes for bash
			run = x.startFromHome("/bin/bash", []string{"bash", "-c", m.Line})
			ok = run != nil
		}
	case "subsystem":
		var m struct{ Name string }
		if x.child != nil || x.terminal != nil || ssh.Unmarshal(r.Payload, &m) != nil {
			break
		}
		if m.Name == "sftp" {
			for _, path := range sftpServers {
				if _, err := os.Stat(path); err == nil {
					run = x.startFromHome(path, []string{path})
					break
				}
			}
		} else if params, is := strings.CutPrefix(m.Name, commandSubsystem); is {
			w, err := parseCommand(json.RawMessage(params))
			if err != nil {
				logf("ssh: a command was refused: %v", err)
				break
			}
			run = x.startCommand(w)
		}
		ok = run != nil
	}
	// agent forwarding and X11 among the refused: the guest gets no way to what the host's user can do
	_ = r.Reply(ok, nil)
	return run
}

func (x *session) addVariable(payload []byte) bool {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(payload, &m) != nil || checkVariableName(m.Name) != nil || strings.IndexByte(m.Value, 0) >= 0 {
		return false
	}
	size := len(m.Name) + len(m.Value) + 2
	if len(x.env) >= maxSessionVariables || len(m.Value) > maxSessionVariableBytes || x.envBytes+size > maxSessionBytes {
		return false
	}
	x.env = append(x.env, [2]string{m.Name, m.Value})
	x.envBytes += size
	return true
}

func (x *session) openTerminal(payload []byte) bool {
	var m struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string // the kernel's defaults are what people expect; a program that wants others sets them
	}
	if ssh.Unmarshal(payload, &m) != nil || len(m.Term) > 128 || strings.IndexByte(m.Term, 0) >= 0 {
		return false
	}
	t, err := openTerminal(x.s.owner())
	if err != nil {
		logf("ssh: a terminal cannot be opened: %v", err)
		return false
	}
	t.term = m.Term
	_ = t.resize(m.Columns, m.Rows, m.Width, m.Height)
	x.terminal, x.ours = t, []*os.File{t.master}
	return true
}

func (x *session) closeOurs() {
	for _, f := range x.ours {
		f.Close()
	}
}

// way is one of the ways to start what a session asks for.
type way struct {
	path string
	args []string
	dir  string
}

// fromHome is how a program starts as under sshd: in the user's home, and in / when that is gone or closed.
func (x *session) fromHome(path string, args []string) []way {
	return []way{{path, args, x.s.user.home()}, {path, args, "/"}}
}

func (x *session) startFromHome(path string, args []string) (run func()) {
	return x.start(x.environment(), x.fromHome(path, args)...)
}

// start runs a program as the user, in the first of the ways that works; nil when none did or the session has one already.
func (x *session) start(env []string, ways ...way) (run func()) {
	if x.child != nil {
		return nil
	}
	c := command{env: env, group: x.s.group(), user: x.s.credential()}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if x.terminal != nil {
		slave := x.terminal.slave
		theirs = []*os.File{slave}
		c.terminal = true
		c.files = []uintptr{slave.Fd(), slave.Fd(), slave.Fd()}
	} else {
		// Pipes and not sockets: a bash whose standard input is a socket takes itself for rshd's and reads ~/.bashrc.
		for i := range 3 {
			mine, other, err := pipe(i == 0)
			if err != nil {
				logf("ssh: a pipe cannot be made: %v", err)
				x.closeOurs()
				x.ours = nil
				return nil
			}
			x.ours, theirs = append(x.ours, mine), append(theirs, other)
			c.files = append(c.files, other.Fd())
		}
	}
	x.s.ready()
	var began *child
	var err error
	for _, w := range ways {
		c.path, c.args, c.dir = w.path, w.args, w.dir
		if began, err = x.s.procs.start(c); err == nil {
			break
		}
	}
	if err != nil {
		logf("ssh: %s cannot be started: %v", c.path, err)
		if x.terminal == nil {
			x.closeOurs()
			x.ours = nil
		}
		return nil
	}
	x.child = began
	return x.run
}

// pipe is one whose far end is blocking, as programs expect; ours waits in Go's poller.
func pipe(input bool) (ours, theirs *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	mine, other := p[0], p[1]
	if input {
		mine, other = other, mine
	}
	if err := unix.SetNonblock(mine, true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(mine), "pipe"), os.NewFile(uintptr(other), "pipe"), nil
}

// run carries the session's bytes and ends it. It returns when nothing of it is left here.
func (x *session) run() {
	var output sync.WaitGroup
	carry := func(f func()) {
		output.Add(1)
		go guarded("ssh output", func() { defer output.Done(); f() })
	}
	input := x.ours[0]
	var finished chan struct{}
	if x.terminal != nil {
		finished = make(chan struct{})
		carry(func() { x.drainTerminal(finished) })
	} else {
		carry(func() { x.drain(x.channel, x.ours[1]) })
		carry(func() { x.drain(x.channel.Stderr(), x.ours[2]) })
	}
	inputDone := make(chan struct{})
	go guarded("ssh input", func() {
		defer close(inputDone)
		if _, err := pump(input, x.channel); err != nil {
			_, _ = pump(io.Discard, x.channel) // nobody reads any more: the client must not be held up by that
		} else if x.terminal == nil {
			input.Close()
		}
	})
	var status syscall.WaitStatus
	select {
	case status = <-x.child.done:
		if x.terminal != nil {
			close(finished)
			_ = input.SetReadDeadline(time.Now().Add(terminalRest))
		} else {
			input.Close()
		}
		output.Wait()
		x.stream.together(func() {
			// The status before the end of the data: at that end a client may close the channel, and no status goes through a closed one.
			x.sendStatus(status)
			x.over.Store(true)
			_ = x.channel.CloseWrite()
			// The client answers a close with one of its own, which ends the requests and with them all that waits for the channel.
			_ = x.channel.Close()
		})
	case <-x.ended:
		_ = x.channel.Close()
	}
	<-x.ended
	output.Wait()
	<-inputDone
	x.child.release()
}

// drain delivers an output to its end. A client that is gone closes the pipe.
func (x *session) drain(to io.Writer, from *os.File) {
	_, _ = pump(to, from)
	from.Close()
}

func (x *session) sendStatus(status syscall.WaitStatus) {
	if status.Signaled() {
		_, _ = x.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name          string
			Core          bool
			Message, Lang string
		}{signalName(status.Signal()), status.CoreDump(), "", ""}))
		return
	}
	_, _ = x.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
}

// signalNumber reads a name of RFC 4254 6.10, which are Linux's without SIG; Linux's other names are understood too.
func signalNumber(name string) syscall.Signal {
	return unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
}

// signalName is the reverse. Of the signals that the RFC does not name the plain name is sent, which the keeper knows.
func signalName(n syscall.Signal) string {
	if name := unix.SignalName(n); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return "SIG" + itoa(int(n)) + "@cloche"
}
