package main

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

type shutdownParams struct {
	GraceMs int64 `json:"graceMs"`
}

func parseShutdown(raw json.RawMessage) (p shutdownParams, err error) {
	if err = contract.Params(raw, &p); err != nil {
		return p, err
	}
	return p, checkInt("graceMs", p.GraceMs, 0, maxGraceMs)
}

func (a *agent) handleShutdown(raw json.RawMessage) (any, error) {
	p, err := parseShutdown(raw)
	if err != nil {
		return nil, err
	}
	if !a.ending.CompareAndSwap(false, true) {
		return nil, contract.Errorf("protocol.order", "the machine is shutting down already")
	}
	a.shutdown(time.Duration(p.GraceMs) * time.Millisecond)
	return contract.Answer{Result: struct{}{}, After: func() {
		time.Sleep(answerTravelTime)
		endMachine()
	}}, nil
}

// The answer is in the stream's queue when the power goes; the device takes it out within this time.
const answerTravelTime = 5 * time.Millisecond

// shutdown leaves nothing that a cut of power could harm: no process, no folder, a disk that is written back.
func (a *agent) shutdown(grace time.Duration) {
	a.endMu.Lock()
	defer a.endMu.Unlock()
	a.ending.Store(true)
	<-a.root.done
	a.ssh.close()
	a.endProcesses(grace)
	for _, s := range a.shares.all() {
		if err := s.unmount(false); err != nil {
			logf("unmount: %v", err)
		}
	}
	a.closeDisk()
	timing("stopped at %d ms", uptimeMs())
}

func (a *agent) endProcesses(grace time.Duration) {
	gone := a.procs.allGone()
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 2 * time.Second}} {
		select {
		case <-gone:
			return
		default:
		}
		// all processes but the caller and the kernel's; a stopped one gets its TERM only when it goes on
		_ = syscall.Kill(-1, step.signal)
		if step.signal == syscall.SIGKILL {
			_ = writeFile(userGroup+"/cgroup.kill", "1") // at once for the whole group: a fork bomb outruns a list of processes
		} else {
			_ = syscall.Kill(-1, syscall.SIGCONT)
			_ = syscall.Kill(-1, syscall.SIGHUP) // interactive shells ignore TERM and end on HUP
		}
		select {
		case <-gone:
			return
		case <-time.After(step.wait):
		}
	}
	logf("processes are left that cannot be killed")
}

// closeDisk makes the disk clean: the overlay first, then ext4, which then needs no recovery at the next start. The mount lies
// under the root's and has no path any more; its descriptor names it.
func (a *agent) closeDisk() {
	if a.root.err != nil || a.root.dataFd < 0 {
		return
	}
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err := unix.Mount("", "/proc/self/fd/"+itoa(a.root.dataFd), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		logf("the disk is not closed cleanly: %v", err)
		_ = unix.Syncfs(a.root.dataFd)
	}
}

func (a *agent) handleSync(raw json.RawMessage) (any, error) {
	if err := noParams(raw); err != nil {
		return nil, err
	}
	if err := a.root.wait(); err != nil {
		return nil, err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nativeError("agent.native", "the list of mounts", err)
	}
	for _, s := range a.shares.all() {
		if at := findMount(string(info), s.mountID); at != "" {
			if err := s.sync(at); err != nil {
				return nil, nativeError("agent.native", "a folder cannot be written back", err)
			}
		}
	}
	if err := syncRoot(); err != nil {
		return nil, nativeError("agent.native", "the task's disk cannot be written back", err)
	}
	return nil, nil
}

func syncRoot() error {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// endMachine ends the hypervisor. QEMU's microvm without ACPI has no power switch: there the processor is reset, which -no-reboot
// turns into an end; by a triple fault, as the kernel's first choice, the keyboard controller, costs its timeouts.
func endMachine() {
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if _, err := os.Stat("/sys/firmware/acpi"); err != nil && runtime.GOARCH == "amd64" {
		command = unix.LINUX_REBOOT_CMD_RESTART
		_ = writeFile("/sys/kernel/reboot/type", "triple\n")
	}
	if err := unix.Reboot(command); err != nil {
		logf("reboot: %v", err)
	}
	// The kernel did not: the end of PID 1 is a panic, and panic=-1 ends the machine.
	os.Exit(1)
}

func sortByLength(paths []string) {
	slices.SortFunc(paths, func(x, y string) int { return len(y) - len(x) })
}
