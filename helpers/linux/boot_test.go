package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Real machines, driven over the helper's stdio as the keeper does it. They need a kernel and programs, which
// CLOCHE_COMPONENTS names (the build's .build/components.json, with "kernel" and "initramfs" or "imageDir"); README.md says how to run them.

// The test binary is also the helper.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "--vsock-device") {
		main()
	}
	os.Exit(m.Run())
}

type components struct {
	QEMU        string `json:"qemu"`
	VsockDevice string `json:"vsockDevice"`
	ImageDir    string `json:"imageDir"`
	Kernel      string `json:"kernel"`
	Initramfs   string `json:"initramfs"`
}

func needComponents(t *testing.T) components {
	t.Helper()
	path := os.Getenv("CLOCHE_COMPONENTS")
	if path == "" {
		t.Skip("NOT RUN: no real machine was booted, as CLOCHE_COMPONENTS names no components file (helpers/linux/README.md says how)")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("CLOCHE_COMPONENTS asks for real machines: %v", err)
	}
	var c components
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	if c.Kernel == "" {
		c.Kernel, c.Initramfs = filepath.Join(c.ImageDir, "vmlinux"), filepath.Join(c.ImageDir, "initramfs.cpio")
	}
	for _, needed := range []string{c.QEMU, c.VsockDevice, c.Kernel, c.Initramfs} {
		if _, err := os.Stat(needed); err != nil {
			t.Fatalf("CLOCHE_COMPONENTS asks for real machines: %v", err)
		}
	}
	return c
}

type keeper struct {
	t        *testing.T
	c        components
	dir, run string
	cmd      *exec.Cmd
	in       io.WriteCloser
	incoming chan map[string]any // closed when the helper's stdout ends
	notes    []map[string]any
	id       int
}

func newKeeper(t *testing.T) *keeper {
	c := needComponents(t)
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, c: c, dir: dir, run: filepath.Join(dir, "r"), incoming: make(chan map[string]any, 1000)}
	if err := os.Mkdir(k.run, 0o700); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	k.cmd = exec.Command(self, "--qemu", c.QEMU, "--vsock-device", c.VsockDevice)
	k.in, _ = k.cmd.StdinPipe()
	out, _ := k.cmd.StdoutPipe()
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var m map[string]any
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				k.incoming <- m
			}
		}
		close(k.incoming)
	}()
	t.Cleanup(func() {
		k.in.Close()
		_ = k.cmd.Wait()
		if log, err := os.ReadFile(k.log()); t.Failed() && err == nil {
			t.Logf("console:\n%s", log)
		}
		os.RemoveAll(dir)
	})
	k.must("hello", map[string]any{"protocol": 1, "client": "test"})
	return k
}

func (k *keeper) log() string { return filepath.Join(k.dir, "console.log") }

// next gives the next message that fits, within a generous time for a busy machine.
func (k *keeper) next(what string, fits func(map[string]any) bool) map[string]any {
	k.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case m, ok := <-k.incoming:
			if !ok {
				k.t.Fatalf("the helper ended before %s", what)
			}
			if m["method"] != nil {
				k.notes = append(k.notes, m)
			}
			if fits(m) {
				return m
			}
		case <-late:
			k.t.Fatalf("no %s", what)
		}
	}
}

func (k *keeper) call(method string, params any) map[string]any {
	k.t.Helper()
	k.id++
	id := float64(k.id)
	line, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": k.id, "method": method, "params": params})
	if _, err := k.in.Write(append(line, '\n')); err != nil {
		k.t.Fatal(err)
	}
	return k.next("answer to "+method, func(m map[string]any) bool { return m["id"] == id })
}

func (k *keeper) must(method string, params any) map[string]any {
	k.t.Helper()
	m := k.call(method, params)
	result, ok := m["result"].(map[string]any)
	if !ok {
		k.t.Fatalf("%s: %v", method, m["error"])
	}
	return result
}

var none = map[string]any{}

// boot starts a machine and waits until its console has grown; pids by role.
func (k *keeper) boot(cmdline string) map[string]int {
	k.t.Helper()
	data := filepath.Join(k.dir, "data")
	_ = os.WriteFile(data, nil, 0o600)
	_ = os.Truncate(data, 64<<20)
	result := k.must("start", map[string]any{
		"id": "boot-test", "runDir": k.run, "kernel": k.c.Kernel, "initramfs": k.c.Initramfs, "cmdline": cmdline, "memoryMib": 256, "cpus": 1,
		"disks":   []any{map[string]any{"serial": "layer", "path": k.c.Kernel, "readOnly": true}, map[string]any{"serial": "data", "path": data, "readOnly": false}},
		"streams": filepath.Join(k.run, "s"), "openPorts": []int{5000}, "consoleLog": k.log(), "consoleLimitBytes": 65536, "accelerator": "tcg",
	})
	k.next("progress", func(m map[string]any) bool { return m["method"] == "progress" })
	pids := map[string]int{}
	for _, p := range result["processes"].([]any) {
		process := p.(map[string]any)
		pids[process["role"].(string)] = int(process["pid"].(float64))
	}
	return pids
}

