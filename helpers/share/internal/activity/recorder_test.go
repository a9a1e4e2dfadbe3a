package activity

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that stands still unless it is moved.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestABudgetLetsABurstThrough_ThenARate(t *testing.T) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	b := budget{left: 10_000, burst: 10_000, rate: 1000, now: c.now}
	spent := 0
	for b.wait() == 0 {
		b.left -= 500
		spent += 500
	}
	if spent != 10_000 {
		t.Errorf("a burst of %d, want 10000", spent)
	}
	if wait := b.wait(); wait <= 0 || wait > 10*time.Millisecond {
		t.Errorf("the next one waits %v", wait)
	}
	b.left -= 4000
	if wait := b.wait(); wait < 4*time.Second || wait > 4100*time.Millisecond {
		t.Errorf("a debt of 4000 at 1000 a second waits %v", wait)
	}
	c.at = c.at.Add(time.Hour)
	if b.wait() != 0 || b.left != 10_000 {
		t.Errorf("after an hour %d are left, want no more than the burst", b.left)
	}
}

// A guest that renames in a loop, by two names or by ever new ones, makes the keeper's log grow by no more than burst and rate.
func TestAFloodGrowsTheLogByTheBudgetAlone_AndNoActIsUntold(t *testing.T) {
	for name, path := range map[string]func(i int) string{
		"new names": func(i int) string { return "name-" + strconv.Itoa(i) },
		"two names": func(i int) string { return "name-" + strconv.Itoa(i%2) },
	} {
		t.Run(name, func(t *testing.T) {
			var told, bytes atomic.Int64
			var r *recorder
			r = newRecorder(func(batch uint64, entries []Entry) {
				for i := range entries {
					told.Add(int64(entries[i].Count))
					bytes.Add(cost(&entries[i]))
				}
				go r.Recorded(batch)
			})
			const burst, rate = 40_000, 100_000
			begin := time.Now()
			r.budget = budget{left: burst, burst: burst, rate: rate, now: time.Now}
			const acts = 1000
			for i := range acts {
				r.record(Entry{What: Renamed, Path: path(i), To: path(i + 1), Count: 1})
			}
			for told.Load() < acts {
				r.Flush()
				time.Sleep(time.Millisecond)
			}
			took := time.Since(begin)
			if most := burst + int64(took.Seconds()*rate) + cost(&Entry{Path: path(acts), To: path(acts)}); bytes.Load() > most {
				t.Errorf("%d bytes in %v, at most %d", bytes.Load(), took, most)
			}
			if name == "two names" && bytes.Load() > 5000 {
				t.Errorf("the same two acts again and again took %d bytes", bytes.Load())
			}
			if name == "new names" && took < 500*time.Millisecond {
				t.Errorf("a flood of %d bytes was not slowed: %v", bytes.Load(), took)
			}
		})
	}
}
