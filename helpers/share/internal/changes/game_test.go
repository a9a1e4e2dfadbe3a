//go:build linux

package changes_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/changes"
	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

var seedFlag = flag.Int("game.seed", -1, "the one game to play; -1: all")

// A guest that makes, removes, makes again and moves files and whole directories, in a small place where its steps meet, and a user who
// applies, discards and undoes this and that meanwhile.
type game struct {
	*rig
	rand  *rand.Rand
	steps []string
	count int
	held  []ninep.Node
}

func (g *game) note(format string, args ...any) {
	g.steps = append(g.steps, fmt.Sprintf(format, args...))
}

func (g *game) fail(format string, args ...any) {
	g.t.Helper()
	g.t.Fatalf("%s\nsteps:\n%s\nlist:\n%s", fmt.Sprintf(format, args...), strings.Join(g.steps, "\n"), strings.Join(g.lines(), "\n"))
}

// path is a random one that may lead somewhere.
func (g *game) path() string {
	path := string("abc"[g.rand.IntN(3)])
	for range g.rand.IntN(3) {
		path += "/" + string("abc"[g.rand.IntN(3)])
	}
	return path
}

// look walks without insisting; nil when nothing is there.
func (g *game) look(path string) ninep.Node {
	n := g.tree.Root()
	for _, name := range layer.Components(path) {
		next, err := n.Walk(name)
		n.Drop()
		if err != nil {
			return nil
		}
		n = next
	}
	return n
}

// removeAll is what rm -r does.
func (g *game) removeAll(path string) {
	n := g.look(path)
	if n == nil {
		return
	}
	directory := n.QID().Type&wire.QTDir != 0
	if directory {
		var names []string
		must(g.t, ninep.EachName(n, func(d wire.Dirent) bool { names = append(names, d.Name); return true }))
		for _, name := range names {
			g.removeAll(path + "/" + name)
		}
	}
	n.Drop()
	g.remove(path, directory)
}

// guestStep does one thing, if it can be done.
func (g *game) guestStep() {
	path := g.path()
	parent, name := split(path)
	dir := g.look(parent)
	if dir == nil {
		return
	}
	defer dir.Drop()
	if dir.QID().Type&wire.QTDir == 0 {
		return
	}
	if g.rand.IntN(8) == 0 && len(g.held) < 10 { // as who works in a directory has it
		dir.Hold()
		g.held = append(g.held, dir)
	}
	there := g.look(path)
	directory := there != nil && there.QID().Type&wire.QTDir != 0
	if there != nil {
		defer there.Drop()
	}
	g.count++
	switch g.rand.IntN(12) {
	case 0, 1, 2:
		if !directory && !(there != nil && there.QID().Type&wire.QTSymlink != 0) {
			g.note("write %s", path)
			g.guest(path, fmt.Sprint("by the guest ", g.count))
		}
	case 3, 4:
		if there == nil {
			g.note("mkdir %s", path)
			g.mkdir(path)
		}
	case 5, 6:
		g.note("rm -r %s", path)
		g.removeAll(path)
	case 7:
		g.note("rm -r %s; mkdir", path)
		g.removeAll(path)
		g.mkdir(path)
	case 8, 9, 10:
		to := g.path()
		toParent, toName := split(to)
		toDir := g.look(toParent)
		if toDir == nil {
			return
		}
		defer toDir.Drop()
		if there == nil {
			return
		}
		// One of the folder's directories in the place of another that is elsewhere: README.md, Limits.
		if directory && g.layer.Object(to) != 0 {
			if st, err := os.Lstat(g.host(path)); there.QID().Path&(1<<62) == 0 || err == nil && st.IsDir() {
				return
			}
		}
		if toDir.QID().Type&wire.QTDir != 0 {
			err := dir.Rename(name, toDir, toName)
			g.note("mv %s %s: %v", path, to, err)
			if err == unix.EIO {
				g.fail("a rename that fails")
			}
		}
	case 11:
		if there != nil && there.QID().Type&wire.QTSymlink == 0 {
			mode := []uint32{0o755, 0o644, 0o700}[g.rand.IntN(3)]
			g.note("chmod %o %s", mode, path)
			g.chmod(path, mode)
		}
	}
}

