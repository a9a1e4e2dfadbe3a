// The life of PID 1: from the kernel's exec to serving the host, and never to a return.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

package main

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "0.1.0"

func main() {
	if os.Getpid() != 1 {
		os.Stderr.WriteString("cloche-agent " + version + " is PID 1 of a Cloche guest and does nothing elsewhere\n")
		os.Exit(2)
	}
	started := uptimeMs()
	// One virtual CPU is the rule. More than one running thread keeps the stream to the host served while another
	// thread waits for a disk.
	runtime.GOMAXPROCS(4)
	survive()

	if err := mountEarly(); err != nil {
		fatal("cannot mount the kernel's own filesystems: " + err.Error())
	}
	openLog()
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fatal(err.Error())
	}
	boot, err := parseCommandLine(string(line))
	if err != nil {
		fatal("kernel command line: " + err.Error())
	}

	a := newAgent(boot)
	if a.pool, err = openPool(); err != nil {
		fatal("cannot open the kernel's pool of randomness: " + err.Error())
	}
	if boot.controlPort == 0 {
		logf("no cloche.control on the kernel command line: no host is called")
	} else {
		go a.serveHost()
	}
	go a.procs.reap()
	timing("started at %d ms", started)
	a.makeRoot()
	select {}
}

// survive keeps signals from ending PID 1. The kernel protects an init from signals it has not asked for, but Go's runtime
// asks for all of them. They are caught and dropped rather than ignored, because children inherit what is ignored.
func survive() {
	caught := make(chan os.Signal, 8)
	for number := syscall.Signal(1); number < 32; number++ {
		switch number {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF:
		default:
			signal.Notify(caught, number)
		}
	}
	go func() {
		for s := range caught {
			logf("signal %v ignored", s)
		}
	}()
}

// fatal says why on the console and ends the machine: without its command line or /proc the agent can serve nobody,
// and the host learns more from a console that ends with a reason than from a machine that hangs.
func fatal(reason string) {
	openLog()
	logf("fatal: %s", reason)
	endMachine()
}

// uptimeMs is the guest's clock from the kernel's start.
func uptimeMs() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return t.Nano() / 1e6
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}

func itoa(n int) string { return strconv.Itoa(n) }
