package main

import (
	"encoding/json"
	"unsafe"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// A difference below this is taken back slowly, so that no program sees the clock go backwards for a few milliseconds of the
// stream's delay; a larger one is a pause or a fresh start and is stepped over.
const stepFromMs = 500

// setClock brings the guest's clock to the host's, and says by how much it was stepped.
func setClock(hostNs int64) (steppedMs int64, err error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return 0, err
	}
	difference := hostNs - now.Nano()
	if difference > -stepFromMs*1e6 && difference < stepFromMs*1e6 {
		const offsetOnce = 0x8001 // ADJ_OFFSET_SINGLESHOT: old adjtime, in microseconds
		_, err := unix.Adjtimex(&unix.Timex{Modes: offsetOnce, Offset: difference / 1000})
		return 0, err
	}
	target := unix.NsecToTimespec(hostNs)
	if _, _, errno := unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&target)), 0); errno != 0 {
		return 0, errno
	}
	return difference / 1e6, nil
}

type setTimeParams struct {
	TimeUnixNs string `json:"timeUnixNs"`
}

type setTimeResult struct {
	SteppedMs int64 `json:"steppedMs"`
}

func parseSetTime(raw json.RawMessage) (int64, error) {
	var p setTimeParams
	if err := contract.Params(raw, &p); err != nil {
		return 0, err
	}
	return parseUnixNs("timeUnixNs", p.TimeUnixNs)
}

func (a *agent) handleSetTime(raw json.RawMessage) (any, error) {
	ns, err := parseSetTime(raw)
	if err != nil {
		return nil, err
	}
	stepped, err := setClock(ns)
	if err != nil {
		return nil, nativeError("agent.native", "the clock cannot be set", err)
	}
	if stepped != 0 {
		logf("clock stepped by %d ms", stepped)
	}
	return setTimeResult{stepped}, nil
}
