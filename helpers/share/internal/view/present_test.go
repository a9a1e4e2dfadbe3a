//go:build linux

package view_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// mountKept is mount with what would be destroyed kept as versions, as rw is served.
func (r *rig) mountKept() {
	r.mountWith(openDir(r.t, r.t.TempDir()), openDir(r.t, r.root), openDir(r.t, "/proc/self/fd"))
}

// mountWith is mountKept with descriptors of the caller's; store -1: nothing is kept, and nothing reaches the folder.
func (r *rig) mountWith(store, folder, proc int) (kept *versions.Store) {
	r.t.Helper()
	with := hostfs.Options{Root: folder, Proc: proc, UID: 1000, GID: 1000, ReadOnly: store < 0}
	if store >= 0 {
		var err error
		kept, err = versions.Open(versions.Options{Store: store, Proc: proc, Writer: "task-1", KeepDays: 30, LimitBytes: 1 << 40})
		must(r.t, err)
		with.Versions = kept
	}
	lower, err := hostfs.New(with)
	must(r.t, err)
	root := lower.Root().(view.Object)
	defer root.Drop()
	base, err := view.Identity(root, "")
	must(r.t, err)
	l, err := layer.Open(openDir(r.t, r.layer), *base, root.QID().Path)
	must(r.t, err)
	o := view.Options{Lower: lower, Layer: l, UID: 1000, GID: 1000}
	if r.options != nil {
		r.options(&o)
	}
	tree, err := view.New(o)
	must(r.t, err)
	r.lower, r.l, r.tree = lower, l, tree
	r.t.Cleanup(r.unmount)
	return kept
}

func (r *rig) hostRename(from, to string) {
	r.t.Helper()
	must(r.t, os.MkdirAll(filepath.Dir(r.host(to)), 0o755))
	must(r.t, os.Rename(r.host(from), r.host(to)))
}

// bothWays plays with versions and without them.
func bothWays(t *testing.T, play func(t *testing.T, r *rig, mount func())) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("versions ", kept), func(t *testing.T) {
			r := newRW(t)
			mount := r.mount
			if kept {
				mount = r.mountKept
			}
			play(t, r, mount)
		})
	}
}

// What was judged when the guest made a file holds for the place of then, and only where the folder had no say in it.
func TestAFileThatTheGuestMadeIsJudgedAnewOnceTheHostMadeItsPlaceAProtectedOne(t *testing.T) {
	for name, of := range map[string]struct {
		made, then string
		host       func(r *rig)
	}{
		"by a directory's name": {"set/tasks.json", ".vscode/tasks.json", func(r *rig) { r.hostRename("set", ".vscode") }},
		"by a file beside it":   {"store/config", "store/config", func(r *rig) { r.hostWrite("store/HEAD", "ref: refs/heads/main\n") }},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig, mount func()) {
				must(t, os.MkdirAll(r.host(filepath.Dir(of.made)), 0o755))
				mount()
				dir, err := r.at(filepath.Dir(of.made))
				must(t, err)
				defer dir.Drop()
				n, f, err := dir.Create(filepath.Base(of.made), 2, 0o644)
				must(t, err)
				defer n.Drop()
				defer f.Close()
				must(t, writeTo(f, "as it was made"))
				of.host(r)
				if err := writeTo(f, "the guest's, later"); err != syscall.ESTALE {
					t.Errorf("it is written: %v", err)
				}
				_ = n.Remove()
				if got := r.hostRead(of.then); got != "as it was made" {
					t.Errorf("the host has %q", got)
				}
			})
		})
	}
}

