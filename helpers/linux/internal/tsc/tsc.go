package tsc

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// span is what two samples are apart at least: each is off by some 50 ns, so the result is right to about 5 ppm.
const span = 20 * time.Millisecond

// Clock holds the first of two samples.
type Clock struct{ first sample }

type sample struct {
	ticks uint64
	at    int64 // ns
}

// Begin takes the first sample. The later KHz is called, the more exact it is.
func Begin() Clock { return Clock{take()} }

// KHz is the frequency, or 0 when this processor's counter does not run steadily. It waits until span has passed.
func (c Clock) KHz() uint64 {
	if !steady() {
		return 0
	}
	if rest := span - time.Duration(take().at-c.first.at); rest > 0 {
		time.Sleep(rest)
	}
	return frequency(c.first, take())
}

func frequency(a, b sample) uint64 {
	if b.at <= a.at || b.ticks <= a.ticks {
		return 0
	}
	// In floating point: ticks times a million passes 64 bits after two hours.
	return uint64(float64(b.ticks-a.ticks)*1e6/float64(b.at-a.at) + 0.5)
}

// take gives the best of a few tries: the one in which the clock was read fastest was interrupted least.
func take() sample {
	var best sample
	fastest := uint64(1 << 63)
	for range 8 {
		var t unix.Timespec
		before := read()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &t)
		after := read()
		if after-before < fastest {
			fastest, best = after-before, sample{before + (after-before)/2, t.Nano()}
		}
	}
	return best
}

// steady says whether the counter runs at one speed, in deep sleep too; the kernel has looked already.
func steady() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(info) {
		if name, flags, found := bytes.Cut(line, []byte(":")); found && bytes.HasPrefix(name, []byte("flags")) {
			flags = append(bytes.TrimSpace(flags), ' ')
			return bytes.Contains(flags, []byte("constant_tsc ")) && bytes.Contains(flags, []byte("nonstop_tsc "))
		}
	}
	return false
}
