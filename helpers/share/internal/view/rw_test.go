//go:build linux

package view_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/names"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// newRW is a folder that the guest may change directly, but for protected names and links that lead out of it.
func newRW(t testing.TB) *rig {
	r := newRig(t)
	r.rw = true
	r.options = func(o *view.Options) {
		rules := &names.Rules{}
		if r.rules != nil {
			rules = r.rules
		}
		o.Layered = func(path []string, directory bool, look view.Look) bool {
			return rules.Protected(path, directory, look)
		}
		o.Carries = func(path []string, look view.Look) bool { return rules.Carries(path, look) }
		o.LeadsOut = names.LeadsOut
	}
	return r
}

func (r *rig) rename(from, to string) error {
	r.t.Helper()
	a, err := r.at(filepath.Dir("/" + from)[1:])
	must(r.t, err)
	defer a.Drop()
	b, err := r.at(filepath.Dir("/" + to)[1:])
	must(r.t, err)
	defer b.Drop()
	return a.Rename(filepath.Base(from), b, filepath.Base(to))
}

func (r *rig) unlink(path string) error {
	r.t.Helper()
	dir, err := r.at(filepath.Dir("/" + path)[1:])
	must(r.t, err)
	defer dir.Drop()
	return dir.Unlink(filepath.Base(path), false)
}

// replace writes a file as git and editors do: beside it under another name, then over it.
func (r *rig) replace(path, beside, content string) {
	r.t.Helper()
	r.create(beside, content)
	must(r.t, r.rename(beside, path))
}

// onHost lists what the folder has, without directories.
func (r *rig) onHost() string {
	r.t.Helper()
	var all []string
	must(r.t, filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(r.root, path)
			all = append(all, rel)
		}
		return err
	}))
	sort.Strings(all)
	return strings.Join(all, " ")
}

// gitInit does to the folder what `git init` does: config by way of a lock file, samples of hooks, and the rest.
func (r *rig) gitInit(dir string) {
	r.t.Helper()
	for _, d := range []string{"", "/hooks", "/info", "/objects", "/objects/info", "/objects/pack", "/refs", "/refs/heads", "/refs/tags"} {
		r.mkdir(dir + d)
	}
	r.create(dir+"/description", "Unnamed repository")
	r.create(dir+"/hooks/pre-commit.sample", "#!/bin/sh")
	r.create(dir+"/info/exclude", "# exclude")
	r.replace(dir+"/HEAD", dir+"/HEAD.lock", "ref: refs/heads/main\n")
	r.replace(dir+"/config", dir+"/config.lock", "[core]\n")
}

func TestGitWorksAndWhatTheHostWouldObeyStaysOutOfTheFolder(t *testing.T) {
	r := newRW(t)
	r.mount()
	r.mkdir("repo")
	r.gitInit("repo/.git")
	// `git clone` and `git remote add` write config once more; `git commit` makes an object, an index and a branch;
	// `git switch --track` writes config, a branch and HEAD.
	r.replace("repo/.git/config", "repo/.git/config.lock", "[core]\n[remote \"origin\"]\n")
	r.mkdir("repo/.git/objects/ab")
	r.create("repo/.git/objects/ab/tmp_obj_1", "object")
	n, err := r.at("repo/.git/objects/ab/tmp_obj_1")
	must(t, err)
	dir, err := r.at("repo/.git/objects/ab")
	must(t, err)
	must(t, dir.Link("cdef", n))
	must(t, r.unlink("repo/.git/objects/ab/tmp_obj_1"))
	n.Drop()
	dir.Drop()
	r.replace("repo/.git/index", "repo/.git/index.lock", "DIRC")
	r.replace("repo/.git/refs/heads/main", "repo/.git/refs/heads/main.lock", "abcdef\n")
	r.replace("repo/.git/config", "repo/.git/config.lock", "[core]\n[remote \"origin\"]\n[branch \"b\"]\n")
	r.replace("repo/.git/HEAD", "repo/.git/HEAD.lock", "ref: refs/heads/b\n")
	r.create("repo/.git/hooks/post-checkout", "evil")
	r.create("repo/file", "text")
	check := func() {
		t.Helper()
		for path, want := range map[string]string{
			"repo/.git/config": "[core]\n[remote \"origin\"]\n[branch \"b\"]\n", "repo/.git/hooks/post-checkout": "evil", "repo/.git/HEAD": "ref: refs/heads/b\n",
			"repo/.git/objects/ab/cdef": "object", "repo/.git/info/exclude": "# exclude", "repo/file": "text",
		} {
			if got := r.read(path); got != want {
				t.Errorf("the guest reads %q in %s", got, path)
			}
		}
		if got, want := r.onHost(), "repo/.git/HEAD repo/.git/description repo/.git/index repo/.git/objects/ab/cdef repo/.git/refs/heads/main repo/file"; got != want {
			t.Errorf("the folder has %s", got)
		}
	}
	check()
	r.remount()
	check()
}

