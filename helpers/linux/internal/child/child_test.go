package child

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the child: a first argument "role=…" says what to be.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "role=") {
		role := strings.TrimPrefix(os.Args[1], "role=")
		os.Exit(roles[role](os.Args[2:]))
	}
	os.Exit(m.Run())
}

var roles = map[string]func([]string) int{
	"sleep":  func([]string) int { time.Sleep(time.Hour); return 0 },
	"exit":   func(args []string) int { fmt.Println("last words"); code, _ := strconv.Atoi(args[0]); return code },
	"chatty": func([]string) int { fmt.Print(strings.Repeat("x", 1<<20) + "end"); return 1 },
	"report": func([]string) int {
		status, _ := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(status), "\n") {
			for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"} {
				if strings.HasPrefix(line, name+":") {
					fmt.Println(name, strings.TrimSpace(strings.TrimPrefix(line, name+":")))
				}
			}
		}
		fmt.Println("env", os.Environ())
		session, _ := unix.Getsid(0)
		fmt.Println("leader", session == os.Getpid())
		for fd := range 64 {
			if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && !strings.Contains(target, "anon_inode") && !strings.HasPrefix(target, "/proc/") {
				fmt.Println("fd", fd, strings.Split(target, ":")[0])
			}
		}
		return 0
	},
	"open": func(args []string) int { // every path: may it be opened for reading, for writing?
		for _, path := range args {
			_, read := os.Open(path)
			_, write := os.OpenFile(path, os.O_WRONLY, 0)
			fmt.Println(path, read == nil, write == nil)
		}
		_, err := net.DialTimeout("tcp", "127.0.0.1:9", time.Second)
		fmt.Println("tcp", err)
		return 0
	},
	"socket": func(args []string) int {
		_, err := net.Listen("unix", args[0])
		fmt.Println("socket", err == nil)
		_, err = os.Create(args[1])
		fmt.Println("file", err == nil)
		return 0
	},
	// parent starts a sleeper as the helper does and tells its pid, then waits to be killed.
	"parent": func([]string) int {
		p, err := Start(Spec{Role: "sleeper", Path: self(), Args: []string{"role=sleep"}, Confine: Confinement{ReadExecute: []string{self()}}})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		// Threads come and go in a Go program; the child must not mind.
		for range 20 {
			go func() { runtime.LockOSThread(); time.Sleep(time.Millisecond) }()
		}
		time.Sleep(100 * time.Millisecond)
		fmt.Println(p.Pid, p.Alive())
		time.Sleep(time.Hour)
		return 0
	},
}

func self() string { path, _ := os.Executable(); return path }

func start(t *testing.T, confine Confinement, files []*os.File, args ...string) *Process {
	t.Helper()
	confine.ReadExecute = append(confine.ReadExecute, self())
	p, err := Start(Spec{Role: "test", Path: self(), Args: args, Files: files, Confine: confine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p
}

func finished(t *testing.T, p *Process) string {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	return p.Messages()
}

func TestEnd_StatusAndSignal(t *testing.T) {
	p := start(t, Confinement{}, nil, "role=exit", "7")
	if got := finished(t, p); got != "last words" || p.End().String() != "exit status 7" || p.Alive() {
		t.Errorf("%q, %s", got, p.End())
	}
	p = start(t, Confinement{}, nil, "role=sleep")
	if !p.Alive() {
		t.Error("not alive")
	}
	p.Kill()
	finished(t, p)
	if p.End().Signal != "SIGKILL" || p.End().Status != nil {
		t.Errorf("%+v", p.End())
	}
	p.Kill() // twice, and after the end
}

func TestHalt_StandsStillUntilContinued_AndCanBeKilledMeanwhile(t *testing.T) {
	state := func(p *Process) string {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		return rest[:1]
	}
	p := start(t, Confinement{}, nil, "role=sleep")
	for range 2 {
		if err := p.Halt(); err != nil || state(p) != "T" || !p.Alive() {
			t.Errorf("%v, state %s", err, state(p))
		}
	}
	for range 2 {
		if err := p.Continue(); err != nil || state(p) == "T" {
			t.Errorf("%v, state %s", err, state(p))
		}
	}
	if err := p.Halt(); err != nil {
		t.Error(err)
	}
	p.Kill()
	finished(t, p)
	if p.End().Signal != "SIGKILL" {
		t.Errorf("%+v", p.End())
	}
	for _, err := range []error{p.Halt(), p.Continue()} {
		if !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestStart_NoSuchProgram_IsAnError(t *testing.T) {
	if _, err := Start(Spec{Path: "/nonexistent/qemu"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestMessages_NewestAreKept_AndTheChildNeverWaits(t *testing.T) {
	got := finished(t, start(t, Confinement{}, nil, "role=chatty"))
	if len(got) != maxTailBytes || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestChild_HasNothingButWhatItWasGiven(t *testing.T) {
	t.Setenv("CLOCHE_SECRET", "x")
	extra, err := os.Open("/dev/zero") // not given
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	given, other, _ := os.Pipe()
	defer given.Close()
	defer other.Close()
	got := finished(t, start(t, Confinement{Read: []string{"/proc"}}, []*os.File{given}, "role=report"))
	for _, want := range []string{"NoNewPrivs 1", "CapPrm 0000000000000000", "CapEff 0000000000000000", "CapInh 0000000000000000", "CapAmb 0000000000000000",
		"env [LC_ALL=C.UTF-8]", "leader true", "fd 0 /dev/null", "fd 1 pipe", "fd 2 pipe", "fd 3 pipe"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	if os.Geteuid() == 0 && !strings.Contains(got, "CapBnd 0000000000000000") {
		t.Errorf("root's bounding set is left:\n%s", got)
	}
	if strings.Contains(got, "fd 4") || strings.Contains(got, "zero") {
		t.Errorf("it inherited more:\n%s", got)
	}
}

func landlocked(t *testing.T) {
	t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1); errno != 0 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
}

func TestConfinement_OnlyNamedPaths(t *testing.T) {
	landlocked(t)
	dir := t.TempDir()
	allowed, refused := filepath.Join(dir, "allowed"), filepath.Join(dir, "refused")
	for _, path := range []string{allowed, refused} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := finished(t, start(t, Confinement{Read: []string{allowed}, ReadWrite: []string{"/dev/null"}}, nil, "role=open", allowed, refused, "/etc/passwd", "/dev/null"))
	for _, want := range []string{allowed + " true false", refused + " false false", "/etc/passwd false false", "/dev/null true true"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	// The helper itself is as free as before: the rights were the child's thread's.
	if _, err := os.ReadFile(refused); err != nil {
		t.Errorf("the confinement reached the helper: %v", err)
	}
}

func TestConfinement_SocketsButNoFiles(t *testing.T) {
	landlocked(t)
	dir := t.TempDir()
	got := finished(t, start(t, Confinement{Sockets: []string{dir}}, nil, "role=socket", filepath.Join(dir, "s"), filepath.Join(dir, "f")))
	if got != "socket true\nfile false" {
		t.Error(got)
	}
}

func TestParentKilled_TakesTheChildAlong(t *testing.T) {
	parent := exec.Command(self(), "role=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var alive bool
	if _, err := fmt.Fscan(out, &pid, &alive); err != nil || !alive {
		t.Fatalf("pid %d alive %v: %v", pid, alive, err)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	for until := time.Now().Add(2 * time.Second); running(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d outlived its parent", pid)
		}
	}
}

// running: a zombie that init has not reaped yet does not run any more.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
