package main

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// registry is the one place where children are started and reaped. PID 1 gets the orphans of the whole guest beside its own
// children; a second wait anywhere (os/exec has one) would race with it for exit statuses.
type registry struct {
	mu       sync.Mutex // held from before a start until the child is registered, so that its end cannot come first
	children map[int]chan syscall.WaitStatus
	started  chan struct{} // wakes the reaper when it had no children; one token is enough
	empty    chan struct{} // closed while nothing at all is left to reap
	isEmpty  bool
}

func newRegistry() *registry {
	r := &registry{children: map[int]chan syscall.WaitStatus{}, started: make(chan struct{}, 1), empty: make(chan struct{}), isEmpty: true}
	close(r.empty)
	return r
}

// command is a program to start, in a session of its own. No shell, no search path.
type command struct {
	path     string
	args     []string
	env      []string
	files    []uintptr           // 0, 1, 2
	group    int                 // directory of a control group, -1 for none
	dir      string              // the working directory; "" for /
	user     *syscall.Credential // nil: as the agent
	terminal bool                // standard input becomes its controlling terminal
}

// child is a started program; its status comes once.
type child struct {
	pid  int
	done chan syscall.WaitStatus

	r     *registry
	pidfd int // -1 where the kernel has none, and once released; guarded by the registry
}

// signal goes to the program's process group. The descriptor names the group even when its leader is reaped and the number is somebody else's.
func (c *child) signal(n syscall.Signal) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.pidfd >= 0 {
		if err := unix.PidfdSendSignal(c.pidfd, n, nil, pidfdProcessGroup); err != unix.EINVAL {
			return err
		}
	}
	// before Linux 6.9: only while the leader is there
	if c.r.children[c.pid] != c.done {
		return unix.ESRCH
	}
	return syscall.Kill(-c.pid, n)
}

// PIDFD_SIGNAL_PROCESS_GROUP
const pidfdProcessGroup = 1 << 2

// release gives the descriptor back. It is to be called once for each child.
func (c *child) release() {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
}

func (r *registry) start(c command) (*child, error) {
	pidfd := -1
	attr := &syscall.ProcAttr{Dir: "/", Env: c.env, Files: c.files, Sys: &syscall.SysProcAttr{
		Setsid: true, Setctty: c.terminal, Credential: c.user, PidFD: &pidfd,
	}}
	if c.dir != "" {
		attr.Dir = c.dir
	}
	if c.group >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, c.group
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(c.path, c.args, attr)
	if err != nil {
		return nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	r.children[pid] = done
	if r.isEmpty {
		r.isEmpty = false
		r.empty = make(chan struct{})
	}
	select {
	case r.started <- struct{}{}:
	default:
	}
	return &child{pid: pid, done: done, r: r, pidfd: pidfd}, nil
}

// reap runs for ever. ECHILD means that no process but the kernel's is left: a child that ends leaves its children to PID 1,
// so there is nothing to wait for until the next start.
func (r *registry) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch err {
		case nil:
			r.ended(pid, status)
		case unix.EINTR:
		default:
			if r.nothingLeft() {
				<-r.started
			}
		}
	}
}

// nothingLeft says so to those who wait for it, unless a start came in between.
func (r *registry) nothingLeft() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.started:
		return false
	default:
	}
	if !r.isEmpty {
		r.isEmpty = true
		close(r.empty)
	}
	return true
}

func (r *registry) ended(pid int, status syscall.WaitStatus) {
	r.mu.Lock()
	done := r.children[pid]
	delete(r.children, pid)
	r.mu.Unlock()
	if done != nil {
		done <- status
	}
}

// allGone is closed when no process of the guest is left.
func (r *registry) allGone() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.empty
}
