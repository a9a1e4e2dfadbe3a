package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

type sshKeys struct {
	host, user ssh.Signer
	hostPEM    string
}

func newKey(t testing.TB) (ssh.Signer, string) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// sshServer is a service whose processes run as the test does.
type sshServer struct {
	*sshService
	keys sshKeys
}

func newSSHServer(t testing.TB, env map[string]string) *sshServer {
	var keys sshKeys
	keys.host, keys.hostPEM = newKey(t)
	keys.user, _ = newKey(t)
	s := newSSHService(testProcs(), func() {})
	config, err := serverConfig("you", keys.hostPEM, string(ssh.MarshalAuthorizedKey(keys.user.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	s.config, s.user, s.own, s.group = config, you, true, func() int { return -1 }
	pairs := merged(you, false, env)
	s.env.Store(&pairs)
	return &sshServer{s, keys}
}

// stream is a socket pair with the server at its other end; wait returns when the server has left it with nothing behind.
func (s *sshServer) stream(t testing.TB) (net.Conn, func()) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		s.serve(&streamConn{byteStream: os.NewFile(uintptr(pair[1]), "server")})
		close(done)
	}()
	ours := &streamConn{byteStream: os.NewFile(uintptr(pair[0]), "client")}
	return ours, func() {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			buffer := make([]byte, 1<<20)
			t.Fatalf("the server does not leave the stream\n%s", buffer[:runtime.Stack(buffer, true)])
		}
	}
}

func (s *sshServer) login(t testing.TB, user string, auth ...ssh.AuthMethod) (*ssh.Client, func(), error) {
	stream, wait := s.stream(t)
	conn, channels, requests, err := ssh.NewClientConn(stream, "guest", &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(s.keys.host.PublicKey()), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		stream.Close()
		return nil, wait, err
	}
	return ssh.NewClient(conn, channels, requests), wait, nil
}

func (s *sshServer) client(t testing.TB) *ssh.Client {
	client, wait, err := s.login(t, "you", ssh.PublicKeys(s.keys.user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); wait() })
	return client
}

func newSession(t testing.TB, client *ssh.Client) *ssh.Session {
	x, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func output(t testing.TB, client *ssh.Client, line string) string {
	out, err := newSession(t, client).Output(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return string(out)
}

func within(t testing.TB, what string, f func() bool) {
	for until := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

func TestSSH_OnlyTheUserWithTheKeyComesIn(t *testing.T) {
	s := newSSHServer(t, nil)
	other, _ := newKey(t)
	for what, login := range map[string]struct {
		user string
		auth []ssh.AuthMethod
	}{
		"another key":       {"you", []ssh.AuthMethod{ssh.PublicKeys(other)}},
		"root":              {"root", []ssh.AuthMethod{ssh.PublicKeys(s.keys.user)}},
		"no name":           {"", []ssh.AuthMethod{ssh.PublicKeys(s.keys.user)}},
		"a password":        {"you", []ssh.AuthMethod{ssh.Password("")}},
		"questions":         {"you", []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) { return q, nil })}},
		"nothing":           {"you", nil},
		"too many at first": {"you", []ssh.AuthMethod{ssh.PublicKeys(other, other, other, other, s.keys.user)}},
	} {
		client, wait, err := s.login(t, login.user, login.auth...)
		if err == nil {
			client.Close()
			t.Errorf("%s: came in", what)
		}
		wait()
	}
	if got := output(t, s.client(t), "echo in"); got != "in\n" {
		t.Error(got)
	}
}

func TestSSH_KeysThatCannotBeMeant_AreRefused(t *testing.T) {
	key, text := newKey(t)
	public := string(ssh.MarshalAuthorizedKey(key.PublicKey()))
	for _, c := range [][2]string{{"", public}, {"junk", public}, {text, ""}, {text, "ssh-ed25519 AAAA you"}, {text, `command="true" ` + public}} {
		if _, err := serverConfig("you", c[0], c[1]); err == nil {
			t.Errorf("%.20q %.20q: accepted", c[0], c[1])
		}
	}
	if _, err := serverConfig("you", text, public); err != nil {
		t.Error(err)
	}
}

