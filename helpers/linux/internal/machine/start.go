package machine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/helper/internal/child"
	"cloche/helper/internal/console"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/qemu"
	"cloche/helper/internal/vsock"
)

// Start boots a machine. It returns when QEMU has been told to go; whatever fails before is undone.
func (m *Machine) Start(config plan.Config) ([]ProcessInfo, error) {
	m.lock.Lock()
	if m.state != Idle {
		m.lock.Unlock()
		return nil, contract.Errorf("protocol.order", "start is for a helper that has not started a machine yet")
	}
	m.state = starting
	m.started = make(chan struct{})
	started := m.started
	m.lock.Unlock()
	defer close(started)

	s := &start{m: m, config: config}
	err := s.run()
	s.closeFiles() // the children have their own

	m.lock.Lock()
	defer m.lock.Unlock()
	if err == nil && m.terminated {
		err = contract.Errorf("helper.start-failed", "the machine was terminated while it started")
	}
	if err != nil {
		s.undo()
		m.state = Idle
		if m.terminated {
			m.state = Exited
		}
		return nil, err
	}
	m.state, m.booted = Running, true
	go m.watch(s.hypervisor, s.device)
	go m.progress()
	return m.processInfo(), nil
}

// start is what a Start holds on its way.
type start struct {
	m      *Machine
	config plan.Config

	files      []*os.File // ours to close when the children run
	console    net.Conn
	consoleLog *os.File
	deviceLink *os.File // connected to vhost-device-vsock
	vhost      *os.File // the kernel's device with our CID
	device     *child.Process
	hypervisor *child.Process
	streams    vsock.Streams
}

func (s *start) run() error {
	if problem := runnable(s.m.programs.QEMU); problem != nil {
		return Native(contract.Errorf("helper.hypervisor-missing", "%s cannot be run: %v", s.m.programs.QEMU, problem), problem)
	}
	if len(s.config.Disks) > plan.MaxDisks {
		return contract.Errorf("helper.unsupported", "%d disks were asked for; this machine type has room for %d", len(s.config.Disks), plan.MaxDisks)
	}
	if length := len(s.config.Cmdline); length > plan.CmdlineRoom {
		return contract.Errorf("helper.unsupported", "the kernel's command line has %d bytes; this machine type has room for %d", length, plan.CmdlineRoom)
	}
	if err := privateFolder(s.config.RunDir); err != nil {
		return failed(err, "runDir %s is not usable", s.config.RunDir)
	}
	log, err := console.Create(s.config.ConsoleLog)
	if err != nil {
		return failed(err, "the console log %s cannot be made", s.config.ConsoleLog)
	}
	s.consoleLog = log
	host := plan.Host{QEMU: s.m.programs.QEMU}
	if err := s.startVsock(&host); err != nil {
		return err
	}
	for _, port := range s.config.OpenPorts {
		if err := s.streams.OpenPort(port); err != nil {
			return failed(err, "port %d cannot be opened", port)
		}
	}
	return s.startQEMU(host)
}

// startVsock prefers the kernel's transport, as it is the faster one and needs no process.
func (s *start) startVsock(host *plan.Host) error {
	device, cid, err := vsock.Reserve()
	if err == nil {
		s.vhost = device
		s.files = append(s.files, device)
		host.Transport, host.GuestCID = plan.VhostVsock, cid
		if s.streams, err = newRelay(s.config.Streams, cid); err != nil {
			return failed(err, "the stream socket %s cannot be made", s.config.Streams)
		}
		return nil
	}
	host.Transport = plan.VhostUser
	program := s.m.programs.VsockDevice
	if problem := runnable(program); problem != nil {
		return Native(contract.Errorf("helper.vsock-missing", "%s cannot be opened (%v) and %s cannot be run: %v", vsock.Device, err, program, problem), problem)
	}
	paths := plan.NewPaths(s.config.RunDir)
	links, err := vsock.NewLinks(s.config.Streams, paths)
	if err != nil {
		return failed(err, "the stream socket %s cannot be made", s.config.Streams)
	}
	s.streams = links
	planned := plan.PlanVsock(program, paths)
	s.device, err = child.Start(child.Spec{Role: "vsock", Path: program, Args: planned.Args, Confine: planned.Confine})
	if err != nil {
		return Native(contract.Errorf("helper.vsock-missing", "%s could not be started: %v", program, err), err)
	}
	s.m.adopt(s.device)
	if s.deviceLink, err = s.connectDevice(paths.VhostSocket); err != nil {
		return err
	}
	s.files = append(s.files, s.deviceLink)
	_ = os.Remove(paths.VhostSocket) // connected: nobody else needs its name
	return nil
}