func (g *game) letGo() {
	for _, n := range g.held {
		n.Drop()
	}
	g.held = nil
}

// some chooses changes at random.
func (g *game) some() changes.What {
	if g.rand.IntN(3) == 0 {
		g.note("all:\n\t%s", strings.Join(g.lines(), "\n\t"))
		return g.all()
	}
	var what changes.What
	for _, c := range g.list() {
		if g.rand.IntN(2) == 0 {
			g.note("chosen: %s %s", c.Path, c.Kind)
			what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token})
		}
	}
	return what
}

// discardAll drops every change: the guest sees the folder then.
func (g *game) discardAll() {
	folder := g.picture(g.lower)
	for range 10 {
		if len(g.list()) == 0 {
			break
		}
		g.note("discarded:\n\t%s", strings.Join(g.lines(), "\n\t"))
		if _, err := g.set.Discard(g.all()); err != nil {
			g.fail("a discard: %v", err)
		}
	}
	for _, reopened := range []bool{false, true} {
		if reopened {
			g.letGo()
			g.open()
		}
		if saw := g.sees(); saw != folder || g.picture(g.lower) != folder {
			g.fail("with all discarded, reopened %v, the guest sees\n%s\nand the folder was\n%s", reopened, saw, folder)
		}
	}
}

// TestWhatIsAppliedOrUndoneIsForTheGuestAsItWas: an apply or undo moves files between layer and folder, and the guest, who has no part in
// it, sees the same tree before and after. Once everything is applied the folder is that tree; once everything is discarded the guest's is
// the folder's.
func TestWhatIsAppliedOrUndoneIsForTheGuestAsItWas(t *testing.T) {
	games := uint64(14)
	if os.Getenv("CLOCHE_LONG") != "" {
		games = 2000
	}
	first := uint64(0)
	if *seedFlag >= 0 {
		first, games = uint64(*seedFlag), 1
	}
	whole, discarded := 0, 0
	for seed := first; seed < first+games; seed++ {
		g := &game{rig: newRig(t), rand: rand.New(rand.NewPCG(seed, 7))}
		for i, path := range []string{"a/a/a", "a/b", "b/c", "b/a/b", "c/a/a", "c/a/b"} {
			g.put(path, fmt.Sprint("of the host ", i))
		}
		g.open()
		g.note("seed %d", seed)
		for range 6 {
			for range 1 + g.rand.IntN(8) {
				g.guestStep()
			}
			before := g.sees()
			same := func(what string) {
				if now := g.sees(); now != before {
					g.fail("%s: the guest sees\n%s\nnot\n%s", what, now, before)
				}
			}
			batch, done, refused := g.apply(g.some())
			g.note("applied %d, refused %v", done, refused)
			same("after an apply")
			switch g.rand.IntN(4) {
			case 0:
				if done > 0 {
					g.note("undo")
					g.undo(batch)
					same("after an undo")
				}
			case 1:
				g.note("reopened")
				g.letGo()
				g.open()
				same("after another start")
			}
		}
		if seed%4 == 3 {
			g.discardAll()
			discarded++
			g.letGo()
			g.close()
			continue
		}
		before := g.sees()
		for range 10 {
			if len(g.list()) == 0 {
				break
			}
			g.note("all:\n\t%s", strings.Join(g.lines(), "\n\t"))
			_, done, refused := g.apply(g.all())
			g.note("applied %d, refused %v", done, refused)
			if now := g.sees(); now != before {
				g.fail("at the end the guest sees\n%s\nnot\n%s", now, before)
			}
			if done == 0 {
				break
			}
		}
		if left := g.list(); len(left) == 0 {
			whole++
			if folder := g.picture(g.lower); folder != before {
				g.fail("with all applied the folder is\n%s\nand the guest sees\n%s", folder, before)
			}
		}
		g.letGo()
		g.close() // here and not at the test's end: all games together have more descriptors than there are
	}
	t.Logf("%d of %d games ended with everything applied, %d with everything discarded", whole, games, discarded)
	if whole < (int(games)-discarded)/2 {
		t.Error("that is too few")
	}
}
