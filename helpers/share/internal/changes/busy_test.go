//go:build linux

package changes_test

import (
	"fmt"
	"testing"
	"time"

	"cloche/share/internal/changes"
)

func TestAGuestThatNeverStopsDoesNotHoldUpAnApply(t *testing.T) {
	for _, busy := range []bool{true, false} { // the second is the control
		r := newRig(t)
		r.put("moved", "host")
		r.open()
		for i := range 3000 {
			r.guest(fmt.Sprint("f", i), "x")
		}
		r.guest("app.db", sqlite("x"))
		r.guest("app.db-wal", wal("x"))
		r.rename("moved", "elsewhere")
		page, err := r.set.List("", 150)
		must(t, err)
		var what changes.What
		for _, c := range page.Changes {
			what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token})
		}
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			root := r.tree.Root()
			defer root.Drop()
			for i := 0; busy; i++ {
				select {
				case <-stop:
					return
				default:
					_, _ = root.Mkdir(fmt.Sprint("busy", i), 0o755)
					time.Sleep(time.Millisecond)
				}
			}
		}()
		begin := time.Now()
		longest := time.Duration(0)
		done := 0
		slice, err := r.set.Apply(what)
		for {
			longest = max(longest, time.Since(begin))
			must(t, err)
			if done += len(slice.Done); len(slice.Refused) > 0 {
				t.Errorf("busy %v: refused %v", busy, slice.Refused)
			}
			if slice.Remaining == 0 {
				break
			}
			begin = time.Now()
			slice, err = r.set.ApplyMore(slice.Batch)
		}
		close(stop)
		<-stopped
		t.Logf("busy %v: the longest call took %v", busy, longest)
		if done != 150 || longest > 10*time.Second {
			t.Errorf("busy %v: %d of 150 applied, the longest call took %v", busy, done, longest)
		}
		r.content("app.db", sqlite("x"))
	}
}
