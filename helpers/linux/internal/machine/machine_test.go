package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloche/contract"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/probe"
	"cloche/helper/internal/pvh/pvhtest"
)

// heard records what a machine says of itself.
type heard struct {
	lock     sync.Mutex
	progress []time.Time
	exits    []Exit
	exited   chan struct{}
}

func (h *heard) Progress(int64) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.progress = append(h.progress, time.Now())
	if len(h.exits) > 0 {
		panic("progress after exited")
	}
}

func (h *heard) Exited(e Exit) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.exits = append(h.exits, e); len(h.exits) == 1 {
		close(h.exited)
	}
}

type fixture struct {
	*Machine
	heard  *heard
	dir    string
	config plan.Config
}

// fixtureFor makes a machine whose programs behave as named; afterwards nothing may be left.
func fixtureFor(t *testing.T, qemuIs, vsockIs string) *fixture {
	t.Helper()
	if _, err := os.Stat("/dev/vhost-vsock"); err == nil {
		t.Skip("this host has vhost-vsock; the fakes are those of vhost-user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "m") // short: socket paths
	if err != nil {
		t.Fatal(err)
	}
	programs := Programs{QEMU: filepath.Join(dir, "qemu-"+qemuIs), VsockDevice: filepath.Join(dir, "vsock-"+vsockIs)}
	for _, link := range []string{programs.QEMU, programs.VsockDevice} {
		if err := os.Symlink(self, link); err != nil {
			t.Fatal(err)
		}
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initramfs", "layer", "data"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kernel := pvhtest.Kernel(0x100_0000, pvhtest.Segment{At: 0x100_0000, Bytes: []byte("text")})
	if err := os.WriteFile(filepath.Join(dir, "kernel"), kernel, 0o600); err != nil {
		t.Fatal(err)
	}
	h := &heard{exited: make(chan struct{})}
	f := &fixture{New(programs, h, t.Logf), h, run, plan.Config{
		ID: "t", RunDir: run, Kernel: filepath.Join(dir, "kernel"), Initramfs: filepath.Join(dir, "initramfs"), MemoryMib: 128, CPUs: 1,
		Disks:   []plan.Disk{{Serial: "layer", Path: filepath.Join(dir, "layer"), ReadOnly: true}, {Serial: "data", Path: filepath.Join(dir, "data")}},
		Streams: filepath.Join(run, "s"), OpenPorts: []uint32{5000}, ConsoleLog: filepath.Join(dir, "console.log"), ConsoleLimitBytes: 4096, Accelerator: plan.TCG,
	}}
	if problems := f.config.Validate(); problems != nil {
		t.Fatal(problems)
	}
	t.Cleanup(func() {
		f.Terminate(false)
		f.nothingLeft(t)
		os.RemoveAll(dir)
	})
	return f
}

func (f *fixture) nothingLeft(t *testing.T) {
	t.Helper()
	entries, _ := os.ReadDir(f.dir)
	for _, e := range entries {
		t.Errorf("%s is left in runDir", e.Name())
	}
	if _, _, processes := f.Status(); len(processes) > 0 {
		t.Errorf("%v is left", processes)
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid()))
	if len(children) > 0 {
		t.Errorf("children %s", children)
	}
}

func (f *fixture) begin(t *testing.T) {
	t.Helper()
	if _, err := f.Start(f.config); err != nil {
		t.Fatal(err)
	}
	f.Begin()
}

func (f *fixture) exit(t *testing.T) Exit {
	t.Helper()
	select {
	case <-f.heard.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("exited was not told")
	}
	time.Sleep(50 * time.Millisecond)
	f.heard.lock.Lock()
	defer f.heard.lock.Unlock()
	if len(f.heard.exits) != 1 {
		t.Fatalf("exited was told %d times", len(f.heard.exits))
	}
	return f.heard.exits[0]
}

func code(err error) string {
	var e *contract.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestMachine_RunsPausesResumesAndIsTerminated(t *testing.T) {
	f := fixtureFor(t, "runs", "ready")
	if state, _, _ := f.Status(); state != Idle {
		t.Errorf("state %s", state)
	}
	processes, err := f.Start(f.config)
	if err != nil {
		t.Fatal(err)
	}
	if len(processes) != 2 || processes[0].Role != "vsock" || processes[1].Role != "hypervisor" {
		t.Errorf("processes %v", processes)
	}
	time.Sleep(300 * time.Millisecond)
	f.heard.lock.Lock()
	if len(f.heard.progress) > 0 {
		t.Error("progress before the answer was out")
	}
	f.heard.lock.Unlock()
	f.Begin()
	time.Sleep(1100 * time.Millisecond)
	f.heard.lock.Lock()
	if n := len(f.heard.progress); n < 2 || n > 5 {
		t.Errorf("%d notices of progress in 1.1 s", n)
	}
	f.heard.lock.Unlock()
	for _, step := range []struct {
		act  func() error
		want State
	}{{f.Pause, Paused}, {f.Pause, Paused}, {f.Resume, Running}, {f.Resume, Running}} {
		if err := step.act(); err != nil {
			t.Fatal(err)
		}
		state, bytes, _ := f.Status()
		if state != step.want || bytes == 0 {
			t.Errorf("%s after %d bytes, not %s", state, bytes, step.want)
		}
		if step.want != Paused {
			continue
		}
		time.Sleep(300 * time.Millisecond)
		before := bytes
		time.Sleep(300 * time.Millisecond) // the fake writes every 10 ms
		if _, after, _ := f.Status(); after != before {
			t.Errorf("paused, the machine wrote %d bytes", after-before)
		}
		if err := f.Balloon(128); code(err) != "helper.not-running" {
			t.Errorf("a balloon while paused: %v", err)
		}
	}
	_, halted, _ := f.Status()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, now, _ := f.Status(); now > halted {
			break
		}
		if time.Now().After(until) {
			t.Fatal("a resumed machine writes nothing")
		}
	}
	if got := code(f.Powerdown()); got != "helper.unsupported" {
		t.Errorf("powerdown: %s", got)
	}
	if err := f.Balloon(128); err != nil {
		t.Error(err)
	}
	if _, err := f.Start(f.config); code(err) != "protocol.order" {
		t.Errorf("a second start: %v", err)
	}
	if err := f.OpenPort(7000); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(f.dir, "vd", "s_7000")); err != nil {
		t.Error(err)
	}
	from := time.Now()
	f.Terminate(true)
	if took := time.Since(from); took > time.Second {
		t.Errorf("terminate took %s", took)
	}
	f.nothingLeft(t)
	if e := f.exit(t); e.Reason != "terminated" || e.Signal != "SIGKILL" {
		t.Errorf("%+v", e)
	}
	f.Terminate(true)
	for name, err := range map[string]error{"pause": f.Pause(), "powerdown": f.Powerdown(), "balloon": f.Balloon(64), "openPort": f.OpenPort(7001)} {
		if code(err) != "helper.not-running" {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
	if state, bytes, _ := f.Status(); state != Exited || bytes == 0 {
		t.Errorf("%s, %d bytes", state, bytes)
	}
	if log, _ := os.ReadFile(f.config.ConsoleLog); !strings.HasPrefix(string(log), "booting\ntick") {
		t.Errorf("console %q", log)
	}
}

func TestMachine_ExitReasons(t *testing.T) {
	for _, c := range []struct{ qemu, vsock, reason, signal, evidence string }{
		{"off", "ready", "guest-off", "", "guest-reset"},
		{"exits", "ready", "hypervisor-died", "", "out of order"},
		{"dies", "ready", "hypervisor-died", "SIGKILL", ""},
		{"runs", "ends", "vsock-died", "", "enough"},
		{"full", "ready", "disk-full", "SIGKILL", ""},
	} {
		t.Run(c.reason+" "+c.qemu, func(t *testing.T) {
			f := fixtureFor(t, c.qemu, c.vsock)
			f.begin(t)
			e := f.exit(t)
			if e.Reason != c.reason || (c.signal != "" && e.Signal != c.signal) || !strings.Contains(e.Evidence, c.evidence) {
				t.Errorf("%+v", e)
			}
			f.nothingLeft(t)
		})
	}
}

func TestMachine_KilledFromOutside(t *testing.T) {
	for role, reason := range map[string]string{"hypervisor": "hypervisor-died", "vsock": "vsock-died"} {
		t.Run(role, func(t *testing.T) {
			f := fixtureFor(t, "runs", "ready")
			f.begin(t)
			_, _, processes := f.Status()
			for _, p := range processes {
				if p.Role == role {
					_ = syscall.Kill(p.Pid, syscall.SIGKILL)
				}
			}
			if e := f.exit(t); e.Reason != reason || e.Signal != "SIGKILL" {
				t.Errorf("%+v", e)
			}
			f.nothingLeft(t)
		})
	}
}

func TestStart_Failures_SayWhy_LeaveNothing_AndMayBeTriedAgain(t *testing.T) {
	for _, c := range []struct {
		why, qemu, vsock string
		change           func(*fixture)
		code, evidence   string
	}{
		{"QEMU ends at once", "broken", "ready", nil, "helper.start-failed", "vhost-user-vsock-device: broken"},
		{"QEMU refuses cont", "refuses", "ready", nil, "helper.start-failed", ""},
		{"no QEMU", "runs", "ready", func(f *fixture) { f.programs.QEMU = "/nonexistent" }, "helper.hypervisor-missing", ""},
		{"QEMU is no program", "runs", "ready", func(f *fixture) { f.programs.QEMU = f.config.Kernel }, "helper.hypervisor-missing", ""},
		{"no vsock device", "runs", "ready", func(f *fixture) { f.programs.VsockDevice = "/nonexistent" }, "helper.vsock-missing", ""},
		{"the vsock device ends at once", "runs", "broken", nil, "helper.start-failed", "panicked"},
		{"no kernel", "runs", "ready", func(f *fixture) { f.config.Kernel += "x" }, "helper.start-failed", ""},
		{"the kernel is a folder", "runs", "ready", func(f *fixture) { f.config.Kernel = f.dir }, "helper.start-failed", ""},
		{"the kernel is none", "runs", "ready", func(f *fixture) { f.config.Kernel = f.config.Initramfs }, "helper.start-failed", ""},
		{"the initramfs does not fit", "runs", "ready", func(f *fixture) {
			f.config.Initramfs += "-large"
			_ = os.WriteFile(f.config.Initramfs, nil, 0o600)
			_ = os.Truncate(f.config.Initramfs, 128<<20)
		}, "helper.start-failed", ""},
		{"no disk", "runs", "ready", func(f *fixture) { f.config.Disks[1].Path += "x" }, "helper.start-failed", ""},
		{"a disk is a FIFO", "runs", "ready", func(f *fixture) { f.config.Disks[0].Path += "p"; _ = syscall.Mkfifo(f.config.Disks[0].Path, 0o600) }, "helper.start-failed", ""},
		{"six disks", "runs", "ready", func(f *fixture) { f.config.Disks = make([]plan.Disk, 6) }, "helper.unsupported", ""},
		{"a command line too long", "runs", "ready", func(f *fixture) { f.config.Cmdline = strings.Repeat("x", 2000) }, "helper.unsupported", ""},
		{"the log's folder is missing", "runs", "ready", func(f *fixture) { f.config.ConsoleLog = "/nonexistent/log" }, "helper.start-failed", ""},
		{"runDir is open to others", "runs", "ready", func(f *fixture) { _ = os.Chmod(f.dir, 0o755) }, "helper.start-failed", ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := fixtureFor(t, c.qemu, c.vsock)
			programs, config := f.programs, f.config
			config.Disks = append([]plan.Disk(nil), config.Disks...)
			if c.change != nil {
				c.change(f)
			}
			_, err := f.Start(f.config)
			var e *contract.Error
			if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Evidence, c.evidence) {
				t.Fatalf("%v", err)
			}
			f.nothingLeft(t)
			if state, _, _ := f.Status(); state != Idle {
				t.Errorf("state %s", state)
			}
			_ = os.Chmod(f.dir, 0o700)
			f.programs, f.config = programs, config
			f.programs.QEMU = strings.Replace(f.programs.QEMU, "qemu-"+c.qemu, "qemu-runs", 1)
			f.programs.VsockDevice = strings.Replace(f.programs.VsockDevice, "vsock-"+c.vsock, "vsock-ready", 1)
			for _, link := range []string{f.programs.QEMU, f.programs.VsockDevice} {
				self, _ := os.Executable()
				_ = os.Symlink(self, link)
			}
			f.begin(t)
		})
	}
}

// Terminate ends a start that would otherwise wait for ever.
func TestTerminate_DuringStart(t *testing.T) {
	for _, c := range [][2]string{{"hangs", "ready"}, {"runs", "slow"}} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			f := fixtureFor(t, c[0], c[1])
			failed := make(chan error, 1)
			go func() { _, err := f.Start(f.config); failed <- err }()
			time.Sleep(200 * time.Millisecond)
			f.Terminate(true)
			f.nothingLeft(t)
			if err := <-failed; code(err) != "helper.start-failed" {
				t.Error(err)
			}
			if _, err := f.Start(f.config); code(err) != "protocol.order" {
				t.Errorf("start after terminate: %v", err)
			}
		})
	}
}

