package machine

import (
	"errors"
	"os"
	"sync"
	"time"

	"cloche/contract"
	"cloche/helper/internal/child"
	"cloche/helper/internal/console"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/qemu"
	"cloche/helper/internal/tsc"
	"cloche/helper/internal/vsock"
)

// State is one of the states of doc.go's drawing, as `status` spells them.
type State string

const (
	Idle     State = "idle"
	starting State = "starting" // told as "idle": the machine does not run yet
	Running  State = "running"
	Paused   State = "paused"
	Exited   State = "exited"
)

// Programs are the executables a machine is made of.
type Programs struct {
	QEMU        string
	VsockDevice string
}

// Listener hears what happens to the machine. Its methods are called from one goroutine at a time, never before Begin.
type Listener interface {
	Progress(consoleBytes int64)
	Exited(Exit)
}

// Exit is the contract's `exited`.
type Exit struct {
	Reason     string `json:"reason"`
	ExitStatus *int   `json:"exitStatus,omitempty"`
	Signal     string `json:"signal,omitempty"`
	Evidence   string `json:"evidence,omitempty"`
}

// ProcessInfo is one process of the machine.
type ProcessInfo struct {
	Role string `json:"role"`
	Pid  int    `json:"pid"`
}

// Machine is one machine. All methods may be called from any goroutine.
type Machine struct {
	programs Programs
	listener Listener
	// Log receives free text for the helper's own log.
	log   func(format string, args ...any)
	clock tsc.Clock // begun with the helper, so that it has run a while when a machine starts

	lock       sync.Mutex // guards all below
	state      State
	terminated bool
	booted     bool // a Start has succeeded, so that Exited will be told
	plan       plan.QEMU
	processes  []*child.Process // QEMU first, when it runs
	qmp        *qemu.Client
	console    *console.Log
	streams    vsock.Streams
	shutdown   string // what QMP said last about a shutdown
	diskFull   bool   // the host had no room for what the guest wrote

	begin   chan struct{} // closed by Begin: the answer to start is out
	started chan struct{} // closed when Start has returned; nil before Start
	gone    chan struct{} // closed when nothing of the machine is left
	quiet   chan struct{} // closed when no Progress comes any more
	told    chan struct{} // closed when Exited was delivered
}

// New makes an idle machine.
func New(programs Programs, listener Listener, log func(string, ...any)) *Machine {
	return &Machine{programs: programs, listener: listener, log: log, clock: tsc.Begin(), state: Idle, begin: make(chan struct{}), gone: make(chan struct{}), quiet: make(chan struct{}), told: make(chan struct{})}
}

// Begin lets notifications flow; call it once, when the answer to start has been sent.
func (m *Machine) Begin() { close(m.begin) }

// Status may be called beside everything.
func (m *Machine) Status() (State, int64, []ProcessInfo) {
	m.lock.Lock()
	defer m.lock.Unlock()
	state, bytes := m.state, int64(0)
	if state == starting {
		state = Idle
	}
	if m.console != nil {
		bytes = m.console.Bytes()
	}
	return state, bytes, m.processInfo()
}

func (m *Machine) processInfo() []ProcessInfo {
	list := []ProcessInfo{}
	for _, p := range m.processes {
		if p.Alive() {
			list = append(list, ProcessInfo{p.Role, p.Pid})
		}
	}
	return list
}

// Pause has the whole of QEMU stand still. A second call changes nothing. QMP's own `stop` takes the vsock device's rings away, and
// what arrives for the guest in that moment ends the device's thread: a busy machine was not reachable any more after one pause in six.
// Halted, QEMU leaves the rings where they are: what arrives waits in them. The guest's clocks go on meanwhile.
func (m *Machine) Pause() error { return m.turn((*child.Process).Halt, Paused) }

// Resume lets it go on. A second call changes nothing.
func (m *Machine) Resume() error { return m.turn((*child.Process).Continue, Running) }

func (m *Machine) turn(act func(*child.Process) error, to State) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.state != Running && m.state != Paused {
		return notRunning()
	}
	for _, p := range m.processes {
		if p.Role != "hypervisor" {
			continue
		}
		if err := act(p); errors.Is(err, os.ErrProcessDone) {
			return notRunning()
		} else if err != nil {
			return Native(contract.Errorf("helper.native", "the hypervisor: %v", err), err)
		}
	}
	m.state = to
	return nil
}

// Powerdown presses the guest's power button, where the machine has one.
func (m *Machine) Powerdown() error {
	m.lock.Lock()
	button := m.plan.PowerButton
	running := m.state == Running || m.state == Paused
	m.lock.Unlock()
	if running && !button {
		return contract.Errorf("helper.unsupported", "this machine has no power button: microvm without ACPI")
	}
	return m.execute("system_powerdown", nil, nil)
}

// Balloon sets the memory that the guest may keep.
func (m *Machine) Balloon(targetMib int64) error {
	return m.execute("balloon", map[string]any{"value": targetMib << 20}, nil)
}

// OpenPort and ClosePort: see vsock.Streams.
func (m *Machine) OpenPort(port uint32) error  { return m.port(port, vsock.Streams.OpenPort) }
func (m *Machine) ClosePort(port uint32) error { return m.port(port, vsock.Streams.ClosePort) }

