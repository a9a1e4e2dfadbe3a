package plan

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"cloche/helper/internal/child"
)

// FirstFile is the number of the first descriptor after stdin, stdout and stderr.
const FirstFile = 3

// Transport is what carries vsock between the guest and the host.
type Transport string

const (
	NoVsock    Transport = "none"        // probes boot without
	VhostUser  Transport = "vhost-user"  // vhost-device-vsock, a process beside QEMU
	VhostVsock Transport = "vhost-vsock" // the host kernel's, /dev/vhost-vsock
)

// Host is what this host offers, as found by the caller.
type Host struct {
	QEMU      string
	Transport Transport
	GuestCID  uint32 // for VhostVsock: the one that was reserved
	TSCKHz    uint64 // speed of the host's time stamp counter; 0 means unknown or unsteady
}

// Role names what a descriptor is for.
type Role struct {
	Kind string // "memory", "rom", "qmp", "console", "vsock" or "disk"
	Disk int    // index in Config.Disks when Kind is "disk"
}

// QEMU is a planned hypervisor: its arguments, the descriptors they count on (from FirstFile upwards), and all it may
// reach by path.
type QEMU struct {
	Args    []string
	Files   []Role
	Confine child.Confinement
	// Cmdline is the kernel's whole command line; internal/pvh puts it into the memory.
	Cmdline string
	// PowerButton says whether the guest can be asked to power down by QMP. microvm without ACPI has no such button
	// (with ACPI one boot in four hangs, see facts.md), so today no plan has one.
	PowerButton bool
}

// PlanQEMU plans a machine that stands still until QMP says `cont`.
func PlanQEMU(c Config, host Host) QEMU {
	q := QEMU{}
	file := func(kind string, disk int) string {
		q.Files = append(q.Files, Role{Kind: kind, Disk: disk})
		return strconv.Itoa(FirstFile + len(q.Files) - 1)
	}
	add := func(args ...string) { q.Args = append(q.Args, args...) }
	var places []string
	place := func() string {
		i := mmioPlaces - 1 - len(places)
		places = append(places, fmt.Sprintf(mmioArgument, mmioAt+i*mmioBytes, mmioLine+i))
		return fmt.Sprintf("virtio-mmio-bus.%d", i)
	}

	add("-name", "cloche-"+c.ID)
	// Nothing that was not asked for: no default devices, no configuration files, no window, no monitor, no reset.
	add("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot", "-S")
	add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")

	// acpi=on hangs about one boot in four before the first byte, and so does pit=off. pic=off boots with 8 % less work and
	// then has no timer at all whenever the kernel distrusts the APIC's, which it does on a busy host: see README "Measured".
	add("-M", machine)
	add("-m", fmt.Sprintf("%dM", c.MemoryMib), "-smp", strconv.FormatInt(c.CPUs, 10))
	// Ours, because the kernel is laid out in it (internal/pvh); shared, because vhost-user devices map it too.
	add("-object", fmt.Sprintf("memory-backend-file,id=mem,size=%dM,share=on,mem-path=/proc/self/fd/%s", c.MemoryMib, file("memory", 0)))
	add("-bios", "/proc/self/fd/"+file("rom", 0))
	switch c.Accelerator {
	case KVM:
		add("-accel", "kvm", "-cpu", "host") // -cpu max aborts QEMU on an MSR under some hosts' KVM
	default:
		add("-accel", "tcg,thread=single,tb-size=56", "-cpu", "max") // one thread: two processors that patch code at once have crashed a guest (int3); tb-size bounds the translation cache, in MiB: a start fills about 50; 96 is no faster and holds 11 MB more at rest, 45 after work, and 48 makes a start 5 % slower
	}

	add("-chardev", "socket,id=qmp,fd="+file("qmp", 0), "-mon", "chardev=qmp,mode=control")
	add("-chardev", "socket,id=console,fd="+file("console", 0), "-serial", "chardev:console")

	add("-global", "virtio-mmio.force-legacy=false") // vhost-user devices speak virtio 1 only
	switch host.Transport {
	case VhostUser:
		add("-chardev", "socket,id=vsock,fd="+file("vsock", 0), "-device", "vhost-user-vsock-device,chardev=vsock,bus="+place())
	case VhostVsock:
		add("-device", fmt.Sprintf("vhost-vsock-device,guest-cid=%d,vhostfd=%s,bus=%s", host.GuestCID, file("vsock", 0), place()))
	}
	for i, d := range c.Disks {
		set := strconv.Itoa(i + 1)
		add("-add-fd", "fd="+file("disk", i)+",set="+set)
		add("-blockdev", blockdev(i, d, "/dev/fdset/"+set))
		// A full host disk stops the machine as it stands, which ends it (machine.event): told as an error, it would cost the
		// guest's filesystem blocks that its journal counts on. Other errors are the guest's to see.
		add("-device", object("driver", "virtio-blk-device", "bus", place(), "drive", fmt.Sprintf("disk%d", i), "serial", d.Serial, "werror", "enospc", "rerror", "report"))
	}
	add("-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng,bus="+place()) // getrandom(2), no file
	// Pages that the guest frees go back to the host without anybody asking.
	add("-device", "virtio-balloon-device,id=balloon,free-page-reporting=on,deflate-on-oom=on,bus="+place())
	q.Cmdline = cmdline(c, host) + strings.Join(places, "")

	q.Confine = child.Confinement{
		ReadExecute: programPaths(host.QEMU),
		ReadWrite:   []string{"/dev/null"},
	}
	if c.Accelerator == KVM {
		q.Confine.ReadWrite = append(q.Confine.ReadWrite, "/dev/kvm")
	}
	return q
}