func newRelay(streams string, cid uint32) (vsock.Streams, error) {
	relay, err := vsock.NewRelay(streams, vsock.Kernel{CID: cid}, cid)
	if err != nil {
		return nil, err
	}
	return relay, nil
}

// connectDevice waits for the device's socket for as long as the device lives; a keeper that has waited enough says
// terminate, which ends the device.
func (s *start) connectDevice(path string) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, failed(err, "no socket")
		}
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
			return os.NewFile(uintptr(fd), "vhost-user"), nil
		}
		unix.Close(fd)
		select {
		case <-s.device.Done():
			e := contract.Errorf("helper.start-failed", "the vsock device ended before it was ready (%s)", s.device.End())
			e.Evidence = s.device.Messages()
			return nil, e
		case <-time.After(pause):
		}
	}
}

func (s *start) startQEMU(host plan.Host) error {
	if s.config.Accelerator == plan.TCG {
		host.TSCKHz = s.m.clock.KHz()
	}
	planned := plan.PlanQEMU(s.config, host)
	memory, err := newMemory(s.config, planned.Cmdline)
	if err != nil {
		return err
	}
	s.files = append(s.files, memory.file, memory.rom)
	defer func() { <-memory.laid }()
	qmpEnd, err := s.pair()
	if err != nil {
		return failed(err, "no socket for QMP")
	}
	consoleEnd, err := s.pair()
	if err != nil {
		qmpEnd.ours.Close()
		return failed(err, "no socket for the console")
	}
	s.console = consoleEnd.ours
	var files []*os.File
	for _, role := range planned.Files {
		switch role.Kind {
		case "memory":
			files = append(files, memory.file)
		case "rom":
			files = append(files, memory.rom)
		case "qmp":
			files = append(files, qmpEnd.theirs)
		case "console":
			files = append(files, consoleEnd.theirs)
		case "vsock":
			if s.vhost != nil {
				files = append(files, s.vhost)
			} else {
				files = append(files, s.deviceLink)
			}
		case "disk":
			disk, err := openDisk(s.config.Disks[role.Disk])
			if err != nil {
				qmpEnd.ours.Close()
				return failed(err, "the disk %s cannot be opened", s.config.Disks[role.Disk].Path)
			}
			s.files = append(s.files, disk)
			files = append(files, disk)
		}
	}
	s.hypervisor, err = child.Start(child.Spec{Role: "hypervisor", Path: host.QEMU, Args: planned.Args, Files: files, Confine: planned.Confine})
	if err != nil {
		qmpEnd.ours.Close()
		return Native(contract.Errorf("helper.hypervisor-missing", "%s could not be started: %v", host.QEMU, err), err)
	}
	s.closeFiles() // now: QEMU's end shows only when no copy of its sockets is left here
	log := console.Keep(s.console, s.consoleLog, s.config.ConsoleLimitBytes)
	s.console, s.consoleLog = nil, nil // the log's from now on
	s.m.lock.Lock()
	s.m.plan, s.m.console, s.m.streams = planned, log, s.streams
	s.m.lock.Unlock()
	s.m.adopt(s.hypervisor)
	s.m.log("%s runs as %d: %v", s.hypervisor.Role, s.hypervisor.Pid, s.hypervisor.Held)

	client, err := qemu.Connect(qmpEnd.ours, s.m.event)
	if err != nil {
		return s.qemuFailed(err)
	}
	s.m.lock.Lock()
	s.m.qmp = client
	s.m.lock.Unlock()
	if err := memory.wait(); err != nil {
		return err
	}
	if err := client.Execute("cont", nil, nil); err != nil {
		return s.qemuFailed(err)
	}
	return nil
}