func (m *Machine) port(port uint32, act func(vsock.Streams, uint32) error) error {
	m.lock.Lock()
	defer m.lock.Unlock() // also against the end, which removes what stands here
	if m.state != Running && m.state != Paused {
		return notRunning()
	}
	if err := act(m.streams, port); err != nil {
		return Native(contract.Errorf("helper.native", "port %d: %v", port, err), err)
	}
	return nil
}

func (m *Machine) execute(command string, arguments, result any) error {
	m.lock.Lock()
	client, state := m.qmp, m.state
	m.lock.Unlock()
	switch state {
	case Running:
	case Paused: // QEMU stands still and would not answer
		return contract.Errorf("helper.not-running", "the machine is paused")
	default:
		return notRunning()
	}
	err := client.Execute(command, arguments, result)
	var refusal *qemu.Refusal
	switch {
	case errors.Is(err, qemu.ErrGone):
		return notRunning()
	case errors.As(err, &refusal):
		e := contract.Errorf("helper.native", "%s was refused: %s", command, refusal.Description)
		e.Native = &contract.Native{Domain: "qmp", Code: refusal.Class}
		return e
	}
	return err
}

func notRunning() error { return contract.Errorf("helper.not-running", "the machine is not running") }

// Terminate ends the machine without asking the guest. It returns when nothing is left; told says whether it shall
// also wait until Exited was delivered. Twice is harmless.
func (m *Machine) Terminate(told bool) {
	m.lock.Lock()
	m.terminated = true
	started := m.started
	if m.state == Idle {
		m.state = Exited
	}
	for _, p := range m.processes {
		p.Kill()
	}
	m.lock.Unlock()
	if started != nil {
		<-started
	}
	m.lock.Lock()
	booted := m.booted
	m.lock.Unlock()
	if !booted {
		return
	}
	<-m.gone
	if told {
		<-m.told
	}
}

// tick is the time between progress notices: at most four a second.
const tick = 250 * time.Millisecond

// watch is the one place where a started machine ends.
func (m *Machine) watch(hypervisor, device *child.Process) {
	var deviceDone <-chan struct{}
	if device != nil {
		deviceDone = device.Done()
	}
	vsockDied := false
	select {
	case <-hypervisor.Done():
	case <-deviceDone:
		vsockDied = m.deviceDied(hypervisor, device)
	}
	hypervisor.Kill()
	<-hypervisor.Done()
	if device != nil {
		device.Kill()
		<-device.Done()
	}
	m.qmp.Close()
	<-m.console.Done()

	m.lock.Lock()
	exit := m.judge(hypervisor, device, vsockDied)
	m.streams.Stop()
	m.processes = nil
	m.state = Exited
	m.lock.Unlock()
	close(m.gone)
	m.log("machine exited: %s (hypervisor %s)", exit.Reason, hypervisor.End())
	<-m.begin
	<-m.quiet
	m.listener.Exited(exit)
	close(m.told)
}

// graceful is how long QEMU may take to end of itself after the vsock device has ended of itself: both see a
// power-off, and the device may be first.
const graceful = 300 * time.Millisecond

func (m *Machine) deviceDied(hypervisor, device *child.Process) bool {
	if device.End().Signal != "" {
		return true
	}
	select {
	case <-hypervisor.Done():
		return false
	case <-time.After(graceful):
		return true
	}
}

// judge says why the machine ended; called with the lock held.
func (m *Machine) judge(hypervisor, device *child.Process, vsockDied bool) Exit {
	end := hypervisor.End()
	exit := Exit{ExitStatus: end.Status, Signal: end.Signal, Evidence: hypervisor.Messages()}
	switch {
	case m.terminated:
		exit.Reason = "terminated"
	case m.diskFull:
		exit.Reason = "disk-full"
	case vsockDied:
		end = device.End()
		exit = Exit{Reason: "vsock-died", ExitStatus: end.Status, Signal: end.Signal, Evidence: device.Messages()}
	case end.Status != nil && *end.Status == 0:
		exit.Reason = "guest-off"
		if exit.Evidence == "" && m.shutdown != "" {
			exit.Evidence = "QMP SHUTDOWN " + m.shutdown
		}
	default:
		exit.Reason = "hypervisor-died"
	}
	exit.Evidence = contract.Tail(exit.Evidence, maxEvidenceBytes)
	return exit
}

// maxEvidenceBytes is the contract's bound.
const maxEvidenceBytes = 16384

func (m *Machine) progress() {
	defer close(m.quiet)
	select {
	case <-m.begin:
	case <-m.gone:
		return
	}
	for { // no ticker: an idle guest's helper sleeps
		select {
		case <-m.gone:
			return
		case <-m.console.More():
		}
		m.listener.Progress(m.console.Bytes())
		select {
		case <-m.gone:
			return
		case <-time.After(tick):
		}
	}
}

// Native adds the system's error number to an error of ours, where there is one.
func Native(e *contract.Error, err error) *contract.Error {
	if name := errnoName(err); name != "" {
		e.Native = &contract.Native{Domain: "errno", Code: name}
	}
	return e
}
