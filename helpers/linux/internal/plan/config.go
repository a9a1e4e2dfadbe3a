package plan

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Accelerator is how the guest's instructions run.
type Accelerator string

const (
	KVM Accelerator = "kvm" // the processor runs them
	TCG Accelerator = "tcg" // QEMU translates them
)

// Config is `start`'s params; bounds and meaning are in helpers/contract/protocol.ts.
type Config struct {
	ID                string      `json:"id"`
	RunDir            string      `json:"runDir"`
	Kernel            string      `json:"kernel"`
	Initramfs         string      `json:"initramfs"`
	Cmdline           string      `json:"cmdline"`
	MemoryMib         int64       `json:"memoryMib"`
	CPUs              int64       `json:"cpus"`
	Disks             []Disk      `json:"disks"`
	Streams           string      `json:"streams"`
	OpenPorts         []uint32    `json:"openPorts"`
	ConsoleLog        string      `json:"consoleLog"`
	ConsoleLimitBytes int64       `json:"consoleLimitBytes"`
	Accelerator       Accelerator `json:"accelerator"`
}

// Disk is a raw image, found by the guest by its virtio serial.
type Disk struct {
	Serial   string `json:"serial"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly"`
}

// MaxSocketPathBytes is the contract's bound on socket paths: macOS has 104 with the end mark, Linux 108.
const MaxSocketPathBytes = 104

// MaxDisks: microvm without ACPI has 8 virtio-mmio places (hw/i386/microvm.c in QEMU 7.2; measured, ioapic2=on changes
// nothing), and vsock, rng and balloon take three.
const MaxDisks = 5

const (
	minPort = 1024
	maxPort = 0xffff_fffe
)

var (
	idPattern     = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	serialPattern = regexp.MustCompile(`^[a-z0-9-]{1,20}$`)
)

// Validate checks the bounds of protocol.ts and reports every problem at once, in the order of the fields.
func (c Config) Validate() []string {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !idPattern.MatchString(c.ID) {
		wrong("id must be 1 to 64 of a-z, 0-9 and -")
	}
	for _, p := range []struct{ name, path string }{
		{"runDir", c.RunDir}, {"kernel", c.Kernel}, {"initramfs", c.Initramfs}, {"streams", c.Streams}, {"consoleLog", c.ConsoleLog},
	} {
		if problem := CheckPath(p.path); problem != "" {
			wrong("%s %s", p.name, problem)
		}
	}
	if len(c.Cmdline) > 2048 || strings.ContainsAny(c.Cmdline, "\n\x00") {
		wrong("cmdline must be one line of at most 2048 bytes")
	}
	if c.MemoryMib < 128 || c.MemoryMib > 1<<20 {
		wrong("memoryMib must be 128 to 1048576")
	}
	if c.CPUs < 1 || c.CPUs > 256 {
		wrong("cpus must be 1 to 256")
	}
	if c.Disks == nil || len(c.Disks) > 16 {
		wrong("disks must be a list of at most 16")
	}
	seen := map[string]bool{}
	for i, d := range c.Disks {
		if !serialPattern.MatchString(d.Serial) {
			wrong("disks[%d].serial must be 1 to 20 of a-z, 0-9 and -", i)
		} else if seen[d.Serial] {
			wrong("disks[%d].serial is there twice", i)
		}
		seen[d.Serial] = true
		if problem := CheckPath(d.Path); problem != "" {
			wrong("disks[%d].path %s", i, problem)
		}
	}
	if c.OpenPorts == nil || len(c.OpenPorts) > 64 {
		wrong("openPorts must be a list of at most 64")
	}
	for i, port := range c.OpenPorts {
		if problem := CheckPort(port); problem != "" {
			wrong("openPorts[%d] %s", i, problem)
		}
	}
	if c.ConsoleLimitBytes < 4096 || c.ConsoleLimitBytes > 1<<30 {
		wrong("consoleLimitBytes must be 4096 to 1073741824")
	}
	if c.Accelerator != KVM && c.Accelerator != TCG {
		wrong("accelerator must be kvm or tcg on Linux")
	}
	// The longest name any port can give, so that no later openPort can fail for it.
	if longest := c.Streams + "_4294967294"; len(longest) > MaxSocketPathBytes {
		wrong("streams is too long: %s has %d bytes, socket paths end at %d", longest, len(longest), MaxSocketPathBytes)
	}
	if longest := NewPaths(c.RunDir).DeviceStreams + "_4294967294"; len(longest) > MaxSocketPathBytes {
		wrong("runDir is too long: %s has %d bytes, socket paths end at %d", longest, len(longest), MaxSocketPathBytes)
	}
	return problems
}

// CheckPath says what is wrong with a path, or nothing.
func CheckPath(path string) string {
	switch {
	case path == "" || len(path) > 4096:
		return "must have 1 to 4096 bytes"
	case !filepath.IsAbs(path):
		return "must be absolute"
	case strings.ContainsRune(path, 0):
		return "must not hold a zero byte"
	}
	return ""
}

// CheckPort says what is wrong with a vsock port, or nothing.
func CheckPort(port uint32) string {
	if port < minPort || port > maxPort {
		return fmt.Sprintf("must be %d to %d", minPort, uint32(maxPort))
	}
	return ""
}

// Paths are the scratch files of one machine below its runDir. All of them are gone when the machine has ended.
type Paths struct {
	// VhostSocket is where vhost-device-vsock awaits QEMU; removed as soon as the helper is connected.
	VhostSocket string
	// Device is the folder that vhost-device-vsock may write to.
	Device string
	// DeviceStreams is the device's own base socket; `streams` of the keeper links to it. Beside it stand links
	// for the open ports and for no others, so that the guest reaches those only.
	DeviceStreams string
}

// NewPaths names the scratch files below runDir.
func NewPaths(runDir string) Paths {
	device := filepath.Join(runDir, "vd")
	return Paths{Device: device, VhostSocket: filepath.Join(device, "q"), DeviceStreams: filepath.Join(device, "s")}
}