func TestSSH_OnlyTheAgreedAlgorithms(t *testing.T) {
	s := newSSHServer(t, nil)
	for what, config := range map[string]ssh.Config{
		"cipher": {Ciphers: []string{"aes128-ctr", "aes256-gcm@openssh.com"}}, "key exchange": {KeyExchanges: []string{"ecdh-sha2-nistp256"}},
	} {
		stream, wait := s.stream(t)
		_, _, _, err := ssh.NewClientConn(stream, "guest", &ssh.ClientConfig{
			Config: config, User: "you", Auth: []ssh.AuthMethod{ssh.PublicKeys(s.keys.user)}, HostKeyCallback: ssh.FixedHostKey(s.keys.host.PublicKey()),
		})
		if err == nil {
			t.Errorf("another %s was agreed on", what)
		}
		stream.Close()
		wait()
	}
}

func TestSSH_Exec_StatusSignalOutputsAndInput(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	for line, want := range map[string]int{"true": 0, "exit 7": 7, "exit 255": 255, "no-such-program-here": 127} {
		err := newSession(t, client).Run(line)
		got := 0
		var exit *ssh.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitStatus()
		} else if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if got != want {
			t.Errorf("%s: %d, not %d", line, got, want)
		}
	}
	for line, want := range map[string]string{"kill -TERM $$": "TERM", "kill -SEGV $$": "SEGV", "kill -BUS $$": "BUS"} {
		var exit *ssh.ExitError
		if err := newSession(t, client).Run(line); !errors.As(err, &exit) || exit.Signal() != want {
			t.Errorf("%s: %v", line, err)
		}
	}
	x := newSession(t, client)
	var out, diagnostics bytes.Buffer
	x.Stdin, x.Stdout, x.Stderr = strings.NewReader("one\ntwo\n"), &out, &diagnostics
	if err := x.Run("cat; echo problem >&2"); err != nil || out.String() != "one\ntwo\n" || diagnostics.String() != "problem\n" {
		t.Errorf("%v %q %q", err, out.String(), diagnostics.String())
	}
	line := `test -p /dev/stdin && umask; read -r _ _ _ _ group leader _ </proc/$$/stat; test $group = $$ -a $leader = $$ && echo leader`
	if got := output(t, client, line); got != "0022\nleader\n" {
		t.Errorf("%q", got)
	}
}

func TestSSH_InputThatNobodyReads_HoldsNothingUp(t *testing.T) {
	x := newSession(t, newSSHServer(t, nil).client(t))
	in, _ := x.StdinPipe()
	if err := x.Start("exec 0<&-; sleep 0.3; exit 4"); err != nil {
		t.Fatal(err)
	}
	n, _ := in.Write(make([]byte, 8<<20)) // more than the window: the server takes it although the process does not
	var exit *ssh.ExitError
	if err := x.Wait(); n != 8<<20 || !errors.As(err, &exit) || exit.ExitStatus() != 4 {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
}

func TestSSH_MuchOutputToASlowReader_ArrivesWholeAndIsNotKept(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	x := newSession(t, client)
	from, err := x.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	const size = 48 << 20
	if err := x.Start("head -c " + itoa(size) + " /dev/zero; exit 3"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 16<<20 { // the client's window of 2 MiB is in here as well
		t.Errorf("%d bytes are kept for a reader that does not read", m.HeapAlloc)
	}
	n, err := io.Copy(io.Discard, from)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	var exit *ssh.ExitError
	if err := x.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Error(err)
	}
}

func TestSSH_AProcessLeftBehindWithTheOutput_KeepsTheSession(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	began := time.Now()
	if got := output(t, client, "(sleep 0.5; echo late) & echo early"); got != "early\nlate\n" || time.Since(began) < 400*time.Millisecond {
		t.Errorf("%q after %v", got, time.Since(began))
	}
	began = time.Now()
	if got := output(t, client, "sleep 30 </dev/null >/dev/null 2>&1 & echo $!"); time.Since(began) > 10*time.Second {
		t.Errorf("%q after %v", got, time.Since(began))
	} else {
		output(t, client, "kill "+got)
	}
}

// commandName is the subsystem of a command; bytes of the words are kept.
func commandName(directory string, makeIt bool, env map[string]string, argv ...string) string {
	p := commandParams{Argv: []string{}, Directory: directory, Make: makeIt, Environment: env}
	if env == nil {
		p.Environment = map[string]string{}
	}
	for _, word := range argv {
		p.Argv = append(p.Argv, base64.StdEncoding.EncodeToString([]byte(word)))
	}
	raw, _ := json.Marshal(p)
	return commandSubsystem + string(raw)
}

// runCommand gives what a command wrote, its errors and its status; -1 where the request was refused.
func runCommand(t *testing.T, client *ssh.Client, name string) (out, problems string, status int) {
	t.Helper()
	channel, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	statuses := make(chan int, 1)
	go func() {
		defer close(statuses)
		for r := range requests {
			var m struct{ Status uint32 }
			if r.Type == "exit-status" && ssh.Unmarshal(r.Payload, &m) == nil {
				statuses <- int(m.Status)
			}
		}
	}()
	if ok, err := channel.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{name})); err != nil || !ok {
		return "", "", -1
	}
	_ = channel.CloseWrite()
	stderr := make(chan []byte, 1)
	go func() { b, _ := io.ReadAll(channel.Stderr()); stderr <- b }()
	stdout, _ := io.ReadAll(channel)
	return string(stdout), string(<-stderr), <-statuses
}

