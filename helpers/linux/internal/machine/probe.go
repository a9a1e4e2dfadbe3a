package machine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"cloche/contract"
	"cloche/helper/internal/child"
	"cloche/helper/internal/console"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/probe"
	"cloche/helper/internal/qemu"
)

// probeMemoryMib is enough for any kernel and initramfs of ours to print their first byte.
const probeMemoryMib = 256

// probeCmdline has no "quiet": the kernel's first line is what is waited for.
const probeCmdline = "console=ttyS0 panic=-1"

// Probe finds out what the host can do. It needs an idle machine and leaves it idle.
func (m *Machine) Probe(p probe.Params) (probe.Result, error) {
	release, err := m.takeIdle()
	if err != nil {
		return probe.Result{}, err
	}
	defer release()
	for _, path := range []string{p.Kernel, p.Initramfs} {
		file, err := openRegular(path, os.O_RDONLY)
		if err != nil {
			return probe.Result{}, failed(err, "the boot file %s cannot be read", path)
		}
		file.Close()
	}
	if problem := runnable(m.programs.QEMU); problem != nil {
		return probe.Result{}, Native(contract.Errorf("helper.hypervisor-missing", "%s cannot be run: %v", m.programs.QEMU, problem), problem)
	}
	result, err := probe.Run(p, m.programs.QEMU, m.programs.VsockDevice, func(a plan.Accelerator, timeout time.Duration) (time.Duration, string, error) {
		return m.trialBoot(p, a, timeout)
	})
	if err == nil && m.isTerminated() {
		return probe.Result{}, contract.Errorf("helper.start-failed", "the probe was terminated")
	}
	return result, err
}

// takeIdle keeps Start away while a probe runs; release gives the machine back.
func (m *Machine) takeIdle() (release func(), err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.state != Idle {
		return nil, contract.Errorf("protocol.order", "probe is for a helper that has no machine yet")
	}
	m.state = starting
	done := make(chan struct{})
	m.started = done
	return func() {
		m.lock.Lock()
		m.state = Idle
		if m.terminated {
			m.state = Exited
		}
		m.processes = nil
		m.lock.Unlock()
		close(done)
	}, nil
}

func (m *Machine) isTerminated() bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.terminated
}

// trialBoot boots the kernel without disks and vsock until its first console byte.
func (m *Machine) trialBoot(p probe.Params, accelerator plan.Accelerator, timeout time.Duration) (first time.Duration, evidence string, err error) {
	if m.isTerminated() {
		return 0, "", errors.New("the probe was terminated")
	}
	config := plan.Config{
		ID: "probe-" + string(accelerator), Kernel: p.Kernel, Initramfs: p.Initramfs, Cmdline: probeCmdline,
		MemoryMib: probeMemoryMib, CPUs: 1, Accelerator: accelerator,
	}
	planned := plan.PlanQEMU(config, plan.Host{QEMU: m.programs.QEMU, Transport: plan.NoVsock})
	s := &start{m: m}
	defer s.closeFiles()
	memory, err := newMemory(config, planned.Cmdline)
	if err != nil {
		return 0, "", err
	}
	s.files = append(s.files, memory.file, memory.rom)
	qmpEnd, err := s.pair()
	if err != nil {
		return 0, "", err
	}
	defer qmpEnd.ours.Close()
	consoleEnd, err := s.pair()
	if err != nil {
		return 0, "", err
	}
	defer consoleEnd.ours.Close()
	from := time.Now()
	deadline := time.After(timeout)
	q, err := child.Start(child.Spec{Role: "hypervisor", Path: m.programs.QEMU, Args: planned.Args, Files: s.files, Confine: planned.Confine})
	if err != nil {
		return 0, "", err
	}
	s.closeFiles()
	m.adopt(q)
	defer func() { q.Kill(); <-q.Done() }()
	log := console.Keep(consoleEnd.ours, nil, 0)
	told := make(chan error, 1)
	go func() {
		client, err := qemu.Connect(qmpEnd.ours, func(qemu.Event) {})
		if err == nil && memory.wait() == nil {
			err = client.Execute("cont", nil, nil)
		}
		told <- err
	}()
	for {
		select {
		case <-log.First():
			return time.Since(from), "", nil
		case <-q.Done():
			return 0, q.Messages(), fmt.Errorf("QEMU ended before the first console byte (%s)", q.End())
		case err := <-told:
			if laid := memory.wait(); laid != nil {
				return 0, "", laid
			}
			var refusal *qemu.Refusal
			if errors.As(err, &refusal) {
				return 0, q.Messages(), fmt.Errorf("QEMU refused to run: %w", refusal)
			}
		case <-deadline:
			return 0, q.Messages(), fmt.Errorf("no console byte within %d ms", timeout.Milliseconds())
		}
	}
}
