package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/helper/internal/machine"
)

// version is set by the build with -ldflags "-X main.version=…".
var version = "0.1.0"

func init() {
	// The death signal belongs to a thread of ours; the first one lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout))
}

func run(args []string, in io.Reader, out io.Writer) int {
	flags := flag.NewFlagSet("cloche-helper", flag.ContinueOnError)
	qemu := flags.String("qemu", "", "path of qemu-system-*")
	device := flags.String("vsock-device", "", "path of vhost-device-vsock")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 || *qemu == "" || *device == "" {
		fmt.Fprintln(os.Stderr, "usage: cloche-helper --qemu PATH --vsock-device PATH (it speaks helpers/contract on stdio)")
		return 2
	}
	if err := settle(); err != nil {
		fmt.Fprintln(os.Stderr, "cloche-helper:", err)
		return 1
	}

	var m *machine.Machine
	s := newService(in, out, func(listener machine.Listener) backend {
		m = machine.New(machine.Programs{QEMU: *qemu, VsockDevice: *device}, listener, logf)
		return m
	})
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	var err error
	select {
	case err = <-served:
	case sig := <-signals:
		logf("%s", sig)
	}
	m.Terminate(false) // not told: nobody may be reading any more
	if err != nil {
		logf("%v", err)
		return 1
	}
	return 0
}

// settle makes this process one that leaves nothing behind.
func settle() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_PDEATHSIG: %w", err)
	}
	if os.Getppid() != parent {
		return fmt.Errorf("the parent has gone already")
	}
	unix.Umask(0o077)
	// A core of QEMU holds the guest's memory. Set in this process, the limits are the children's too.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("RLIMIT_CORE: %w", err)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = min(files.Max, maxFiles)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
}

// maxFiles is for the streams, one or two descriptors each; the usual soft limit of 1024 is less than a busy task opens.
const maxFiles = 16384

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, "cloche-helper: "+format+"\n", args...) }
