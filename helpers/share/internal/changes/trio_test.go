//go:build linux

package changes_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// hostStep does one thing in the folder, as an editor or a build of the user's does.
func (g *game) hostStep() {
	path := g.path()
	switch g.rand.IntN(3) {
	case 0:
		g.note("HOST rm -r %s: %v", path, os.RemoveAll(g.host(path)))
	case 1:
		g.note("HOST mkdir -p %s: %v", path, os.MkdirAll(g.host(path), 0o755))
	case 2:
		g.count++
		_ = os.MkdirAll(filepath.Dir(g.host(path)), 0o755)
		g.note("HOST write %s: %v", path, os.WriteFile(g.host(path), []byte(fmt.Sprint("by the host ", g.count)), 0o644))
	}
}

// stale tells whether the guest has a directory of which the host has taken away what it was: a removal of all in it has no list to go by.
func (g *game) stale(path string) bool {
	n := g.look(path)
	if n == nil {
		return false
	}
	defer n.Drop()
	if n.QID().Type&wire.QTDir == 0 {
		return false
	}
	var names []string
	if ninep.EachName(n, func(d wire.Dirent) bool { names = append(names, d.Name); return true }) != nil {
		return true
	}
	for _, name := range names {
		if g.stale(path + "/" + name) {
			return true
		}
	}
	return false
}

// TestWhateverTaskUserAndHostDo_TheFolderOpens_AndNothingWaitsUnseenOrForEver: the task goes on between an apply and its undo, the user discards
// and undoes this and that, and the host edits the folder meanwhile. No step fails or ends the server; with neither host nor discards the guest sees
// the same before and after each apply and undo, and in the end a discard of all always brings the folder's own.
func TestWhateverTaskUserAndHostDo_TheFolderOpens_AndNothingWaitsUnseenOrForEver(t *testing.T) {
	games := uint64(8)
	if os.Getenv("CLOCHE_LONG") != "" {
		games = 400
	}
	first := uint64(0)
	if *seedFlag >= 0 {
		first, games = uint64(*seedFlag), 1
	}
	for _, who := range []string{"task and undo", "and discards", "and the host"} {
		t.Run(who, func(t *testing.T) {
			for seed := first; seed < first+games; seed++ {
				trio(t, seed, who != "task and undo", who == "and the host")
			}
		})
	}
}

func trio(t *testing.T, seed uint64, discards, host bool) {
	g := &game{rig: newRig(t), rand: rand.New(rand.NewPCG(seed, 99))}
	defer func() {
		if p := recover(); p != nil {
			t.Logf("seed %d", seed)
			g.t = nil
			panic(fmt.Sprint(p, g.steps))
		}
	}()
	for i, path := range []string{"a/a/a", "a/b", "b/c", "b/a/b", "c/a/a", "c/a/b"} {
		g.put(path, fmt.Sprint("of the host ", i))
	}
	g.open()
	g.note("seed %d, -args -game.seed=%d", seed, seed)
	for range 5 {
		for range 1 + g.rand.IntN(6) {
			if !host || !g.stale("a") && !g.stale("b") && !g.stale("c") {
				g.guestStep()
			}
			if host && g.rand.IntN(5) == 0 {
				g.hostStep()
			}
		}
		before := g.sees()
		same := func(what string, refused []string) {
			if now := g.sees(); !discards && len(refused) == 0 && now != before {
				g.fail("after %s the guest sees\n%s\nnot\n%s", what, now, before)
			}
		}
		switch k := g.rand.IntN(4); {
		case k == 0 && discards:
			done, refused := g.discard(g.some())
			g.note("discarded %d, refused %v", done, refused)
		case k == 1:
			slice, _, err := g.set.Undo("")
			if err != nil {
				break // there is none
			}
			var refused []string
			for {
				for _, f := range slice.Refused {
					refused = append(refused, f.Path+" "+f.Code)
				}
				if slice.Remaining == 0 {
					break
				}
				slice, _, err = g.set.UndoMore(slice.Batch)
				must(t, err)
			}
			g.note("undone, refused %v", refused)
			for _, f := range refused {
				if !discards && !strings.HasSuffix(f, " share.not-undoable") {
					g.fail("an undo that lost something: %v", refused)
				}
			}
			same("an undo", refused)
		default:
			if what := g.some(); len(what.Changes) > 0 || what.All {
				_, done, refused := g.apply(what)
				g.note("applied %d, refused %v", done, refused)
				same("an apply", nil)
			}
		}
		if g.rand.IntN(3) == 0 {
			before = g.sees()
			g.letGo()
			g.open()
			g.note("reopened")
			same("another start", nil)
		}
	}
	for range 6 {
		g.note("discard all: %v", g.lines())
		_, refused := g.discard(g.all())
		if g.note("refused %v", refused); len(g.list()) == 0 {
			break
		}
	}
	if left := g.lines(); len(left) > 0 {
		g.fail("what cannot be discarded: %v", left)
	}
	for _, reopened := range []bool{false, true} {
		if reopened || host { // what the guest holds of something that the host removed stays until it is let go
			g.letGo()
			g.open()
		}
		if saw, folder := g.sees(), g.picture(g.lower); saw != folder {
			g.fail("with all discarded, reopened %v, the guest sees\n%s\nand the folder is\n%s", reopened, saw, folder)
		}
	}
	g.letGo()
	g.close()
}