func TestTerminate_Idle_NothingCanBeStartedAfterwards(t *testing.T) {
	f := fixtureFor(t, "runs", "ready")
	f.Terminate(true)
	f.Terminate(true)
	if _, err := f.Start(f.config); code(err) != "protocol.order" {
		t.Error(err)
	}
	if _, err := f.Probe(probe.Params{}); code(err) != "protocol.order" {
		t.Error(err)
	}
}

func TestTerminate_FromManySides(t *testing.T) {
	f := fixtureFor(t, "runs", "ready")
	f.begin(t)
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() { defer all.Done(); f.Terminate(true) }()
	}
	all.Wait()
	if e := f.exit(t); e.Reason != "terminated" {
		t.Errorf("%+v", e)
	}
}

func TestProbe_AnAcceleratorThatHangs_IsNotUsable(t *testing.T) {
	f := fixtureFor(t, "nokvm", "ready")
	from := time.Now()
	r, err := f.Probe(probe.Params{Kernel: f.config.Kernel, Initramfs: f.config.Initramfs, RunDir: f.dir, TimeoutMs: 400})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(from); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	kvm, tcg := r.Accelerators[0], r.Accelerators[1]
	if kvm.Usable || kvm.Reason == "" || kvm.FirstByteMs != nil {
		t.Errorf("kvm %+v", kvm)
	}
	if _, err := os.Stat("/dev/kvm"); err == nil && kvm.Reason != "no console byte within 400 ms" {
		t.Errorf("kvm: %s", kvm.Reason)
	}
	if !tcg.Usable || tcg.FirstByteMs == nil {
		t.Errorf("tcg %+v", tcg)
	}
	if r.Hypervisor.Version != "QEMU emulator version 7.2.0 (fake)" || r.Vsock.Transport != plan.VhostUser || !strings.Contains(r.Vsock.Reason, "fake") {
		t.Errorf("%+v %+v", r.Hypervisor, r.Vsock)
	}
	f.nothingLeft(t)
	f.begin(t) // and the machine may be started
}

func TestProbe_QEMUThatBreaks_LeavesEvidence(t *testing.T) {
	f := fixtureFor(t, "broken", "ready")
	r, err := f.Probe(probe.Params{Kernel: f.config.Kernel, Initramfs: f.config.Initramfs, RunDir: f.dir, TimeoutMs: 5000})
	if err != nil {
		t.Fatal(err)
	}
	if tcg := r.Accelerators[1]; tcg.Usable || !strings.Contains(tcg.Reason, "exit status 1") || !strings.Contains(tcg.Evidence, "broken") {
		t.Errorf("%+v", tcg)
	}
}

func TestProbe_IsEndedByTerminate(t *testing.T) {
	f := fixtureFor(t, "silent", "ready")
	failed := make(chan error, 1)
	go func() {
		_, err := f.Probe(probe.Params{Kernel: f.config.Kernel, Initramfs: f.config.Initramfs, RunDir: f.dir, TimeoutMs: 60_000})
		failed <- err
	}()
	time.Sleep(300 * time.Millisecond)
	f.Terminate(true)
	select {
	case err := <-failed:
		if code(err) != "helper.start-failed" {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it goes on")
	}
}
