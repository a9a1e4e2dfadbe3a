package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxTailBytes of a child's messages are kept as evidence; the contract's bound for evidence is the same.
const maxTailBytes = 16 << 10

// Spec says what to run.
type Spec struct {
	Role    string // "hypervisor" or "vsock"; for messages
	Path    string
	Args    []string   // without the program's name
	Files   []*os.File // descriptors 3, 4, …; the caller closes its own copies after Start
	Confine Confinement
}

// Process is a running or finished child. All methods may be called from any goroutine and in every state.
type Process struct {
	Role string
	Pid  int
	// Held says what confinement is in force, for the log.
	Held []string

	done  chan struct{}
	state *os.ProcessState // set before done is closed

	lock    sync.Mutex // guards process against a kill after the pid was reaped, and tail
	process *os.Process
	tail    []byte
}

// Start runs a child; it returns when the program has been executed, or why it was not.
func Start(spec Spec) (*Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	messages, childEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childEnd.Close()

	p := &Process{Role: spec.Role, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.live(spec, append([]*os.File{null, childEnd, childEnd}, spec.Files...), messages, started)
	if err := <-started; err != nil {
		messages.Close()
		return nil, err
	}
	return p, nil
}

// live is the child's thread: see doc.go. It never unlocks, so the thread ends with the goroutine.
func (p *Process) live(spec Spec, files []*os.File, messages *os.File, started chan<- error) {
	runtime.LockOSThread()
	held, err := spec.Confine.apply()
	if err != nil {
		started <- fmt.Errorf("confining %s: %w", spec.Role, err)
		return
	}
	process, err := os.StartProcess(spec.Path, append([]string{spec.Path}, spec.Args...), &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"LC_ALL=C.UTF-8"},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		started <- err
		return
	}
	p.process, p.Pid, p.Held = process, process.Pid, held
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.collect(messages)
	}()
	started <- nil

	// Wait without reaping first, so that Kill under the lock can never hit a pid that somebody else got.
	waitExited(process.Pid)
	p.lock.Lock()
	state, err := process.Wait()
	p.process = nil
	p.lock.Unlock()
	if err == nil {
		p.state = state
	}
	<-drained // the last messages are the evidence
	close(p.done)
}

func waitExited(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// collect keeps the newest of the child's messages and never lets the child wait.
func (p *Process) collect(messages *os.File) {
	defer messages.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := messages.Read(buffer)
		p.lock.Lock()
		p.tail = append(p.tail, buffer[:n]...)
		if len(p.tail) > maxTailBytes {
			p.tail = append([]byte(nil), p.tail[len(p.tail)-maxTailBytes:]...)
		}
		p.lock.Unlock()
		if err != nil {
			return
		}
	}
}

// Done is closed when the child has ended, was reaped, and its last messages are in.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive says whether the child has not ended yet.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the child at once. It may be called twice and after the end.
func (p *Process) Kill() { _ = p.send(syscall.SIGKILL) }

// haltPatience is how long a child may take until all its threads stand still: one may be in the middle of a write to a slow disk.
const haltPatience = 5 * time.Second

// Halt has the child stand still, with all its threads, until Continue. It may be called twice. A child that does not within haltPatience
// goes on.
func (p *Process) Halt() error {
	if err := p.send(syscall.SIGSTOP); err != nil {
		return err
	}
	for until := time.Now().Add(haltPatience); ; time.Sleep(time.Millisecond) {
		halted, err := p.halted()
		if halted || err != nil {
			return err
		}
		if time.Now().After(until) {
			_ = p.send(syscall.SIGCONT)
			return fmt.Errorf("%s did not stand still within %s", p.Role, haltPatience)
		}
	}
}

// Continue lets a halted child go on. It may be called twice.
func (p *Process) Continue() error { return p.send(syscall.SIGCONT) }

func (p *Process) send(signal syscall.Signal) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.process == nil {
		return os.ErrProcessDone
	}
	return p.process.Signal(signal)
}

// halted asks without taking the answer away, so that it can be asked again.
func (p *Process) halted() (bool, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.process == nil {
		return false, os.ErrProcessDone
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD), err
}

// End is how a child ended: by an exit status or by a signal.
type End struct {
	Status *int   // absent when a signal ended it
	Signal string // "SIGKILL"; empty when it exited
}

// End is valid after Done.
func (p *Process) End() End {
	if p.state == nil {
		return End{Signal: "unknown"}
	}
	status := p.state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return End{Signal: unix.SignalName(status.Signal())}
	}
	code := status.ExitStatus()
	return End{Status: &code}
}

func (e End) String() string {
	if e.Status == nil {
		return "killed by " + e.Signal
	}
	return fmt.Sprintf("exit status %d", *e.Status)
}

// Messages is the tail of what the child wrote to stdout and stderr.
func (p *Process) Messages() string {
	p.lock.Lock()
	defer p.lock.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(p.tail), "?"))
}