func (k *keeper) exited() map[string]any {
	k.t.Helper()
	return k.next("exited", func(m map[string]any) bool { return m["method"] == "exited" })["params"].(map[string]any)
}

// nothingLeft: no process after two seconds, and runDir empty where the helper had time to clean up.
func (k *keeper) nothingLeft(pids map[string]int, cleaned bool) {
	k.t.Helper()
	until := time.Now().Add(2 * time.Second)
	for role, pid := range pids {
		for running(pid) {
			if time.Now().After(until) {
				k.t.Errorf("%s %d is left", role, pid)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if entries, _ := os.ReadDir(k.run); cleaned && len(entries) > 0 {
		k.t.Errorf("runDir holds %v", entries)
	}
}

func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

const loud = "console=ttyS0 panic=-1"

func TestBoot_ProgressStatusPauseResumeTerminate(t *testing.T) {
	k := newKeeper(t)
	pids := k.boot(loud)
	if len(pids) != 2 && !hasVhost() {
		t.Errorf("processes %v", pids)
	}
	status := k.must("status", none)
	if status["state"] != "running" || status["consoleBytes"].(float64) == 0 {
		t.Errorf("status %v", status)
	}
	k.must("pause", none)
	before := k.must("status", none)
	time.Sleep(700 * time.Millisecond)
	after := k.must("status", none)
	if before["state"] != "paused" || before["consoleBytes"] != after["consoleBytes"] {
		t.Errorf("paused: %v, then %v", before, after)
	}
	k.must("resume", none)
	if got := k.must("status", none); got["state"] != "running" {
		t.Errorf("resumed: %v", got)
	}
	k.must("balloon", map[string]any{"targetMib": 200})
	if e := k.call("powerdown", none)["error"].(map[string]any)["data"].(map[string]any); e["code"] != "helper.unsupported" {
		t.Errorf("powerdown: %v", e)
	}
	k.must("terminate", none)
	if entries, _ := os.ReadDir(k.run); len(entries) > 0 {
		t.Errorf("terminate has answered and runDir holds %v", entries)
	}
	k.nothingLeft(pids, true)
	exits := 0
	for _, n := range k.notes {
		if n["method"] == "exited" {
			exits++
			if n["params"].(map[string]any)["reason"] != "terminated" {
				t.Errorf("%v", n)
			}
		}
	}
	if exits != 1 {
		t.Errorf("exited was told %d times", exits)
	}
	k.must("terminate", none)
}

func hasVhost() bool { _, err := os.Stat("/dev/vhost-vsock"); return err == nil }

// The memory that the kernel finds is the machine's, below and above 4 GiB, and so are its processors.
func TestBoot_MemoryAndProcessorsAreThoseOfTheMachine(t *testing.T) {
	for _, c := range []struct{ memoryMib, cpus, aboveMib int }{{128, 1, 0}, {3072, 2, 0}, {4608, 4, 1536}} {
		t.Run(fmt.Sprintf("%d MiB, %d CPUs", c.memoryMib, c.cpus), func(t *testing.T) {
			k := newKeeper(t)
			k.must("start", map[string]any{
				"id": "boot-test", "runDir": k.run, "kernel": k.c.Kernel, "initramfs": k.c.Initramfs, "cmdline": loud + " rdinit=/nonexistent init=/nonexistent",
				"memoryMib": c.memoryMib, "cpus": c.cpus, "disks": []any{}, "streams": filepath.Join(k.run, "s"), "openPorts": []int{},
				"consoleLog": k.log(), "consoleLimitBytes": 65536, "accelerator": "tcg",
			})
			k.exited()
			log, _ := os.ReadFile(k.log())
			if want := fmt.Sprintf("Brought up 1 node, %d CPU", c.cpus); !strings.Contains(string(log), want) {
				t.Errorf("the kernel does not say %q", want)
			}
			low := (c.memoryMib - c.aboveMib) << 20
			wanted := []string{fmt.Sprintf("[mem 0x0000000000100000-0x%016x] usable", low-1)}
			if c.aboveMib > 0 {
				wanted = append(wanted, fmt.Sprintf("[mem 0x0000000100000000-0x%016x] usable", 1<<32+c.aboveMib<<20-1))
			}
			for _, want := range wanted {
				if !strings.Contains(string(log), want) {
					t.Errorf("the kernel does not say %q", want)
				}
			}
		})
	}
}

// A kernel without a root or init panics, and panic=-1 resets: the machine goes off, fast.
func TestBoot_GuestResets_GuestOff(t *testing.T) {
	k := newKeeper(t)
	k.boot(loud + " rdinit=/nonexistent init=/nonexistent")
	from := time.Now()
	if e := k.exited(); e["reason"] != "guest-off" || e["exitStatus"] != float64(0) {
		t.Errorf("%v", e)
	}
	t.Logf("%s from the first progress to exited", time.Since(from))
	if log, _ := os.ReadFile(k.log()); !strings.Contains(string(log), "Kernel panic") {
		t.Error("the console does not show the panic")
	}
	k.nothingLeft(nil, true)
}

func TestBoot_ChildrenKilled(t *testing.T) {
	for role, reason := range map[string]string{"hypervisor": "hypervisor-died", "vsock": "vsock-died"} {
		t.Run(role, func(t *testing.T) {
			k := newKeeper(t)
			pids := k.boot(loud)
			if pids[role] == 0 {
				t.Skip("this host's kernel carries vsock: there is no such process")
			}
			_ = syscall.Kill(pids[role], syscall.SIGKILL)
			if e := k.exited(); e["reason"] != reason || e["signal"] != "SIGKILL" {
				t.Errorf("%v", e)
			}
			k.nothingLeft(pids, true)
			if s := k.must("status", none); s["state"] != "exited" {
				t.Errorf("%v", s)
			}
		})
	}
}

func TestBoot_HelperKilled_NoMachineIsLeft(t *testing.T) {
	k := newKeeper(t)
	pids := k.boot(loud)
	_ = k.cmd.Process.Kill()
	k.nothingLeft(pids, false)
}

func TestBoot_HelperStopped_ThenItsParentEnds(t *testing.T) {
	// A helper that hangs cannot see the end of stdin; its own death signal must end it. Here the parent is a shell.
	c := needComponents(t)
	self, _ := os.Executable()
	shell := exec.Command("/bin/sh", "-c", `"$0" --qemu "$1" --vsock-device "$2" <&3 & echo $!; wait`, self, c.QEMU, c.VsockDevice)
	read, write, _ := os.Pipe()
	defer write.Close()
	shell.ExtraFiles = []*os.File{read}
	out, _ := shell.StdoutPipe()
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	_ = shell.Process.Kill()
	_ = shell.Wait()
	for until := time.Now().Add(2 * time.Second); running(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the helper outlived its parent")
		}
	}
}

func TestBoot_StdinEnds_NothingIsLeft(t *testing.T) {
	k := newKeeper(t)
	pids := k.boot(loud)
	k.in.Close()
	if err := k.cmd.Wait(); err != nil {
		t.Errorf("the helper ended with %v", err)
	}
	k.nothingLeft(pids, true)
}

func TestBoot_Signal_NothingIsLeft(t *testing.T) {
	k := newKeeper(t)
	pids := k.boot(loud)
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	_ = k.cmd.Wait()
	k.nothingLeft(pids, true)
}

func TestBoot_BrokenFraming_NothingIsLeft(t *testing.T) {
	k := newKeeper(t)
	pids := k.boot(loud)
	_, _ = io.WriteString(k.in, "not JSON\n")
	if err := k.cmd.Wait(); err == nil {
		t.Error("status 0")
	}
	k.nothingLeft(pids, true)
}

// Layers are shared by machines; a data disk is not.
func TestBoot_TwoMachines_ShareALayer_NotADataDisk(t *testing.T) {
	a, b := newKeeper(t), newKeeper(t)
	a.boot(loud)
	b.boot(loud)
	c := newKeeper(t)
	answer := c.call("start", map[string]any{
		"id": "thief", "runDir": c.run, "kernel": c.c.Kernel, "initramfs": c.c.Initramfs, "cmdline": loud, "memoryMib": 256, "cpus": 1,
		"disks":   []any{map[string]any{"serial": "data", "path": filepath.Join(a.dir, "data"), "readOnly": false}},
		"streams": filepath.Join(c.run, "s"), "openPorts": []int{}, "consoleLog": c.log(), "consoleLimitBytes": 65536, "accelerator": "tcg",
	})
	e, ok := answer["error"].(map[string]any)
	if !ok || !strings.Contains(fmt.Sprint(e), "lock") {
		t.Errorf("a data disk in use was started again: %v", answer)
	}
	c.nothingLeft(nil, true)
}

func TestBoot_Probe(t *testing.T) {
	k := newKeeper(t)
	from := time.Now()
	r := k.must("probe", map[string]any{"kernel": k.c.Kernel, "initramfs": k.c.Initramfs, "runDir": k.run, "timeoutMs": 5000})
	t.Logf("%s: %v", time.Since(from), r)
	if took := time.Since(from); took > 11*time.Second {
		t.Errorf("took %s", took)
	}
	for _, a := range r["accelerators"].([]any) {
		if a := a.(map[string]any); a["name"] == "tcg" && a["usable"] != true {
			t.Errorf("%v", a)
		}
	}
	k.nothingLeft(nil, true)
	k.boot(loud)
}