// A program of the host saves by a file beside it, and the guest has that open when it gets the name.
func TestNothingThatTheGuestHasOpenIsWrittenOnceTheHostGaveItAProtectedName(t *testing.T) {
	for name, to := range map[string]struct {
		beside, path string
		protected    bool
	}{
		"a file":                {"new-1", ".npmrc", true},
		"in a git directory":    {"repo/.git/new-1", "repo/.git/config", true},
		"by a directory above":  {"set/tasks.json", ".vscode/tasks.json", true},
		"a bare repository":     {"store/new-1", "store/config", true},
		"an ordinary name":      {"new-1", "notes", false},
		"an ordinary directory": {"set/tasks.json", "docs/tasks.json", false},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig, mount func()) {
				for _, dir := range []string{"repo/.git", "set", "store"} {
					must(t, os.MkdirAll(r.host(dir), 0o755))
				}
				r.hostWrite("store/HEAD", "ref: refs/heads/main\n")
				const saved = "the user's own settings"
				r.hostWrite(to.beside, saved)
				mount()
				held, f := r.open(to.beside, 2)
				walked, err := r.at(to.beside)
				must(t, err)
				defer walked.Drop()
				if filepath.Base(to.beside) == filepath.Base(to.path) {
					r.hostRename(filepath.Dir(to.beside), filepath.Dir(to.path))
				} else {
					r.hostRename(to.beside, to.path)
				}
				_, write := f.WriteAt([]byte("the guest's"), 0)
				cut := held.SetAttr(wire.SetAttr{Valid: wire.SetSize}, f)
				mode := walked.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}, nil)
				_, open := walked.Open(1)
				_, opencut := walked.Open(0o1000)
				root := r.tree.Root()
				defer root.Drop()
				link := root.Link("second", walked)
				for what, err := range map[string]error{"write": write, "truncate": cut, "chmod": mode, "open": open, "open to cut": opencut, "a second name": link} {
					if to.protected && err != syscall.ESTALE || !to.protected && err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				if got := r.hostRead(to.path); to.protected == (got != saved) {
					t.Errorf("the host has %q", got)
				}
				if info, err := os.Stat(r.host(to.path)); err != nil || to.protected == (info.Mode().Perm() == 0o777) {
					t.Errorf("%v, %v", info.Mode(), err)
				}
				if !to.protected {
					return
				}
				// By its name it is written in the layer, as ever.
				_, again := r.open(to.path, 2)
				_, err = again.WriteAt([]byte("in the layer"), 0)
				must(t, err)
				if got := r.hostRead(to.path); got != saved || !strings.HasPrefix(r.read(to.path), "in the layer") {
					t.Errorf("the host has %q, the guest %q", got, r.read(to.path))
				}
			})
		})
	}
}

// git writes the lock file and gives it the real one's name within a millisecond.
func TestAFileThatGitIsAboutToMakeItsSettingsIsTheLayersAlready(t *testing.T) {
	r := newRW(t)
	r.hostGit("", "init", "--quiet", "repo")
	r.mountKept()
	for _, path := range []string{"repo/.git/config.lock", "repo/.git/config.worktree.lock", "repo/.git/objects/info/alternates.lock", "repo/.gitmodules.lock"} {
		r.hostWrite(path, "the user's")
		_, f := r.open(path, 2)
		_, err := f.WriteAt([]byte(evilConfig), 0)
		must(t, err)
		if got := r.hostRead(path); got != "the user's" {
			t.Errorf("%s on the host is %q", path, got)
		}
		must(t, os.Remove(r.host(path)))
	}
	if r.runs("repo") {
		t.Error("git on the host ran what the guest wrote")
	}
	_, f := r.open("repo/.git/HEAD", 2) // control
	_, err := f.WriteAt([]byte("ref: refs/heads/b\n"), 0)
	must(t, err)
	if got := r.hostRead("repo/.git/HEAD"); !strings.HasPrefix(got, "ref: refs/heads/b\n") {
		t.Errorf("HEAD on the host is %q", got)
	}
}

