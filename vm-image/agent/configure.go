package main

import (
	"encoding/json"
	"net/netip"
	"strings"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

type configureParams struct {
	Protocol    int64             `json:"protocol"`
	Hostname    string            `json:"hostname"`
	User        guestUser         `json:"user"`
	Environment map[string]string `json:"environment"`
	TimeUnixNs  string            `json:"timeUnixNs"`
	Entropy     string            `json:"entropy"`
	SSH         sshParams         `json:"ssh"`
	// a folder that shall be there for the user before the first command; empty: none is made
	WorkingDirectory string `json:"workingDirectory,omitempty"`
	// where what leaves the machine goes; nil: nothing leaves
	Egress *egressParams `json:"egress,omitempty"`
}

type configureResult struct {
	// guest clock when the root was there, and when ssh listened, in ms
	RootMs int64 `json:"rootMs"`
	SSHMs  int64 `json:"sshMs"`
}

type configuration struct {
	configureParams
	timeNs  int64
	entropy []byte
	// the working directory's components
	working []string
}

func parseConfigure(raw json.RawMessage) (*configuration, error) {
	c := &configuration{}
	if err := contract.Params(raw, &c.configureParams); err != nil {
		return nil, err
	}
	var err error
	if c.timeNs, err = parseUnixNs("timeUnixNs", c.TimeUnixNs); err != nil {
		return nil, err
	}
	if c.entropy, err = parseBase64("entropy", c.Entropy, maxEntropyText); err != nil {
		return nil, err
	}
	for _, err := range []error{
		checkInt("protocol", c.Protocol, 1, 1<<53-1),
		checkHostname(c.Hostname),
		c.User.check(),
		checkEnvironment(c.Environment),
		c.SSH.check(),
		c.Egress.check(),
	} {
		if err != nil {
			return nil, err
		}
	}
	if c.WorkingDirectory != "" {
		if c.working, err = splitGuestPath(c.WorkingDirectory, c.User.home()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// handleConfigure makes the machine this task's. What does not need the root is done while the root is being made.
func (a *agent) handleConfigure(raw json.RawMessage) (any, error) {
	c, err := parseConfigure(raw)
	if err != nil {
		return nil, err
	}
	if c.Protocol != protocolVersion {
		return nil, contract.Errorf("protocol.version", "the agent speaks protocol %d, the host %d", protocolVersion, c.Protocol)
	}
	if !a.configuring.CompareAndSwap(false, true) {
		return nil, contract.Errorf("protocol.order", "configure was called before")
	}
	if _, err := setClock(c.timeNs); err != nil {
		return nil, nativeError("agent.native", "the clock cannot be set", err)
	}
	if err := addEntropy(a.pool, c.entropy); err != nil {
		return nil, nativeError("agent.native", "the host's randomness cannot be added", err)
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return nil, nativeError("agent.native", "the host name cannot be set", err)
	}
	mask := loopbackMask
	if c.Egress != nil {
		mask = poolMask
	}
	if err := bringUpLoopback(mask); err != nil {
		return nil, nativeError("agent.native", "the loopback device cannot be set up", err)
	}
	a.startEgress(c.Egress)
	if err := a.root.wait(); err != nil {
		return nil, err
	}
	if err := a.groups.make(); err != nil {
		// without groups everything works but the bound on a fork bomb
		a.tell("warning", "processes are not bounded: %v", err)
	}
	if err := writeNames(c.Hostname, c.Egress != nil); err != nil {
		return nil, nativeError("agent.native", "the machine's names cannot be written", err)
	}
	if err := c.User.make(); err != nil {
		return nil, err
	}
	if err := c.makeWorkingDirectory(); err != nil {
		// the first command meets the reason itself
		a.tell("warning", "%s cannot be made: %v", c.WorkingDirectory, err)
	}
	a.user = c.User
	close(a.configured)
	if err := a.ssh.start(c.SSH, c.User, c.Environment, c.Egress != nil, a.groups.sessions); err != nil {
		return nil, err
	}
	result := configureResult{RootMs: a.root.ms, SSHMs: uptimeMs()}
	timing("ssh at %d ms", result.SSHMs)
	return result, nil
}

// makeWorkingDirectory spares the first command a fork and the reading of mkdir with its libraries.
func (c *configuration) makeWorkingDirectory() error {
	if len(c.working) == 0 {
		return nil
	}
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	made, err := openGuestPath(root, c.working, int(c.User.UID), int(c.User.GID))
	if err != nil {
		return err
	}
	return unix.Close(made)
}

// writeNames gives the machine its names. Where nothing leaves it there is no resolver; without a nameserver the C library asks 127.0.0.1,
// where nobody listens, and fails at once instead of waiting.
func writeNames(hostname string, resolver bool) error {
	resolv := "# This machine has no network card.\noptions timeout:1 attempts:1\n"
	if resolver {
		resolv = "# The machine's own agent: a name is looked up where the connection to it is made, on the host.\nnameserver " +
			netip.AddrFrom4(loopbackAddress).String() + "\n"
	}
	hosts := "127.0.0.1\tlocalhost\n127.0.1.1\t" + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, file := range [][2]string{
		{"/etc/hostname", hostname + "\n"},
		{"/etc/hosts", hosts},
		{"/etc/resolv.conf", resolv},
	} {
		if err := putFile(file[0], file[1], 0o644, 0, 0); err != nil {
			return err
		}
	}
	return makeMachineID()
}

// makeMachineID fills an empty /etc/machine-id: it names the task's disk, so it stays once it is there.
func makeMachineID() error {
	var st unix.Stat_t
	if unix.Stat("/etc/machine-id", &st) == nil && st.Size > 0 {
		return nil
	}
	var b [16]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return err
	}
	var id strings.Builder
	for _, x := range b {
		id.WriteByte(hexDigits[x>>4])
		id.WriteByte(hexDigits[x&15])
	}
	return putFile("/etc/machine-id", id.String()+"\n", 0o444, 0, 0)
}
