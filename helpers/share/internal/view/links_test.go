//go:build linux

package view_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/wire"
)

func (r *rig) symlink(path, text string) error {
	r.t.Helper()
	dir, err := r.at(filepath.Dir("/" + path)[1:])
	must(r.t, err)
	defer dir.Drop()
	_, err = dir.Symlink(filepath.Base(path), text)
	return err
}

func (r *rig) link(path, of string) error {
	r.t.Helper()
	dir, err := r.at(filepath.Dir("/" + path)[1:])
	must(r.t, err)
	defer dir.Drop()
	n, err := r.at(of)
	must(r.t, err)
	defer n.Drop()
	return dir.Link(filepath.Base(path), n)
}

// text is a link's as the guest reads it.
func (r *rig) text(path string) string {
	r.t.Helper()
	n, err := r.at(path)
	if err != nil {
		return err.Error()
	}
	defer n.Drop()
	text, err := n.Readlink()
	if err != nil {
		return err.Error()
	}
	return text
}

// leadingOut are the folder's links whose way, followed as the host does, ends outside of it.
func (r *rig) leadingOut() []string {
	r.t.Helper()
	var all []string
	must(r.t, filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		text, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(text, "/") {
			text = filepath.Join(filepath.Dir(path), text)
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			text = real
		}
		if text = filepath.Clean(text); text != r.root && !strings.HasPrefix(text, r.root+"/") {
			rel, _ := filepath.Rel(r.root, path)
			all = append(all, rel)
		}
		return nil
	}))
	return all
}

func (r *rig) noneLeadsOut() {
	r.t.Helper()
	if out := r.leadingOut(); len(out) > 0 {
		r.t.Errorf("the folder has links that lead out: %v", out)
	}
}

