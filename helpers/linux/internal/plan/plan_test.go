package plan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func good() Config {
	return Config{
		ID: "receipts", RunDir: "/run/c", Kernel: "/i/vmlinux", Initramfs: "/i/initramfs", Cmdline: "console=ttyS0 quiet",
		MemoryMib: 1024, CPUs: 1,
		Disks:   []Disk{{"base", "/i/base,odd.erofs", true}, {"data", "/t/data.raw", false}},
		Streams: "/run/c/s", OpenPorts: []uint32{5000}, ConsoleLog: "/t/console.log", ConsoleLimitBytes: 1 << 20, Accelerator: TCG,
	}
}

var host = Host{QEMU: "/usr/bin/qemu-system-x86_64", Transport: VhostUser}

// values are those that follow each occurrence of a flag.
func values(args []string, flag string) []string {
	var found []string
	for i, a := range args {
		if a == flag && i+1 < len(args) {
			found = append(found, args[i+1])
		}
	}
	return found
}

func TestQEMU_IsHardened(t *testing.T) {
	for _, accelerator := range []Accelerator{KVM, TCG} {
		c := good()
		c.Accelerator = accelerator
		args := PlanQEMU(c, host).Args
		for _, alone := range []string{"-nodefaults", "-no-user-config", "-no-reboot", "-S"} {
			if !slices.Contains(args, alone) {
				t.Errorf("%s: %s is missing", accelerator, alone)
			}
		}
		for flag, want := range map[string]string{
			"-display": "none",
			"-monitor": "none",
			"-sandbox": "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
			"-M":       "microvm,acpi=off,memory-backend=mem",
			"-mon":     "chardev=qmp,mode=control",
			"-global":  "virtio-mmio.force-legacy=false",
		} {
			if got := values(args, flag); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q, not %q", accelerator, flag, got, want)
			}
		}
		whole := strings.Join(args, " ")
		for _, never := range []string{"netdev", "-nic", "virtio-net", "-vnc", "-spice", "tcp:", "unix:", ",path=", "server", "-kernel", "-initrd", "-append", "-usb", "virtfs", "-drive", "-L ", "pidfile", "daemonize"} {
			if strings.Contains(whole, never) {
				t.Errorf("%s: %q is in %s", accelerator, never, whole)
			}
		}
	}
}

func TestQEMU_AcceleratorAndProcessor(t *testing.T) {
	for accelerator, want := range map[Accelerator][2]string{TCG: {"tcg,thread=single,tb-size=56", "max"}, KVM: {"kvm", "host"}} {
		c := good()
		c.Accelerator = accelerator
		q := PlanQEMU(c, host)
		if a, cpu := values(q.Args, "-accel"), values(q.Args, "-cpu"); !slices.Equal(a, want[:1]) || !slices.Equal(cpu, want[1:]) {
			t.Errorf("%s: -accel %q -cpu %q", accelerator, a, cpu)
		}
		if slices.Contains(q.Confine.ReadWrite, "/dev/kvm") != (accelerator == KVM) {
			t.Errorf("%s: may write to %q", accelerator, q.Confine.ReadWrite)
		}
	}
}

func TestQEMU_MemoryAndROMAreDescriptors(t *testing.T) {
	args := PlanQEMU(good(), host).Args
	if got := values(args, "-object")[0]; got != "memory-backend-file,id=mem,size=1024M,share=on,mem-path=/proc/self/fd/3" {
		t.Error(got)
	}
	if got := values(args, "-bios"); !slices.Equal(got, []string{"/proc/self/fd/4"}) {
		t.Error(got)
	}
	if got := values(args, "-m"); !slices.Equal(got, []string{"1024M"}) {
		t.Error(got)
	}
}

// What QEMU opens by name is what belongs to the program: no kernel, no disk, no socket.
func TestQEMU_DisksAndSocketsAreDescriptors(t *testing.T) {
	q := PlanQEMU(good(), host)
	wantFiles := []Role{{"memory", 0}, {"rom", 0}, {"qmp", 0}, {"console", 0}, {"vsock", 0}, {"disk", 0}, {"disk", 1}}
	if !slices.Equal(q.Files, wantFiles) {
		t.Fatalf("files %v", q.Files)
	}
	if got := values(q.Args, "-chardev"); !slices.Equal(got, []string{"socket,id=qmp,fd=5", "socket,id=console,fd=6", "socket,id=vsock,fd=7"}) {
		t.Errorf("chardevs %q", got)
	}
	if got := values(q.Args, "-add-fd"); !slices.Equal(got, []string{"fd=8,set=1", "fd=9,set=2"}) {
		t.Errorf("descriptors %q", got)
	}
	whole := strings.Join(q.Args, " ")
	for _, path := range []string{"/i/vmlinux", "/i/initramfs", "/i/base", "/t/data.raw", "/run/c", "/t/console.log"} {
		if strings.Contains(whole, path) {
			t.Errorf("%s is on the command line: %s", path, whole)
		}
	}
	if q.Confine.Read != nil || q.Confine.Sockets != nil || !slices.Equal(q.Confine.ReadWrite, []string{"/dev/null"}) {
		t.Errorf("confinement %+v", q.Confine)
	}
}