func TestAProtectedNameIsNotWrittenWhateverTheWay(t *testing.T) {
	r := newRW(t)
	must(t, os.MkdirAll(r.host("proj/.git/hooks"), 0o755))
	r.hostWrite("proj/.git/config", "[core]")
	r.hostWrite("proj/.git/hooks/pre-commit", "the user's")
	r.hostWrite("plain", "plain")
	r.mount()
	folder := func() string {
		var all string
		for _, path := range []string{"proj/.git/config", "proj/.git/hooks/pre-commit"} {
			data, err := os.ReadFile(r.host(path))
			must(t, err)
			all += string(data) + "|"
		}
		return all + r.onHost()
	}
	before := folder()

	// In place, by a second name, by a file renamed over it, by attributes, by removal.
	n, f := r.open("proj/.git/hooks/pre-commit", 2)
	_, err := f.WriteAt([]byte("evil"), 0)
	must(t, err)
	must(t, n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}, nil))
	config, err := r.at("proj/.git/config")
	must(t, err)
	root := r.tree.Root()
	defer root.Drop()
	refused(t, "a second name for a protected file", root.Link("other", config), syscall.EPERM)
	config.Drop()
	plain, err := r.at("plain")
	must(t, err)
	git, err := r.at("proj/.git")
	must(t, err)
	defer git.Drop()
	refused(t, "a protected second name", git.Link("config.worktree", plain), syscall.EPERM)
	plain.Drop()
	r.replace("proj/.git/config", "evil-config", "[core] evil")
	refused(t, "a protected file moved out", r.rename("proj/.git/hooks/pre-commit", "innocent"), syscall.EXDEV)
	must(t, r.unlink("proj/.git/hooks/pre-commit"))
	r.mkdir("dir")
	r.create("dir/pre-commit", "evil")
	refused(t, "a directory moved to a protected name", r.rename("dir", ".vscode"), syscall.EXDEV)
	refused(t, "a directory moved into a git directory", r.rename("dir", "proj/.git/hooks2"), syscall.EXDEV)
	refused(t, "a git directory renamed", r.rename("proj/.git", "x"), syscall.EXDEV)
	for _, name := range []string{".envrc", ".ENVRC", ".Git/Config", "proj/.git/HOOKS/pre-push"} {
		if d := filepath.Dir(name); d != "." {
			if _, err := r.at(d); err != nil {
				r.mkdir(d)
			}
		}
		r.create(name, "evil")
		if got := r.read(name); got != "evil" {
			t.Errorf("the guest reads %q in %s", got, name)
		}
	}
	must(t, r.unlink("dir/pre-commit"))
	if got := folder(); got != before {
		t.Errorf("the folder was\n%s and is\n%s", before, got)
	}
	if got := r.read("proj/.git/config"); got != "[core] evil" {
		t.Errorf("the guest reads %q", got)
	}
	// The control: a name that nobody obeys is written through.
	r.create("innocent", "text")
	if data, _ := os.ReadFile(r.host("innocent")); string(data) != "text" {
		t.Errorf("the folder has %q", data)
	}
}

