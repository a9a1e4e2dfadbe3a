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

// service answers the contract's methods.
type service struct {
	peer    *contract.Peer
	machine *machine.Machine

	lock    sync.Mutex // guards greeted
	greeted bool
}

func newService(programs machine.Programs, in io.Reader, out io.Writer) *service {
	s := &service{}
	s.machine = machine.New(programs, s, logf)
	s.peer = contract.NewPeer(in, out, map[string]contract.Handler{
		"hello":     s.hello,
		"probe":     s.after(s.probe),
		"start":     s.after(s.start),
		"openPort":  s.after(s.port(s.machine.OpenPort)),
		"closePort": s.after(s.port(s.machine.ClosePort)),
		"pause":     s.after(s.plain(s.machine.Pause)),
		"resume":    s.after(s.plain(s.machine.Resume)),
		"powerdown": s.after(s.plain(s.machine.Powerdown)),
		"terminate": s.after(s.plain(func() error { s.machine.Terminate(true); return nil })),
		"status":    s.after(s.status),
		"balloon":   s.after(s.balloon),
	})
	return s
}

func (s *service) serve() error { return s.peer.Serve() }

// Progress and Exited are the contract's notifications. A lost connection ends the helper elsewhere.
func (s *service) Progress(consoleBytes int64) {
	_ = s.peer.Notify("progress", map[string]int64{"consoleBytes": consoleBytes})
}

func (s *service) Exited(exit machine.Exit) { _ = s.peer.Notify("exited", exit) }

// after refuses everything before a hello that fitted.
func (s *service) after(handler contract.Handler) contract.Handler {
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
		Protocol *int64  `json:"protocol"`
		Client   *string `json:"client"`
	}
	if err := contract.Params(raw, &params); err != nil {
		return nil, err
	}
	if params.Protocol == nil || params.Client == nil || *params.Protocol < 1 || len([]rune(*params.Client)) > 64 {
		return nil, contract.BadParams("protocol must be a positive integer and client at most 64 characters")
	}
	switch {
	case *params.Protocol < protocol:
		return nil, contract.Errorf("protocol.version", "the keeper speaks version %d, which is older than this helper's %d", *params.Protocol, protocol)
	case *params.Protocol > protocol:
		return nil, contract.Errorf("protocol.version", "the keeper speaks version %d, which is newer than this helper's %d", *params.Protocol, protocol)
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
	return s.machine.Probe(params)
}

func (s *service) start(raw json.RawMessage) (any, error) {
	config, err := decodeConfig(raw)
	if err != nil {
		return nil, err
	}
	processes, err := s.machine.Start(config)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"accelerator": config.Accelerator, "processes": processes}
	return contract.Answer{Result: result, After: s.machine.Begin}, nil
}

// decodeConfig also finds absent fields that Go would read as a valid zero.
func decodeConfig(raw json.RawMessage) (plan.Config, error) {
	var config plan.Config
	if err := contract.Params(raw, &config); err != nil {
		return config, err
	}
	var present struct {
		Cmdline *json.RawMessage             `json:"cmdline"`
		Disks   []map[string]json.RawMessage `json:"disks"`
	}
	if err := json.Unmarshal(raw, &present); err != nil {
		return config, contract.BadParams("%v", err)
	}
	problems := config.Validate()
	if present.Cmdline == nil {
		problems = append(problems, "cmdline is missing")
	}
	for _, disk := range present.Disks {
		if _, ok := disk["readOnly"]; !ok {
			problems = append(problems, "a disk's readOnly is missing")
		}
	}
	if len(problems) > 0 {
		return config, contract.BadParams("%s", strings.Join(problems, "; "))
	}
	return config, nil
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
	state, bytes, processes := s.machine.Status()
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
	return nil, s.machine.Balloon(params.TargetMib)
}