// microvm's places for virtio devices, as hw/i386/microvm.c of QEMU 7.2 has them without ACPI: the kernel hears of each by its command
// line. Devices are put into them by name, so that both sides count alike.
const (
	mmioPlaces   = 8
	mmioAt       = 0xfeb0_0000
	mmioBytes    = 512
	mmioLine     = 5
	mmioArgument = " virtio_mmio.device=512@0x%x:%d"
)

// cmdline is the keeper's kernel command line and what belongs to this hypervisor:
// reboot=t, because microvm has no keyboard controller and the kernel's other ways to reset take 2.3 s (measured);
// under TCG the speed of the time stamp counter, see internal/tsc.
func cmdline(c Config, host Host) string {
	line := c.Cmdline + " reboot=t"
	if knowsTSC(c, host) {
		line += fmt.Sprintf(" tsc=reliable tsc_early_khz=%d", host.TSCKHz)
	}
	return strings.TrimSpace(line)
}

// CmdlineRoom is how many bytes the keeper's command line may have: what passes COMMAND_LINE_SIZE of x86, less its end mark, would be
// cut off, and with it a disk.
const CmdlineRoom = 2047 - mmioPlaces*len(" virtio_mmio.device=512@0xfeb00e00:12") - len(" reboot=t tsc=reliable tsc_early_khz=99999999")

const machine = "microvm,acpi=off,memory-backend=mem"

// knowsTSC: kvm-clock needs nobody to tell it, so this is for TCG alone.
func knowsTSC(c Config, host Host) bool { return c.Accelerator == TCG && host.TSCKHz != 0 }

// blockdev describes one disk. Raw is said, never guessed: a guest can write another format's header into its first
// block. Locking is left on: layers are opened for reading only, and QEMU's read locks are shared by any number of
// machines, while two machines on one data disk are refused.
func blockdev(i int, d Disk, filename string) string {
	file := map[string]any{"driver": "file", "filename": filename, "aio": "threads", "read-only": d.ReadOnly}
	node := map[string]any{"driver": "raw", "node-name": fmt.Sprintf("disk%d", i), "read-only": d.ReadOnly, "file": file}
	if !d.ReadOnly {
		// Blocks that the guest discards become holes; zeroes that it writes stay written (finding them costs reads).
		node["discard"], file["discard"], node["detect-zeroes"] = "unmap", "unmap", "off"
	}
	text, err := json.Marshal(node)
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	return string(text)
}

// object writes pairs as JSON, so that no value can bring a comma of its own.
func object(pairs ...string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// programPaths is what a dynamically linked program needs to run and, for QEMU, its firmware: the system's libraries, or,
// for a program that was brought along, the folders beside it.
func programPaths(program string) []string {
	paths := []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", program}
	root := filepath.Dir(filepath.Dir(program))
	for _, beside := range []string{"lib", "lib64", "libexec", "share/qemu", "share/seabios"} {
		paths = append(paths, filepath.Join(root, beside))
	}
	return paths
}