func refused(t testing.TB, what string, err error, want error) {
	t.Helper()
	if err != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestWhoeverHasAFileOpenThatBecomesProtectedGoesOnWritingToIt(t *testing.T) {
	r := newRW(t)
	r.mount()
	r.create("draft", "one")
	n, f := r.open("draft", 2)
	must(t, r.rename("draft", ".envrc"))
	_, err := f.WriteAt([]byte(" two"), 3)
	must(t, err)
	if got := r.read(".envrc"); got != "one two" {
		t.Errorf("%q", got)
	}
	if got, err := readOpen(f); got != "one two" || err != nil {
		t.Errorf("the open file reads %q, %v", got, err)
	}
	if a, err := n.Attr(); err != nil || a.Size != 7 {
		t.Errorf("%d, %v", a.Size, err)
	}
	if got := r.onHost(); got != "" {
		t.Errorf("the folder has %s", got)
	}
}

func TestProtectedFilesFollowTheDirectoryThatHoldsThem(t *testing.T) {
	r := newRW(t)
	r.mount()
	r.mkdir("a")
	r.mkdir("a/b")
	r.create("a/b/.envrc", "env")
	r.create("a/b/file", "file")
	must(t, r.rename("a", "c"))
	check := func() {
		t.Helper()
		if e, f := r.read("c/b/.envrc"), r.read("c/b/file"); e != "env" || f != "file" {
			t.Errorf("%q, %q", e, f)
		}
		if got := r.onHost(); got != "c/b/file" {
			t.Errorf("the folder has %s", got)
		}
	}
	check()
	r.remount()
	check()
	refused(t, "the old place", func() error { _, err := r.at("a"); return err }(), syscall.ENOENT)
}

func TestAHardLinkIsTheSameFile(t *testing.T) {
	r := newRW(t)
	r.mount()
	r.create("a", "one")
	a, err := r.at("a")
	must(t, err)
	defer a.Drop()
	root := r.tree.Root()
	defer root.Drop()
	must(t, root.Link("b", a))
	b, f := r.open("b", 2)
	if a.QID() != b.QID() {
		t.Errorf("qids %v and %v", a.QID(), b.QID())
	}
	_, err = f.WriteAt([]byte("two"), 0)
	must(t, err)
	if attr, err := a.Attr(); err != nil || attr.Nlink != 2 || r.read("a") != "two" {
		t.Errorf("%v, %v, %q", attr.Nlink, err, r.read("a"))
	}
	must(t, r.unlink("a"))
	if got := r.read("b"); got != "two" {
		t.Errorf("%q", got)
	}
}

func TestALinkInThePlaceOfADirectoryThatGivesMeaningStaysInTheLayer_HoweverItGetsThere(t *testing.T) {
	r := newRW(t)
	r.mount()
	r.mkdir("plain")
	r.create("plain/hgrc", "[hooks]")
	root, err := r.at("")
	must(t, err)
	defer root.Drop()
	link := func(name string) {
		t.Helper()
		_, err := root.Symlink(name, "plain")
		must(t, err)
	}
	link("ordinary") // control
	link(".hg")
	link("moved")
	must(t, r.rename("moved", ".config"))
	again, err := r.at("ordinary")
	must(t, err)
	defer again.Drop()
	if err := root.Link(".github", again); err != syscall.EPERM {
		t.Errorf("a second name: %v", err)
	}
	if got, want := r.onHost(), "ordinary plain/hgrc"; got != want {
		t.Errorf("the folder has %s, want %s", got, want)
	}
	for _, name := range []string{".hg", ".config"} {
		n, err := r.at(name)
		must(t, err)
		if target, err := n.Readlink(); err != nil || target != "plain" {
			t.Errorf("%s leads to %q, %v", name, target, err)
		}
		n.Drop()
	}
}