func TestSSH_Command_EveryByteOfEveryWordArrives(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	every := make([]byte, 255)
	for i := range every {
		every[i] = byte(i + 1)
	}
	want := []string{"", "a b", "$HOME `id` $(id) 'x' \"y\" \\", "*", "-n", "\n", string(every), "\xff\xfe"}
	out, problems, status := runCommand(t, client, commandName("/", false, nil, append([]string{"printf", "%s\\0"}, want...)...))
	if got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"); status != 0 || !slices.Equal(got, want) {
		t.Errorf("%d %s\n%q\n%q", status, problems, got, want)
	}
}

func TestSSH_Command_StartsWithoutAShellWhereItCanAndWithOneWhereItCannot(t *testing.T) {
	client := newSSHServer(t, map[string]string{"TASK": "task", "BOTH": "task"}).client(t)
	place := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(place, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("hashbang", "#!/bin/sh\necho here $0 $1", 0o755)
	write("bare", "echo bare $1", 0o755)
	write("closed", "echo closed", 0o644)
	if err := os.Mkdir(filepath.Join(place, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		env    map[string]string
		dir    string
		make   bool
		argv   []string
		out    string
		status int
	}{
		"a program of the path, with no shell's variable about": {nil, place, false, []string{"sh", "-c", `echo $PWD; tr '\0' '\n' </proc/$$/environ | grep -c ^SHLVL=`}, place + "\n0\n", 1},
		"the task's variables under the command's":              {map[string]string{"BOTH": "mine $x"}, "/", false, []string{"sh", "-c", `echo "$TASK|$BOTH"`}, "task|mine $x\n", 0},
		"a program of the directory":                            {nil, place, false, []string{"./hashbang", "a  b"}, "here ./hashbang a b\n", 0},
		"its own status":                                        {nil, "/", false, []string{"sh", "-c", "exit 125"}, "", 125},
		"a script that does not name its shell":                 {nil, place, false, []string{"./bare", "x"}, "bare x\n", 0},
		"a program that may not be run":                         {nil, place, false, []string{"./closed"}, "", 126},
		"a folder":                                              {nil, place, false, []string{"./folder"}, "", 126},
		"a program that is not there":                           {nil, place, false, []string{"no-such-program-here"}, "", 127},
		"a path that is not there":                              {nil, place, false, []string{"/no/such"}, "", 127},
		"an empty word":                                         {nil, place, false, []string{""}, "", 127},
		"a word of the shell's":                                 {nil, place, false, []string{"echo x; true"}, "", 127},
		"a path relative to the directory":                      {map[string]string{"PATH": "."}, place, false, []string{"hashbang", "x"}, "here " + place + "/hashbang x\n", 0},
		"no directory":                                          {nil, place + "/none", false, []string{"true"}, "", 125},
		"a file for a directory":                                {nil, place + "/bare", true, []string{"true"}, "", 125},
		"a directory to make":                                   {nil, place + "/made/deep", true, []string{"/bin/pwd"}, place + "/made/deep\n", 0},
		"a directory that is there":                             {nil, place, true, []string{"/bin/pwd"}, place + "\n", 0},
		"a directory like an option":                            {nil, place + "/-P", true, []string{"/bin/pwd"}, place + "/-P\n", 0},
	} {
		out, problems, status := runCommand(t, client, commandName(c.dir, c.make, c.env, c.argv...))
		if out != c.out || status != c.status {
			t.Errorf("%s: %d %q %q, wanted %d %q", what, status, out, problems, c.status, c.out)
		}
		if status > 125 && problems == "" {
			t.Errorf("%s: no word of why", what)
		}
	}
}

func TestSSH_Command_WhatIsNoneIsRefused(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	good := commandName("/", false, nil, "true")
	if _, _, status := runCommand(t, client, good); status != 0 {
		t.Fatalf("the control ends with %d", status)
	}
	for _, name := range []string{
		"", "command@cloche", commandSubsystem, commandSubsystem + "true", commandSubsystem + "{}", good + "{}", strings.ToUpper(good), "x" + good,
		commandName("relative", false, nil, "true"), commandName("/", false, nil), commandName("/", false, map[string]string{"A B": ""}, "true"),
		commandName("/", false, nil, "tr\x00ue"),
	} {
		if out, problems, status := runCommand(t, client, name); status != -1 {
			t.Errorf("%.60q: %d %q %q", name, status, out, problems)
		}
	}
}

func TestSSH_Environment(t *testing.T) {
	s := newSSHServer(t, map[string]string{"TASK": "a\nb", "BOTH": "task"})
	client := s.client(t)
	x := newSession(t, client)
	for _, v := range [][2]string{{"MINE", `x "y" $z`}, {"BOTH", "session"}, {"LINES_", "1\n2"}} {
		if err := x.Setenv(v[0], v[1]); err != nil {
			t.Errorf("%s: %v", v[0], err)
		}
	}
	for _, v := range [][2]string{{"A B", ""}, {"1A", ""}, {"", ""}, {"A=B", ""}, {strings.Repeat("N", 129), ""}, {"NUL", "a\x00"}, {"LONG", strings.Repeat("x", 128<<10)}} {
		if x.Setenv(v[0], v[1]) == nil {
			t.Errorf("%.20q=%.20q: accepted", v[0], v[1])
		}
	}
	out, err := x.Output(`printf '%s|' "$MINE" "$BOTH" "$LINES_" "$TASK" "$USER" "$LOGNAME" "$SHELL" "$SSH_CONNECTION" "$SSH_CLIENT" "$HOME"`)
	if want := `x "y" $z|session|` + "1\n2|a\nb|you|you|/bin/bash|127.0.0.1 0 127.0.0.1 22||/home/you|"; err != nil || string(out) != want {
		t.Errorf("%v\n%q\n%q", err, out, want)
	}
	full := newSession(t, client)
	accepted := 0
	for i := range maxSessionVariables + 10 {
		if full.Setenv("V"+itoa(i), "") == nil {
			accepted++
		}
	}
	if accepted != maxSessionVariables {
		t.Errorf("%d variables were accepted", accepted)
	}
	pairs := merged(you, false, map[string]string{"TASK": "new"})
	s.env.Store(&pairs)
	if got := output(t, client, "echo $TASK"); got != "new\n" {
		t.Errorf("a process that is started after a change has %q", got)
	}
}

func TestSSH_Terminal(t *testing.T) {
	if _, err := os.Stat("/dev/ptmx"); err != nil {
		t.Skip("no terminals here")
	}
	client := newSSHServer(t, nil).client(t)
	x := newSession(t, client)
	if err := x.RequestPty("xterm-256color", 30, 100, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, _ := x.StdinPipe()
	from, _ := x.StdoutPipe()
	text := &seen{}
	go func() { _, _ = io.Copy(text, from) }()
	if err := x.Start(`tty; echo $TERM $SSH_TTY; stty size; trap 'stty size; exit 5' WINCH; trap 'echo hup; exit 6' HUP; read a; echo "got $a"; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	within(t, "the size at the beginning", func() bool { return strings.Contains(text.String(), "30 100") })
	if got := text.String(); !strings.HasPrefix(got, "/dev/pts/") || !strings.Contains(got, "xterm-256color /dev/pts/") {
		t.Errorf("%q", got)
	}
	_, _ = in.Write([]byte("typed\n"))
	within(t, "what was typed", func() bool { return strings.Contains(text.String(), "got typed") })
	if err := x.WindowChange(44, 133); err != nil {
		t.Fatal(err)
	}
	within(t, "the new size", func() bool { return strings.Contains(text.String(), "44 133") })
	var exit *ssh.ExitError
	if err := x.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 5 {
		t.Error(err)
	}
	// Ctrl-C is the terminal's own signal
	x = newSession(t, client)
	_ = x.RequestPty("xterm", 24, 80, ssh.TerminalModes{})
	in, _ = x.StdinPipe()
	if err := x.Start("exec sleep 60"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	_, _ = in.Write([]byte{3})
	if err := x.Wait(); !errors.As(err, &exit) || exit.Signal() != "INT" {
		t.Error(err)
	}
	// the end of the process is the end of the session, whoever holds the terminal
	x = newSession(t, client)
	_ = x.RequestPty("xterm", 24, 80, ssh.TerminalModes{})
	out, err := x.Output("trap '' HUP; sleep 3 & echo last words")
	if err != nil || strings.TrimSpace(string(out)) != "last words" {
		t.Errorf("%q %v", out, err)
	}
}

type seen struct {
	mu   sync.Mutex
	text []byte
}

func (s *seen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	return len(b), nil
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

func TestSSH_Signal_ReachesTheGroup(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	x := newSession(t, client)
	from, _ := x.StdoutPipe()
	if err := x.Start(`sleep 60 & sleep 61 & echo up; wait`); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(from, make([]byte, 3))
	if err := x.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := x.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Error(err)
	}
}

func TestSSH_ClosedChannelAndLostConnection_EndTheGroup(t *testing.T) {
	s := newSSHServer(t, nil)
	for what, end := range map[string]func(*ssh.Client, *ssh.Session){
		"the channel closes":    func(_ *ssh.Client, x *ssh.Session) { x.Close() },
		"the connection breaks": func(c *ssh.Client, _ *ssh.Session) { c.Close() },
	} {
		client, wait, err := s.login(t, "you", ssh.PublicKeys(s.keys.user))
		if err != nil {
			t.Fatal(err)
		}
		x := newSession(t, client)
		from, _ := x.StdoutPipe()
		if err := x.Start(`sleep 60 & echo $! $$; wait`); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 64)
		n, _ := from.Read(line)
		pids := strings.Fields(string(line[:n]))
		if len(pids) != 2 {
			t.Fatalf("%q", line[:n])
		}
		end(client, x)
		for _, pid := range pids {
			within(t, what+" and "+pid+" goes on", func() bool {
				_, err := os.Stat("/proc/" + pid)
				return err != nil
			})
		}
		client.Close()
		wait()
	}
}

func TestSSH_Forwards(t *testing.T) {
	client := newSSHServer(t, nil).client(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{tcp, local} {
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { // answers after the end of what it was sent
					all, _ := io.ReadAll(c)
					_, _ = c.Write(bytes.ToUpper(all))
					c.Close()
				}()
			}
		}()
	}
	for _, to := range [][2]string{{"tcp", tcp.Addr().String()}, {"unix", path}} {
		c, err := client.Dial(to[0], to[1])
		if err != nil {
			t.Fatal(to, err)
		}
		_, _ = c.Write(bytes.Repeat([]byte("hello "), 100_000))
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		all, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(all, bytes.Repeat([]byte("HELLO "), 100_000)) {
			t.Errorf("%s: %d bytes, %v", to, len(all), err)
		}
		c.Close()
	}
	for _, to := range [][2]string{{"tcp", "127.0.0.1:1"}, {"unix", path + "-not"}} {
		if _, err := client.Dial(to[0], to[1]); err == nil {
			t.Errorf("%s: connected", to)
		}
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("the guest may forward to the host")
	}
	if ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil); err != nil || !ok {
		t.Error("no answer to keepalive", ok, err)
	}
	for _, kind := range []string{"x11", "auth-agent@openssh.com", "tun@openssh.com", "odd"} {
		if _, _, err := client.OpenChannel(kind, nil); err == nil {
			t.Errorf("a channel %s was opened", kind)
		}
	}
	x := newSession(t, client)
	for _, request := range []string{"auth-agent-req@openssh.com", "x11-req", "break", "odd"} {
		if ok, _ := x.SendRequest(request, true, nil); ok {
			t.Errorf("%s was granted", request)
		}
	}
	if x.RequestSubsystem("odd") == nil {
		t.Error("a subsystem that is not there was started")
	}
}

func TestSSH_Sftp(t *testing.T) {
	found := false
	for _, path := range sftpServers {
		if _, err := os.Stat(path); err == nil {
			found = true
		}
	}
	if !found {
		t.Skip("no sftp-server here")
	}
	x := newSession(t, newSSHServer(t, nil).client(t))
	in, _ := x.StdinPipe()
	from, _ := x.StdoutPipe()
	if err := x.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3}) // SSH_FXP_INIT, version 3
	answer := make([]byte, 9)
	if _, err := io.ReadFull(from, answer); err != nil || answer[4] != 2 || answer[8] != 3 {
		t.Errorf("%v %v", answer, err)
	}
}

func TestSSH_ManySessions_LeaveNothingBehind(t *testing.T) {
	s := newSSHServer(t, nil)
	count := func() (files int) {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	output(t, s.client(t), "true")
	files, goroutines := count(), runtime.NumGoroutine()
	client, wait, err := s.login(t, "you", ssh.PublicKeys(s.keys.user))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 50 { // at a time
		all.Go(func() {
			for j := range 20 {
				x, err := client.NewSession()
				if err != nil {
					t.Error(err)
					return
				}
				want := itoa(i) + " " + itoa(j) + "\n"
				switch j % 4 {
				case 0: // the client leaves first
					_ = x.Start("exec sleep 60")
					x.Close()
				case 1:
					if _, err := x.StdinPipe(); err == nil {
						_ = x.Run("exit 1")
					}
				default:
					if out, err := x.Output("echo " + want); err != nil || string(out) != want {
						t.Errorf("%q %v", out, err)
					}
				}
				x.Close()
			}
		})
	}
	all.Wait()
	client.Close()
	wait()
	within(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines })
	within(t, "descriptors are left", func() bool { return count() <= files })
}

func TestSSH_APanic_DoesNotSpread(t *testing.T) {
	s := newSSHServer(t, nil)
	client := s.client(t)
	s.group = func() int { panic("a bug") }
	x := newSession(t, client)
	done := make(chan error, 1)
	go func() { done <- x.Run("true") }()
	select {
	case <-done:
	case <-time.After(time.Second): // the request has no answer; what matters is that all else goes on
	}
	x.Close()
	s.group = func() int { return -1 }
	if got := output(t, client, "echo on"); got != "on\n" {
		t.Error(got)
	}
}

func TestAccounts_GroupsAndShell(t *testing.T) {
	gids, tty := supplementary("root:x:0:\ntty:x:7:\nsudo:x:27:you\nstaff:x:50:a,you\nyours:x:60:your\nyou:x:1000:\nbad\n", "you")
	if len(gids) != 2 || gids[0] != 27 || gids[1] != 50 || tty != 7 {
		t.Error(gids, tty)
	}
	if got := loginShell("root:x:0:0::/root:/bin/sh\nyou:x:1000:1000::/home/you:/usr/bin/zsh\n", "you"); got != "/usr/bin/zsh" {
		t.Error(got)
	}
}
