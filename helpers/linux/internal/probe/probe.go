package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/helper/internal/child"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/vsock"
)

// Params are `probe`'s.
type Params struct {
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	RunDir    string `json:"runDir"`
	TimeoutMs int64  `json:"timeoutMs"`
}

// Validate checks the bounds of protocol.ts.
func (p Params) Validate() []string {
	var problems []string
	for _, f := range []struct{ name, path string }{{"kernel", p.Kernel}, {"initramfs", p.Initramfs}, {"runDir", p.RunDir}} {
		if problem := plan.CheckPath(f.path); problem != "" {
			problems = append(problems, f.name+" "+problem)
		}
	}
	if p.TimeoutMs < 100 || p.TimeoutMs > 60_000 {
		problems = append(problems, "timeoutMs must be 100 to 60000")
	}
	return problems
}

// Result is `probe`'s.
type Result struct {
	Hypervisor   Hypervisor    `json:"hypervisor"`
	Accelerators []Accelerator `json:"accelerators"`
	Vsock        Vsock         `json:"vsock"`
}

// Hypervisor is the program found.
type Hypervisor struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Accelerator is the finding about one of them.
type Accelerator struct {
	Name        plan.Accelerator `json:"name"`
	Usable      bool             `json:"usable"`
	Reason      string           `json:"reason"`
	FirstByteMs *int64           `json:"firstByteMs,omitempty"`
	Evidence    string           `json:"evidence,omitempty"`
}

// Vsock is the transport that a start would use.
type Vsock struct {
	Transport plan.Transport `json:"transport"`
	Reason    string         `json:"reason"`
}

// Booter boots until the first console byte or until the time is over, and leaves nothing behind.
type Booter func(accelerator plan.Accelerator, timeout time.Duration) (first time.Duration, evidence string, err error)

// Run probes everything. It takes at most the timeout for each accelerator and a little.
func Run(p Params, qemu, vsockDevice string, boot Booter) (Result, error) {
	version, err := programVersion("hypervisor", qemu)
	if err != nil {
		return Result{}, contract.Errorf("helper.hypervisor-missing", "%s cannot be run: %v", qemu, err)
	}
	timeout := time.Duration(p.TimeoutMs) * time.Millisecond
	// One after the other: at the same time they would slow each other, and the time is told on.
	return Result{
		Hypervisor:   Hypervisor{Name: "qemu", Version: version},
		Accelerators: []Accelerator{kvm(timeout, boot), accelerator(plan.TCG, timeout, boot)},
		Vsock:        transport(vsockDevice),
	}, nil
}

// kvmGetAPIVersion is KVM_GET_API_VERSION, _IO(0xAE, 0x00); kvmVersion is the only answer there has been since 2007.
const (
	kvmGetAPIVersion = 0xAE00
	kvmVersion       = 12
)

func kvm(timeout time.Duration, boot Booter) Accelerator {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return Accelerator{Name: plan.KVM, Reason: "/dev/kvm cannot be opened: " + bare(err)}
	}
	version, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), kvmGetAPIVersion, 0)
	device.Close()
	if errno != 0 || version != kvmVersion {
		return Accelerator{Name: plan.KVM, Reason: fmt.Sprintf("/dev/kvm speaks version %d (%v), not %d", version, errno, kvmVersion)}
	}
	return accelerator(plan.KVM, timeout, boot)
}

func accelerator(name plan.Accelerator, timeout time.Duration, boot Booter) Accelerator {
	first, evidence, err := boot(name, timeout)
	if err != nil {
		return Accelerator{Name: name, Reason: cut(err.Error(), 512), Evidence: contract.Tail(evidence, 16384)}
	}
	ms := first.Milliseconds()
	return Accelerator{Name: name, Usable: true, Reason: fmt.Sprintf("a kernel printed its first byte after %d ms", ms), FirstByteMs: &ms}
}

func transport(device string) Vsock {
	kernel, err := os.OpenFile(vsock.Device, os.O_RDWR, 0)
	if err == nil {
		kernel.Close()
		return Vsock{plan.VhostVsock, vsock.Device + " opens"}
	}
	reason := vsock.Device + " cannot be opened: " + bare(err)
	version, err := programVersion("vsock", device)
	if err != nil {
		return Vsock{plan.NoVsock, cut(fmt.Sprintf("%s; %s cannot be run: %v", reason, device, err), 512)}
	}
	return Vsock{plan.VhostUser, cut(reason+"; "+version, 512)}
}

// versionTime is for a program to print its version; QEMU takes 50 ms.
const versionTime = 10 * time.Second

func programVersion(role, path string) (string, error) {
	p, err := child.Start(child.Spec{Role: role, Path: path, Args: []string{"--version"}, Confine: plan.VersionConfinement(path)})
	if err != nil {
		return "", err
	}
	select {
	case <-p.Done():
	case <-time.After(versionTime):
		p.Kill()
		<-p.Done()
		return "", errors.New("it does not answer --version")
	}
	first, _, _ := strings.Cut(p.Messages(), "\n")
	if end := p.End(); end.Status == nil || *end.Status != 0 {
		return "", fmt.Errorf("%s: %s", end, first)
	}
	return cut(first, 128), nil
}

// bare is an error's last part: the path is said already.
func bare(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	return strings.ToValidUTF8(text[:max], "")
}
