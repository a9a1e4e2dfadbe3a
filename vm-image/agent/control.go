package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

const protocolVersion = 6

// agent is all that the requests share. Each part guards itself.
type agent struct {
	boot   *bootParams
	root   *rootState
	procs  *registry
	groups *groups
	ssh    *sshService
	shares *shareTable
	pool   int // the kernel's randomness

	egressReady chan struct{} // closed when the way out is there, or will not be

	peer atomic.Pointer[contract.Peer] // set once the host is there

	configuring atomic.Bool
	configured  chan struct{} // closed when user holds
	user        guestUser

	ending atomic.Bool
	endMu  sync.Mutex // one shutdown at a time
}

func newAgent(boot *bootParams) *agent {
	procs := newRegistry()
	a := &agent{
		boot: boot, root: newRootState(), procs: procs, groups: newGroups(), shares: newShareTable(), egressReady: make(chan struct{}), configured: make(chan struct{}),
	}
	a.ssh = newSSHService(procs, a.waitForEgress)
	return a
}

type helloNote struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	Image    string `json:"image"`
	Kernel   string `json:"kernel"`
	BootMs   int64  `json:"bootMs"`
}

type logNote struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// serveHost calls the host, says hello and answers until the stream ends. There is one control stream in a machine's life:
// when it ends, the machine has nobody left and ends too, with its disk written back.
func (a *agent) serveHost() {
	stream := a.callHost()
	peer := contract.NewPeer(stream, stream, a.handlers())
	a.peer.Store(peer)
	hello := helloNote{Protocol: protocolVersion, Version: version, Image: a.boot.image, Kernel: clip(kernelRelease(), 128), BootMs: uptimeMs()}
	err := peer.Notify("hello", hello)
	if err == nil {
		timing("hello at %d ms", hello.BootMs)
		go a.watchLayers()
		err = peer.Serve()
	}
	if a.ending.Load() {
		return // the host may leave as soon as it has the answer to shutdown
	}
	logf("the host has left (%v): the machine ends", err)
	a.shutdown(500 * time.Millisecond)
	endMachine()
}

// callHost tries until the host is there: it bounds the time that a start may take, not the agent.
func (a *agent) callHost() *os.File {
	pause := 5 * time.Millisecond
	for tries := 1; ; tries++ {
		stream, err := dialHost(a.boot.controlPort)
		if err == nil {
			return stream
		}
		if tries == 1 || tries%20 == 0 {
			logf("calling the host, try %d: %v", tries, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

// tell sends the host a line for its log. It is text of the guest: a claim.
func (a *agent) tell(level, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	logf("%s: %s", level, message)
	if peer := a.peer.Load(); peer != nil {
		_ = peer.Notify("log", logNote{Level: level, Message: clip(message, 4096)})
	}
}

func (a *agent) handlers() map[string]contract.Handler {
	table := map[string]contract.Handler{
		"configure":      a.handleConfigure,
		"mount":          a.handleMount,
		"unmount":        a.handleUnmount,
		"setEnvironment": a.handleSetEnvironment,
		"setTime":        a.handleSetTime,
		"stats":          a.handleStats,
		"ping":           a.handlePing,
		"sync":           a.handleSync,
		"shutdown":       a.handleShutdown,
	}
	for method, handler := range table {
		table[method] = a.guarded(method, handler)
	}
	return table
}

// guarded turns a panic of a request into its error: PID 1 must not die of a bug in one of them.
func (a *agent) guarded(method string, handler contract.Handler) contract.Handler {
	return func(params json.RawMessage) (result any, err error) {
		defer func() {
			if p := recover(); p != nil {
				e := contract.Errorf("agent.native", "a bug in the agent: %s: %v", method, p)
				e.Evidence = string(debug.Stack())
				a.tell("error", "%s", e.Message)
				result, err = nil, e
			}
		}()
		result, err = handler(params)
		if err != nil {
			logf("%s: %v", method, err)
		}
		return result, err
	}
}

func (a *agent) handlePing(raw json.RawMessage) (any, error) { return nil, noParams(raw) }

func noParams(raw json.RawMessage) error { return contract.Params(raw, &struct{}{}) }

// nativeError is a failed system call as an error of the protocol. What is one already passes unchanged.
func nativeError(code, what string, err error) *contract.Error {
	if e, ok := err.(*contract.Error); ok {
		return e
	}
	e := contract.Errorf(code, "%s: %v", what, err)
	var errno unix.Errno
	if errors.As(err, &errno) {
		e.Native = &contract.Native{Domain: "errno", Code: unix.ErrnoName(errno)}
	}
	return e
}

// clip cuts text to a bound of the protocol, which counts UTF-16 units; bytes are never fewer.
func clip(text string, max int) string {
	if len(text) <= max {
		return text
	}
	text = text[:max]
	for len(text) > 0 && text[len(text)-1]&0xC0 == 0x80 {
		text = text[:len(text)-1]
	}
	if len(text) > 0 && text[len(text)-1] >= 0xC0 {
		text = text[:len(text)-1]
	}
	return text
}
