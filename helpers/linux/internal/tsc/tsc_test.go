package tsc

import "testing"

func TestFrequency(t *testing.T) {
	for _, c := range []struct {
		why  string
		a, b sample
		want uint64
	}{
		{"2.6 GHz over 20 ms", sample{1000, 5}, sample{1000 + 52_000_000, 5 + 20_000_000}, 2_600_000},
		{"over a week", sample{0, 0}, sample{2_600_000_000 * 604800, 604800 * 1_000_000_000}, 2_600_000},
		{"a counter that stands", sample{7, 0}, sample{7, 20_000_000}, 0},
		{"a clock that stands", sample{7, 5}, sample{9, 5}, 0},
	} {
		if got := frequency(c.a, c.b); got != c.want {
			t.Errorf("%s: %d, not %d", c.why, got, c.want)
		}
	}
}

func TestClock_TwoMeasurementsAgree(t *testing.T) {
	first, second := Begin().KHz(), Begin().KHz()
	if first == 0 {
		t.Skip("this processor's counter is not steady")
	}
	if difference := int64(first) - int64(second); difference > 200 || difference < -200 {
		t.Errorf("%d kHz and %d kHz", first, second) // 200 kHz of some GHz: a busy machine's worth
	}
}
