//go:build linux

package changes_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestWhatIsWrittenToAnOpenFileAfterAnApplyOrADiscardIsWhereAFreshOpenFindsIt: of a content, a mode or a move.
func TestWhatIsWrittenToAnOpenFileAfterAnApplyOrADiscardIsWhereAFreshOpenFindsIt(t *testing.T) {
	for _, what := range []string{"control: content", "mode", "move", "move of a directory"} {
		for _, did := range []string{"apply", "discard"} {
			if did == "discard" && what != "mode" {
				continue // what the task made, or its place, goes with what has it open
			}
			t.Run(fmt.Sprint(what, ", ", did), func(t *testing.T) {
				r := newRig(t)
				r.put("d/p", "host")
				r.open()
				path := "d/p"
				switch what {
				case "mode":
					r.chmod("d/p", 0o755)
				case "move":
					r.rename("d/p", "q")
					path = "q"
				case "move of a directory":
					r.rename("d", "e")
					path = "e/p"
				default:
					r.guest("d/p", "task")
				}
				n := r.at(path)
				f, err := n.Open(2)
				must(t, err)
				if did == "apply" {
					_, _, refused := r.apply(r.all())
					r.none(refused)
				} else {
					_, refused := r.discard(r.all())
					r.none(refused)
				}
				for i, word := range []string{"WORK", "MORE"} {
					_, err = f.WriteAt([]byte(word), int64(4*i))
					must(t, err)
				}
				must(t, f.Sync(false))
				again := r.at(path)
				if again.QID() != n.QID() {
					t.Errorf("it is another file for the guest: %v, %v", n.QID(), again.QID())
				}
				again.Drop()
				r.chmod(path, 0o700)
				f.Close()
				n.Drop()
				for _, reopened := range []bool{false, true} {
					if reopened {
						r.open()
					}
					if saw := r.sees(); !strings.Contains(saw, path+" 700 \"WORKMORE\"") {
						t.Errorf("reopened %v: the guest sees\n%s", reopened, saw)
					}
					r.expect(path + " modified file executable")
				}
				_, _, refused := r.apply(r.all())
				r.none(refused)
				r.content(path, "WORKMORE")
				r.expect()
			})
		}
	}
}
