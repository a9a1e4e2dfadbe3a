//go:build linux

package changes_test

import "testing"

// A rename or removal in the middle of an apply waits for the end of it: what is applied is settled where it was looked at.
func TestWhatTakesANameAwayDuringAnApplyComesAfterIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(*rig)
		listed []string
		seen   string
	}{
		{"rename", func(r *rig) { r.rename("dir", "elsewhere") }, []string{"elsewhere moved directory from dir"},
			"elsewhere/ 755\nelsewhere/a 644 \"after\"\nelsewhere/new 644 \"new\""},
		{"removal", func(r *rig) { r.remove("dir/new", false) }, []string{"dir/new deleted file"}, "dir/ 755\ndir/a 644 \"after\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.put("dir/a", "before")
			r.open()
			r.guest("dir/a", "after")
			r.guest("dir/new", "new")
			var gone chan struct{}
			r.crash = func(string) {
				if gone == nil {
					gone = make(chan struct{})
					go func() {
						defer close(gone)
						c.do(r)
					}()
					return
				}
				select {
				case <-gone:
					t.Error("it was done before the apply")
				default:
				}
			}
			_, done, refused := r.apply(r.all())
			r.crash = nil
			r.none(refused)
			if gone == nil || done != 2 {
				t.Fatalf("%d changes applied, begun in the middle: %v", done, gone != nil)
			}
			<-gone
			r.content("dir/a", "after")
			r.content("dir/new", "new")
			r.expect(c.listed...)
			if got := r.sees(); got != c.seen {
				t.Errorf("the guest sees\n%s\nnot\n%s", got, c.seen)
			}
		})
	}
}

// As a build does: its folder is removed, made again and filled.
func TestADirectoryThatWasRemovedAndMadeAgainShowsTheGuestWhatIsAppliedInIt(t *testing.T) {
	r := newRig(t)
	r.put("dist/a", "old a")
	r.put("dist/b", "old b")
	r.open()
	r.remove("dist/a", false)
	r.remove("dist/b", false)
	r.remove("dist", true)
	r.mkdir("dist")
	r.guest("dist/a", "new a")
	r.guest("dist/c", "new c")
	before := r.sees()
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.content("dist/a", "new a")
	r.content("dist/c", "new c")
	if _, there := r.folder()["dist/b"]; there {
		t.Error("what the guest deleted is in the folder")
	}
	for _, when := range []string{"after the apply", "in a new process"} {
		if got := r.sees(); got != before {
			t.Errorf("%s the guest sees\n%s\nand before\n%s", when, got, before)
		}
		r.expect()
		r.open()
	}
}