// F20: a program of the host's that goes on writing to a file of the folder writes to that file, and to no other of its user's.
func TestALinkOfTheGuestsThatLeadsOutStaysInTheLayer_AndTheGuestHasIt(t *testing.T) {
	r := newRW(t)
	secret := filepath.Join(filepath.Dir(r.root), "bashrc")
	must(t, os.WriteFile(secret, []byte("the user's"), 0o600))
	r.hostWrite("server.log", "lines")
	must(t, os.MkdirAll(r.host("a/b"), 0o755))
	must(t, os.Symlink("/opt", r.host("users-own")))
	r.mount()
	must(t, r.unlink("server.log"))
	escaping := map[string]string{
		"server.log": secret, "a/up": "../../bashrc", "a/b/up": "../../../bashrc", "above": "..", "a/behind": "b/../../../x", "through": "users-own/x", "a/through": "../users-own",
		"proc": "/proc/self/cwd", "back": r.root + "/a",
	}
	inside := map[string]string{"a/b/inside": "../../plain", "plain": "a/b", "dangling": "not/yet", "a/root": "..", "dot": "./a//b/."}
	for _, some := range []map[string]string{escaping, inside} {
		for path, text := range some {
			must(t, r.symlink(path, text))
		}
	}
	// What the host's program does, by the name that it knows.
	if err := os.WriteFile(r.host("server.log"), []byte("a line"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(secret); string(got) != "the user's" {
		t.Errorf("the file outside is %q", got)
	}
	must(t, os.Remove(r.host("server.log")))
	for range 2 {
		for path, text := range escaping {
			if got := r.text(path); got != text {
				t.Errorf("%s: the guest reads %q", path, got)
			}
			if _, err := os.Lstat(r.host(path)); err == nil {
				t.Errorf("%s is in the folder", path)
			}
			if n := r.node(path); n == nil || n.Target != text {
				t.Errorf("%s is not in the layer", path)
			}
		}
		for path, text := range inside { // the control
			if got, err := os.Readlink(r.host(path)); err != nil || got != text || r.text(path) != text {
				t.Errorf("%s: the folder has %q, %v; the guest reads %q", path, got, err, r.text(path))
			}
		}
		r.remount()
	}
	if got, _ := os.Readlink(r.host("users-own")); got != "/opt" {
		t.Error("the user's own link was changed")
	}
	// Once it is gone the name is an ordinary one again.
	must(t, r.unlink("server.log"))
	r.create("server.log", "new")
	if got := r.hostRead("server.log"); got != "new" {
		t.Errorf("the folder has %q", got)
	}
}

func TestALinkIsJudgedWhereItGetsTo_ByRenameAndByASecondName(t *testing.T) {
	r := newRW(t)
	must(t, os.MkdirAll(r.host("a/b"), 0o755))
	r.hostWrite("taken", "the user's")
	r.hostWrite("file", "plain")
	must(t, os.Symlink("/opt", r.host("a/users-own")))
	must(t, os.Symlink("../up", r.host("a/b/users-inside")))
	r.mount()
	must(t, r.symlink("a/b/inside", "../../x"))
	must(t, r.symlink("tmp", "/etc/passwd"))
	must(t, r.rename("tmp", "absolute"))
	must(t, r.rename("a/b/inside", "moved-up"))          // now it leads out
	must(t, r.rename("a/users-own", "a/b/renamed"))      // under a name that its user never gave it
	must(t, r.rename("a/b/users-inside", "inside-then")) // led inside from there, and does not from here
	must(t, r.symlink("tmp", "/etc/passwd"))
	must(t, r.rename("tmp", "taken"))
	for path, text := range map[string]string{"absolute": "/etc/passwd", "moved-up": "../../x", "a/b/renamed": "/opt", "inside-then": "../up", "taken": "/etc/passwd"} {
		if got := r.text(path); got != text {
			t.Errorf("%s: the guest reads %q", path, got)
		}
	}
	if got := r.hostRead("taken"); got != "the user's" {
		t.Errorf("what stood in the link's place is %q", got)
	}
	refused(t, "a second name of a layered link", r.link("second", "absolute"), syscall.EPERM)
	must(t, r.symlink("a/b/again", "../../x"))
	refused(t, "a second name from where it leads out", r.link("second", "a/b/again"), syscall.EPERM)
	must(t, r.link("a/b/second", "a/b/again")) // the control
	must(t, r.rename("a/b/again", "a/b/control"))
	must(t, r.rename("file", "a/file"))
	refused(t, "a layered link to where it leads inside", r.rename("moved-up", "a/b/back"), syscall.EXDEV)
	if got, want := r.onHost(), "a/b/control a/b/second a/file taken"; got != want {
		t.Errorf("the folder has %s, want %s", got, want)
	}
	r.noneLeadsOut()
	r.remount()
	if got := r.text("inside-then"); got != "../up" {
		t.Errorf("%q", got)
	}
}

func TestADirectoryIsNotMovedToWhereALinkInItLeadsOut(t *testing.T) {
	r := newRW(t)
	for _, dir := range []string{"deep/er/dir/sub", "deep/er/plain", "own", "through/dir"} {
		must(t, os.MkdirAll(r.host(dir), 0o755))
	}
	must(t, os.Symlink("/opt", r.host("own/link")))
	r.mount()
	must(t, r.symlink("deep/er/dir/sub/up", "../../../../x"))
	must(t, r.symlink("deep/er/plain/up", "../dir"))
	must(t, r.symlink("through/dir/next", "beside/x"))
	refused(t, "one directory up", r.rename("deep/er/dir", "deep/dir"), syscall.EXDEV)
	refused(t, "with a directory above it", r.rename("deep/er", "er"), syscall.EXDEV)
	refused(t, "with a link of the user's own", r.rename("own", "logs"), syscall.EXDEV)
	must(t, r.rename("deep/er/dir", "deep/er/beside")) // the controls
	must(t, r.rename("deep/er/plain", "deep/plain"))
	must(t, r.rename("through/dir", "dir"))
	must(t, r.symlink("dir/out", "/etc"))
	must(t, r.rename("dir", "through/dir"))
	if got := r.text("through/dir/out"); got != "/etc" {
		t.Errorf("a layered link in a directory that was moved: %q", got)
	}
	if got, want := r.onHost(), "deep/er/beside/sub/up deep/plain/up own/link through/dir/next"; got != want {
		t.Errorf("the folder has %s, want %s", got, want)
	}
	must(t, os.Remove(r.host("own/link")))
	r.noneLeadsOut()
}

// A directory that nobody can look into is not moved either.
func TestADirectoryThatCannotBeLookedIntoIsNotMoved(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("IGNORED: root may look into any directory")
	}
	r := newRW(t)
	r.mount()
	r.mkdir("a")
	r.mkdir("a/b")
	must(t, r.symlink("a/b/up", "../.."))
	must(t, os.Chmod(r.host("a/b"), 0))
	defer os.Chmod(r.host("a/b"), 0o755)
	refused(t, "the rename", r.rename("a/b", "b"), syscall.EXDEV)
}

// Whatever a guest does with links, files and directories, the folder never has a link that leads out, and the guest sees what any
// filesystem would show it.
func TestInRwAGuestsLinksLeadOutInNoWay_AndTheGuestSeesAnOrdinaryFilesystem(t *testing.T) {
	for seed := range uint64(rounds(6, 300)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := newRW(t)
			random := rand.New(rand.NewPCG(seed, 20))
			r.mount()
			play := &linkGame{rig: r, random: random, top: newThing(wire.QTDir, 0o755, nil)}
			for step := range 400 {
				play.step()
				if step%20 == 19 {
					r.noneLeadsOut()
					play.compare(play.top, "")
					if step%100 == 99 {
						r.remount()
						play.compare(play.top, "")
					}
				}
				if t.Failed() {
					t.Fatalf("after\n%s", strings.Join(play.done, "\n"))
				}
			}
		})
	}
}