func TestQEMU_DisksAreRawWithTheirSerial(t *testing.T) {
	args := PlanQEMU(good(), host).Args
	drives := values(args, "-blockdev")
	var layer, data map[string]any
	if err := json.Unmarshal([]byte(drives[0]), &layer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(drives[1]), &data); err != nil {
		t.Fatal(err)
	}
	layerFile, dataFile := layer["file"].(map[string]any), data["file"].(map[string]any)
	if layer["driver"] != "raw" || data["driver"] != "raw" || layerFile["driver"] != "file" || dataFile["driver"] != "file" {
		t.Error("a format is left to be guessed")
	}
	if layer["read-only"] != true || layerFile["read-only"] != true || layer["discard"] != nil {
		t.Errorf("layer %v", layer)
	}
	if data["read-only"] != false || data["discard"] != "unmap" || dataFile["discard"] != "unmap" || data["detect-zeroes"] != "off" {
		t.Errorf("data disk %v", data)
	}
	if layerFile["locking"] == "off" || dataFile["locking"] == "off" {
		t.Error("two machines could write one disk")
	}
	if !slices.Contains(values(args, "-device"), `{"bus":"virtio-mmio-bus.5","drive":"disk1","driver":"virtio-blk-device","rerror":"report","serial":"data","werror":"enospc"}`) {
		t.Errorf("devices %q", values(args, "-device"))
	}
}

func TestQEMU_Transports(t *testing.T) {
	for transport, want := range map[Transport]string{VhostUser: "vhost-user-vsock-device,chardev=vsock,bus=virtio-mmio-bus.7", VhostVsock: "vhost-vsock-device,guest-cid=77777,vhostfd=7,bus=virtio-mmio-bus.7", NoVsock: ""} {
		args := PlanQEMU(good(), Host{QEMU: "/q", Transport: transport, GuestCID: 77777}).Args
		var got string
		for _, d := range values(args, "-device") {
			if strings.Contains(d, "vsock") {
				got = d
			}
		}
		if got != want {
			t.Errorf("%s: %q", transport, got)
		}
	}
}

func TestCmdline_EndsWithWhatBelongsToTheHypervisor(t *testing.T) {
	c := good()
	const places = " virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=512@0xfeb00c00:11 virtio_mmio.device=512@0xfeb00a00:10" +
		" virtio_mmio.device=512@0xfeb00800:9 virtio_mmio.device=512@0xfeb00600:8" // vsock, two disks, rng, balloon
	for _, x := range []struct {
		accelerator Accelerator
		khz         uint64
		want        string
	}{
		{TCG, 2596117, "console=ttyS0 quiet reboot=t tsc=reliable tsc_early_khz=2596117"},
		{TCG, 0, "console=ttyS0 quiet reboot=t"},
		{KVM, 2596117, "console=ttyS0 quiet reboot=t"}, // kvm-clock is better
	} {
		c.Accelerator = x.accelerator
		if got := PlanQEMU(c, Host{Transport: VhostUser, TSCKHz: x.khz}).Cmdline; got != x.want+places {
			t.Errorf("%q", got)
		}
	}
}

func TestCmdline_ThatJustFitsTheKernelsBound(t *testing.T) {
	c := good()
	c.Cmdline = strings.Repeat("x", CmdlineRoom)
	c.Accelerator = TCG
	c.Disks = make([]Disk, MaxDisks)
	whole := PlanQEMU(c, Host{Transport: VhostUser, TSCKHz: 99_999_999}).Cmdline
	const shorter = 5 // interrupts 5 to 9 have a digit less than what CmdlineRoom counts with
	if len(whole)+shorter != 2047 {
		t.Errorf("%d bytes: %s", len(whole), whole)
	}
}

func TestVsock_ReachesItsOwnFolderOnly(t *testing.T) {
	v := PlanVsock("/usr/bin/vhost-device-vsock", NewPaths("/run/c"))
	if got := strings.Join(v.Args, " "); got != "--guest-cid 3 --socket /run/c/vd/q --uds-path /run/c/vd/s" {
		t.Error(got)
	}
	if !slices.Equal(v.Confine.Sockets, []string{"/run/c/vd"}) || !slices.Equal(v.Confine.ReadWrite, []string{"/dev/null"}) {
		t.Errorf("%+v", v.Confine)
	}
}

func TestValidate_GoodIsGood(t *testing.T) {
	if problems := good().Validate(); problems != nil {
		t.Error(problems)
	}
}

func TestValidate_ReportsEveryProblemAtOnce(t *testing.T) {
	if problems := (Config{}).Validate(); len(problems) != 12 {
		t.Errorf("%d problems: %q", len(problems), problems)
	}
}

func TestValidate_Bounds(t *testing.T) {
	for _, c := range []struct {
		why, word string
		change    func(*Config)
	}{
		{"relative path", "kernel", func(c *Config) { c.Kernel = "vmlinux" }},
		{"zero byte", "consoleLog", func(c *Config) { c.ConsoleLog = "/a\x00b" }},
		{"two disks with one serial", "twice", func(c *Config) { c.Disks[1].Serial = "base" }},
		{"a line break in the command line", "cmdline", func(c *Config) { c.Cmdline = "a\nb" }},
		{"a socket path of 105 bytes", "streams", func(c *Config) { c.Streams = "/" + strings.Repeat("s", 105-1-len("_4294967294")) }},
		{"a runDir too long for the device's sockets", "runDir", func(c *Config) { c.RunDir = "/" + strings.Repeat("r", 99) }},
		{"an accelerator of another system", "accelerator", func(c *Config) { c.Accelerator = "vz" }},
		{"port 1023", "openPorts[0]", func(c *Config) { c.OpenPorts[0] = 1023 }},
	} {
		config := good()
		c.change(&config)
		if problems := config.Validate(); len(problems) != 1 || !strings.Contains(problems[0], c.word) {
			t.Errorf("%s: %q", c.why, problems)
		}
	}
	longest := good()
	longest.Streams = "/" + strings.Repeat("s", 104-1-len("_4294967294"))
	if problems := longest.Validate(); problems != nil {
		t.Errorf("a socket path of 104 bytes: %q", problems)
	}
}