// qemuFailed tells why QEMU did not come up: it has ended, or it refused to go.
func (s *start) qemuFailed(err error) error {
	var refusal *qemu.Refusal
	if errors.As(err, &refusal) {
		e := contract.Errorf("helper.start-failed", "QEMU refused to run the machine: %s", refusal.Description)
		e.Native = &contract.Native{Domain: "qmp", Code: refusal.Class}
		return e
	}
	s.hypervisor.Kill() // it has closed QMP, so it is ending
	<-s.hypervisor.Done()
	e := contract.Errorf("helper.start-failed", "QEMU ended before the boot began (%s)", s.hypervisor.End())
	e.Evidence = s.hypervisor.Messages()
	return e
}

type pair struct {
	ours   net.Conn
	theirs *os.File
}

// pair makes two connected sockets; theirs is for a child.
func (s *start) pair() (pair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pair{}, err
	}
	ourFile := os.NewFile(uintptr(fds[0]), "ours")
	defer ourFile.Close()
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	ours, err := net.FileConn(ourFile)
	if err != nil {
		theirs.Close()
		return pair{}, err
	}
	s.files = append(s.files, theirs)
	return pair{ours, theirs}, nil
}

func (s *start) closeFiles() {
	for _, f := range s.files {
		_ = f.Close()
	}
	s.files = nil
}

// undo leaves nothing of a failed start but the console log; called with the machine's lock held.
func (s *start) undo() {
	for _, p := range []*child.Process{s.hypervisor, s.device} {
		if p != nil {
			p.Kill()
			<-p.Done()
		}
	}
	if s.console != nil {
		_ = s.console.Close()
	}
	if s.consoleLog != nil {
		_ = s.consoleLog.Close()
	}
	if s.m.qmp != nil {
		s.m.qmp.Close()
	}
	if s.streams != nil {
		s.streams.Stop()
	}
	s.m.processes, s.m.qmp, s.m.streams, s.m.console = nil, nil, nil, nil
}

// adopt makes a process the machine's, so that Terminate finds it, or ends it when Terminate has been called.
func (m *Machine) adopt(p *child.Process) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.processes = append(m.processes, p)
	if m.terminated {
		p.Kill()
	}
}

// event hears QEMU's events.
func (m *Machine) event(e qemu.Event) {
	var data struct {
		Reason  string `json:"reason"`
		Action  string `json:"action"`
		NoSpace bool   `json:"nospace"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	switch {
	case e.Name == "SHUTDOWN":
		m.shutdown = data.Reason
	case e.Name == "BLOCK_IO_ERROR" && data.Action == "stop" && data.NoSpace:
		// the guest stands still and nobody in it can be told: ended now, its disk is as after a cut of power
		m.diskFull = true
		for _, p := range m.processes {
			p.Kill()
		}
	}
}

func failed(err error, format string, args ...any) error {
	e := contract.Errorf("helper.start-failed", format, args...)
	e.Message += ": " + err.Error()
	return Native(e, err)
}

func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}

// runnable says why a program cannot be run.
func runnable(path string) error {
	if path == "" {
		return errors.New("no path was given")
	}
	_, err := exec.LookPath(path)
	return err
}

// openDisk opens a disk as it will be used, so that a layer can never be written to, whatever QEMU becomes.
func openDisk(d plan.Disk) (*os.File, error) {
	if d.ReadOnly {
		return openRegular(d.Path, os.O_RDONLY)
	}
	return openRegular(d.Path, os.O_RDWR)
}

// openRegular opens a regular file and nothing else.
func openRegular(path string, mode int) (*os.File, error) {
	file, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0) // NONBLOCK: a FIFO must not hang us
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// privateFolder: sockets in a folder that others may enter would be theirs too.
func privateFolder(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fs.ErrInvalid
	case info.Mode().Perm()&0o077 != 0:
		return errors.New("others may enter it; it must be 0700")
	}
	return nil
}