func TestNothingIsMadeInADirectoryThatTheHostGaveAProtectedName(t *testing.T) {
	makes := map[string]func(dir, file ninep.Node) error{
		"create": func(dir, _ ninep.Node) error {
			n, f, err := dir.Create("made", 2, 0o644)
			if err == nil {
				f.Close()
				n.Drop()
			}
			return err
		},
		"mknod":   func(dir, _ ninep.Node) error { _, err := dir.Mknod("made", 0o644); return err },
		"mkdir":   func(dir, _ ninep.Node) error { _, err := dir.Mkdir("made", 0o755); return err },
		"symlink": func(dir, _ ninep.Node) error { _, err := dir.Symlink("made", "there"); return err },
		"link":    func(dir, file ninep.Node) error { return dir.Link("made", file) },
		"rename in": func(dir, file ninep.Node) error {
			root := file.Parent()
			defer root.Drop()
			return root.Rename("file", dir, "made")
		},
		"rename": func(dir, _ ninep.Node) error { return dir.Rename("there", dir, "made") },
		"unlink": func(dir, _ ninep.Node) error { return dir.Unlink("there", false) },
		"chmod": func(dir, _ ninep.Node) error {
			return dir.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o700}, nil)
		},
		"attribute": func(dir, _ ninep.Node) error { return dir.SetXattr("user.a", []byte("v"), 0) },
	}
	for what, do := range makes {
		for _, to := range []string{".vscode", "sub/.vscode", "plain", "sub/plain"} {
			t.Run(what+" "+to, func(t *testing.T) {
				bothWays(t, func(t *testing.T, r *rig, mount func()) {
					must(t, os.Mkdir(r.host("vscode"), 0o755))
					must(t, os.Mkdir(r.host("sub"), 0o755))
					r.hostWrite("vscode/there", "the user's")
					r.hostWrite("file", "text")
					mount()
					dir, err := r.at("vscode")
					must(t, err)
					defer dir.Drop()
					file, err := r.at("file")
					must(t, err)
					defer file.Drop()
					r.hostRename("vscode", to)
					picture := hashFolder(t, r.host(to))
					err = do(dir, file)
					if protected := strings.HasSuffix(to, ".vscode"); protected && hashFolder(t, r.host(to)) != picture {
						t.Errorf("%v; what the host has there is changed: %s", err, r.onHost())
					} else if !protected && (err != nil || hashFolder(t, r.host(to)) == picture) {
						t.Errorf("%v; the host has %s", err, r.onHost())
					}
				})
			})
		}
	}
}

// What has no name can be written: nobody else finds it.
func TestAnOpenFileThatTheGuestRemovedIsWrittenOn(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig, mount func()) {
		r.hostWrite("host", "the user's")
		mount()
		r.create("own", "the task's")
		for _, path := range []string{"host", "own"} {
			_, f := r.open(path, 2)
			must(t, r.unlink(path))
			_, err := f.WriteAt([]byte("gone, and written"), 0)
			must(t, err)
			b := make([]byte, 4)
			if _, err := f.ReadAt(b, 0); err != nil || string(b) != "gone" {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
	})
}

// A guest that has lost the name it opened a file by, and has another for it, does not write to whatever the host makes of that one.
func TestASecondNameThatTheHostMakesAProtectedOneIsNotWrittenThroughTheFirst(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig, mount func()) {
		mount()
		r.create("one", "the task's")
		n, f := r.open("one", 2)
		root := r.tree.Root()
		defer root.Drop()
		must(t, root.Link("two", n))
		_, err := f.WriteAt([]byte("both"), 0) // control
		must(t, err)
		must(t, r.unlink("one"))
		r.hostRename("two", ".npmrc")
		before := r.hostRead(".npmrc")
		_, err = f.WriteAt([]byte("evil"), 0)
		if got := r.hostRead(".npmrc"); got != before {
			t.Errorf("%v; the host has %q", err, got)
		}
	})
}

// What an apply takes out of its place stands beside it for a moment, and goes back there when it turns out to be another file than expected.
func TestNothingThatTheGuestHasOpenIsWrittenWhileAnApplyHasItUnderWay(t *testing.T) {
	for name, of := range map[string]struct {
		underWay  string
		protected bool
	}{
		"the file":           {".cloche-apply-0123456789abcdef", true},
		"one being restored": {".cloche-0123456789abcdef", true},
		"a directory":        {"d/.cloche-apply-0123456789abcdef/x", true},
		"by no such name":    {"cloche-apply-0123456789abcdef", false},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig, mount func()) {
				with := r.options
				r.options = func(o *view.Options) { with(o); o.Hidden = names.Temporary }
				beside := "x"
				if filepath.Dir(of.underWay) != "." {
					beside = "d/set/x"
				}
				must(t, os.MkdirAll(r.host(filepath.Dir(beside)), 0o755))
				r.hostWrite(beside, "the user's own")
				mount()
				n, f := r.open(beside, 2)
				if filepath.Dir(of.underWay) == "." {
					r.hostRename(beside, of.underWay)
				} else {
					r.hostRename(filepath.Dir(beside), filepath.Dir(of.underWay))
				}
				for what, err := range map[string]error{
					"write":    writeTo(f, "the guest's"),
					"truncate": n.SetAttr(wire.SetAttr{Valid: wire.SetSize}, f),
					"mode":     n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}, f),
				} {
					if of.protected && err != syscall.ESTALE || !of.protected && err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				if got := r.hostRead(of.underWay); of.protected && got != "the user's own" {
					t.Errorf("the host has %q", got)
				}
			})
		})
	}
}