// linkGame plays names against a model that knows of no layer, but that what EXDEV refuses stays where it is.
type linkGame struct {
	*rig
	random *rand.Rand
	top    *thing
	done   []string
}

func (g *linkGame) place() (*thing, string) {
	at, path := g.top, ""
	for g.random.IntN(3) > 0 {
		name := modelNames[g.random.IntN(4)]
		next := at.names[name]
		if next == nil || next.names == nil {
			break
		}
		at, path = next, layer.Join(path, name)
	}
	return at, path
}

func (g *linkGame) step() {
	dir, path := g.place()
	name := modelNames[g.random.IntN(4)]
	at, there := layer.Join(path, name), dir.names[name]
	n, err := g.at(path)
	must(g.t, err)
	defer n.Drop()
	switch g.random.IntN(8) {
	case 0, 1:
		_, err = n.Mkdir(name, 0o755)
		g.did("mkdir "+at, err, there != nil, syscall.EEXIST)
		if there == nil {
			dir.names[name] = newThing(wire.QTDir, 0o755, dir)
		}
	case 2, 3:
		text := strings.Repeat("../", g.random.IntN(5)) + modelNames[g.random.IntN(4)]
		if g.random.IntN(6) == 0 {
			text = "/" + text
		}
		_, err = n.Symlink(name, text)
		g.did("symlink "+at+" "+text, err, there != nil, syscall.EEXIST)
		if there == nil {
			dir.names[name] = newThing(wire.QTSymlink, 0o777, dir)
			dir.names[name].text = text
		}
	case 4:
		if there != nil {
			return
		}
		child, f, err := n.Create(name, 2, 0o644)
		g.did("create "+at, err, false, nil)
		child.Drop()
		f.Close()
		dir.names[name] = newThing(wire.QTFile, 0o644, dir)
	case 5:
		if there == nil {
			return
		}
		err := n.Unlink(name, there.names != nil)
		if there.names != nil && len(there.names) == 0 && err == syscall.ENOTEMPTY {
			return // the folder's directory has what a layered link stood in the place of
		}
		g.did("unlink "+at, err, len(there.names) > 0, syscall.ENOTEMPTY)
		if len(there.names) == 0 {
			delete(dir.names, name)
		}
	default:
		to, toPath := g.place()
		newName := modelNames[g.random.IntN(4)]
		over := to.names[newName]
		if there == nil || over == there || to.below(there) || over != nil && (over.names != nil || there.names != nil) {
			return
		}
		target, err := g.at(toPath)
		must(g.t, err)
		err = n.Rename(name, target, newName)
		target.Drop()
		what := "rename " + at + " " + layer.Join(toPath, newName)
		if err == syscall.EXDEV {
			g.done = append(g.done, what+" refused")
			return
		}
		g.did(what, err, false, nil)
		delete(dir.names, name)
		to.names[newName], there.up = there, to
	}
}

func (g *linkGame) did(what string, err error, fails bool, want error) {
	g.t.Helper()
	g.done = append(g.done, what)
	if !fails {
		want = nil
	}
	if err != want {
		g.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (g *linkGame) compare(m *thing, path string) {
	g.t.Helper()
	n, err := g.at(path)
	if err != nil {
		g.t.Errorf("%q: %v", path, err)
		return
	}
	defer n.Drop()
	if n.QID().Type != m.kind {
		g.t.Errorf("%q is %x, want %x", path, n.QID().Type, m.kind)
		return
	}
	if m.kind == wire.QTSymlink {
		if text, err := n.Readlink(); err != nil || text != m.text {
			g.t.Errorf("%q leads to %q, %v, want %q", path, text, err, m.text)
		}
	}
	if m.names == nil {
		return
	}
	listed, err := list(n, 2000)
	if err != nil || len(listed) != len(m.names) {
		g.t.Errorf("%q has %v, %v; want %d names", path, listed, err, len(m.names))
	}
	for name, child := range m.names {
		g.compare(child, layer.Join(path, name))
	}
}
