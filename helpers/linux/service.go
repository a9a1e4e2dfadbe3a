package main

import (
	"encoding/json"
	"io"
	"strings"
	"sync"

	"cloche/contract"
	"cloche/helper/internal/machine"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/probe"
)

// protocol is HELPER_PROTOCOL in helpers/contract/protocol.ts.
const protocol = 1

// features are those this backend has. No powerdown: microvm without ACPI has no button that could be pressed.
var features = []string{"pause", "balloon"}

// backend is what the service drives: *machine.Machine, or a double in tests.
type backend interface {
	Start(plan.Config) ([]machine.ProcessInfo, error)
	Begin()
	Probe(probe.Params) (probe.Result, error)
	OpenPort(uint32) error
	ClosePort(uint32) error
	Pause() error
	Resume() error
	Powerdown() error
	Balloon(targetMib int64) error
	Terminate(told bool)
	Status() (machine.State, int64, []machine.ProcessInfo)
}

// service answers the contract's methods.
type service struct {
	peer    *contract.Peer
	backend backend

	lock    sync.Mutex // guards greeted
	greeted bool
}

// newService makes the service; makeBackend gets the one who hears of the machine.
func newService(in io.Reader, out io.Writer, makeBackend func(machine.Listener) backend) *service {
	s := &service{}
	s.backend = makeBackend(s)
	s.peer = contract.NewPeer(in, out, map[string]contract.Handler{
		"hello":     s.hello,
		"probe":     s.greetedFirst(s.probe),
		"start":     s.greetedFirst(s.start),
		"openPort":  s.greetedFirst(s.port(s.backend.OpenPort)),
		"closePort": s.greetedFirst(s.port(s.backend.ClosePort)),
		"pause":     s.greetedFirst(s.plain(s.backend.Pause)),
		"resume":    s.greetedFirst(s.plain(s.backend.Resume)),
		"powerdown": s.greetedFirst(s.plain(s.backend.Powerdown)),
		"terminate": s.greetedFirst(s.plain(s.terminate)),
		"status":    s.greetedFirst(s.status),
		"balloon":   s.greetedFirst(s.balloon),
	})
	return s
}

func (s *service) serve() error { return s.peer.Serve() }

// Progress and Exited are the contract's notifications. A lost connection ends the helper elsewhere.
func (s *service) Progress(consoleBytes int64) {
	_ = s.peer.Notify("progress", map[string]int64{"consoleBytes": consoleBytes})
}

func (s *service) Exited(exit machine.Exit) { _ = s.peer.Notify("exited", exit) }

// greetedFirst refuses everything before a hello that fitted.
func (s *service) greetedFirst(handler contract.Handler) contract.Handler {
	return func(params json.RawMessage) (any, error) {
		s.lock.Lock()
		greeted := s.greeted
		s.lock.Unlock()
		if !greeted {
			return nil, contract.Errorf("protocol.order", "hello comes first")
		}
		return handler(params)
	}
}

func (s *service) hello(raw json.RawMessage) (any, error) {
	var params struct {
		Protocol int64  `json:"protocol"`
		Client   string `json:"client"`
	}
	if err := contract.Params(raw, &params); err != nil {
		return nil, err
	}
	if params.Protocol < 1 || len([]rune(params.Client)) > 64 {
		return nil, contract.BadParams("protocol must be a positive integer and client at most 64 characters")
	}
	switch {
	case params.Protocol < protocol:
		return nil, contract.Errorf("protocol.version", "the keeper speaks version %d, which is older than this helper's %d", params.Protocol, protocol)
	case params.Protocol > protocol:
		return nil, contract.Errorf("protocol.version", "the keeper speaks version %d, which is newer than this helper's %d", params.Protocol, protocol)
	}
	s.lock.Lock()
	s.greeted = true
	s.lock.Unlock()
	return map[string]any{"protocol": protocol, "name": "cloche-helper-linux", "version": version, "platform": "linux", "features": features}, nil
}

func (s *service) probe(raw json.RawMessage) (any, error) {
	var params probe.Params
	if err := contract.Params(raw, &params); err != nil {
		return nil, err
	}
	if problems := params.Validate(); len(problems) > 0 {
		return nil, contract.BadParams("%s", strings.Join(problems, "; "))
	}
	return s.backend.Probe(params)
}

func (s *service) start(raw json.RawMessage) (any, error) {
	config, err := decodeConfig(raw)
	if err != nil {
		return nil, err
	}
	processes, err := s.backend.Start(config)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"accelerator": config.Accelerator, "processes": processes}
	return contract.Answer{Result: result, After: s.backend.Begin}, nil
}

func decodeConfig(raw json.RawMessage) (plan.Config, error) {
	var config plan.Config
	if err := contract.Params(raw, &config); err != nil {
		return config, err
	}
	if problems := config.Validate(); len(problems) > 0 {
		return config, contract.BadParams("%s", strings.Join(problems, "; "))
	}
	return config, nil
}

func (s *service) terminate() error {
	s.backend.Terminate(true)
	return nil
}

func (s *service) port(act func(uint32) error) contract.Handler {
	return func(raw json.RawMessage) (any, error) {
		var params struct {
			Port uint32 `json:"port"`
		}
		if err := contract.Params(raw, &params); err != nil {
			return nil, err
		}
		if problem := plan.CheckPort(params.Port); problem != "" {
			return nil, contract.BadParams("port %s", problem)
		}
		return nil, act(params.Port)
	}
}

func (s *service) plain(act func() error) contract.Handler {
	return func(raw json.RawMessage) (any, error) {
		if err := contract.Params(raw, &struct{}{}); err != nil {
			return nil, err
		}
		return nil, act()
	}
}

func (s *service) status(raw json.RawMessage) (any, error) {
	if err := contract.Params(raw, &struct{}{}); err != nil {
		return nil, err
	}
	state, bytes, processes := s.backend.Status()
	return map[string]any{"state": state, "consoleBytes": bytes, "processes": processes}, nil
}

func (s *service) balloon(raw json.RawMessage) (any, error) {
	var params struct {
		TargetMib int64 `json:"targetMib"`
	}
	if err := contract.Params(raw, &params); err != nil {
		return nil, err
	}
	if params.TargetMib < 64 || params.TargetMib > 1<<20 {
		return nil, contract.BadParams("targetMib must be 64 to 1048576")
	}
	return nil, s.backend.Balloon(params.TargetMib)
}
