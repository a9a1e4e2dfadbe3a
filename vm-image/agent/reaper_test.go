package main

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One registry for all tests of the process: its reaper waits for every child, as in PID 1.
var testProcs = sync.OnceValue(func() *registry {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	r := newRegistry()
	go r.reap()
	return r
})

func sh(script string) command {
	return command{path: "/bin/sh", args: []string{"sh", "-c", script}, files: []uintptr{0, 1, 2}, group: -1}
}

func TestReaper_EachChildGetsItsOwnStatus(t *testing.T) {
	r := testProcs()
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			c, err := r.start(sh("exit " + itoa(i)))
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case status := <-c.done:
				if status.ExitStatus() != i {
					t.Errorf("%d ended with %d", i, status.ExitStatus())
				}
			case <-time.After(20 * time.Second):
				t.Errorf("the end of %d was lost", i)
			}
		})
	}
	wait.Wait()
}

func TestReaper_OrphansAreReapedAndAllGoneComesAfterThem(t *testing.T) {
	r := testProcs()
	c, err := r.start(sh("(sleep 0.3) & exit 7"))
	if err != nil {
		t.Fatal(err)
	}
	gone := r.allGone()
	if status := <-c.done; status.ExitStatus() != 7 {
		t.Fatal(status)
	}
	select {
	case <-gone:
		t.Fatal("the orphan is still there")
	case <-time.After(50 * time.Millisecond):
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the orphan was not reaped")
	}
	if c, err := r.start(sh("exit 3")); err != nil || (<-c.done).ExitStatus() != 3 {
		t.Fatal("the reaper is of no use afterwards", err)
	}
}

func TestReaper_ProgramThatIsNotThere_IsAnError(t *testing.T) {
	if _, err := testProcs().start(command{path: "/no/such", group: -1}); err == nil {
		t.Fatal("started")
	}
}
