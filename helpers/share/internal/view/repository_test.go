//go:build linux

package view_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cloche/share/internal/names"
)

// evilConfig makes git on the host run a command at its next `git status`, wherever the git directory is.
const evilConfig = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = \"touch $RAN; false\"\n"

// hostGit runs git as the folder's owner would, below a directory of the folder. It tells whether a command of the guest's ran.
func (r *rig) hostGit(dir string, args ...string) (ran bool) {
	r.t.Helper()
	marker := filepath.Join(r.t.TempDir(), "ran")
	cmd := exec.Command("git", args...)
	cmd.Dir = r.host(dir)
	cmd.Env = append(os.Environ(), "RAN="+marker, "HOME="+r.t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES="+r.root)
	out, err := cmd.CombinedOutput()
	r.t.Logf("git %s in %s: %v %s", strings.Join(args, " "), dir, err, out)
	_, err = os.Stat(marker)
	return err == nil
}

// runs tells whether `git status` below a directory runs what the guest wrote.
func (r *rig) runs(dir string) bool { return r.hostGit(dir, "status") }

func (r *rig) hostRead(path string) string {
	data, err := os.ReadFile(r.host(path))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestABareRepositoryOfTheHostsIsKnownByWhatItHas_WhateverItsName(t *testing.T) {
	r := newRW(t)
	r.hostGit("", "init", "--quiet", "--bare", "store")
	before := r.onHost()
	config := r.hostRead("store/config")
	r.mount()

	// By a handle on the file, by a file renamed over it, by a second name, by a directory of that name, by a link, by removal.
	_, f := r.open("store/config", 2)
	_, err := f.WriteAt([]byte(evilConfig), 0)
	must(t, err)
	r.replace("store/config", "evil", evilConfig)
	r.create("store/hooks/post-checkout", "#!/bin/sh\ntouch $RAN\n")
	r.create("store/info/attributes", "* filter=evil")
	r.create("store/objects/info/alternates", "/elsewhere")
	r.create("store/config.worktree", evilConfig)
	r.create("store/commondir", "../evil")
	r.replace("store/HEAD", "evil-head", "ref: refs/heads/evil\n")
	store, err := r.at("store")
	must(t, err)
	defer store.Drop()
	r.create("innocent", "[core]")
	innocent, err := r.at("innocent")
	must(t, err)
	defer innocent.Drop()
	refused(t, "a second name in it", store.Link("gitdir", innocent), syscall.EPERM)
	hooks, err := r.at("store/hooks")
	must(t, err)
	defer hooks.Drop()
	refused(t, "its hooks moved away", r.rename("store/hooks", "h"), syscall.EXDEV)
	refused(t, "its objects moved away", r.rename("store/objects", "o"), syscall.EXDEV)
	r.mkdir("made")
	r.create("made/alternates", "/elsewhere")
	must(t, r.unlink("store/objects/info/alternates"))
	objects, err := r.at("store/objects")
	must(t, err)
	defer objects.Drop()
	must(t, objects.Unlink("info", true)) // empty on the host too, and free
	refused(t, "a directory with alternates moved into it", r.rename("made", "store/objects/info"), syscall.EXDEV)
	_, err = store.Symlink("branches2", "x")
	must(t, err)
	must(t, store.Unlink("branches", true))
	_, err = store.Symlink("branches", "made") // in the layer: over the host's own, which stays
	must(t, err)
	must(t, r.unlink("store/description")) // control: free
	must(t, r.unlink("store/info/exclude"))

	want := strings.ReplaceAll(strings.ReplaceAll("innocent made/alternates store/branches2 "+before, "store/description ", ""), "  ", " ")
	got := strings.Fields(r.onHost())
	if !sameSet(got, strings.Fields(want)) {
		t.Errorf("the folder has\n%s\nand had\n%s", strings.Join(got, " "), before)
	}
	if got := r.hostRead("store/config"); got != config {
		t.Errorf("config is %q", got)
	}
	if r.runs("store") {
		t.Error("git on the host ran what the guest wrote")
	}
	if got := r.read("store/config"); got != evilConfig {
		t.Errorf("the guest reads %q", got)
	}
	// What moves with it stays in the layer too.
	must(t, r.rename("store", "moved"))
	r.create("moved/hooks/pre-push", "evil")
	if _, err := os.Stat(r.host("moved/hooks/pre-push")); err == nil || r.hostRead("moved/config") != config || r.read("moved/config") != evilConfig {
		t.Error("after its directory was renamed")
	}
	// Controls: objects and refs go through, and so does the same name elsewhere; and the attack works where nothing stops it.
	r.create("moved/refs/heads/config", "0000\n")
	r.mkdir("src")
	r.mkdir("src/hooks")
	r.create("src/hooks/use.ts", "code")
	r.create("src/config", "config")
	if r.hostRead("moved/refs/heads/config") != "0000\n" || r.hostRead("src/hooks/use.ts") != "code" || r.hostRead("src/config") != "config" {
		t.Errorf("the folder has %s", r.onHost())
	}
	r.hostWrite("moved/config", evilConfig)
	if !r.runs("moved") {
		t.Error("control: the config does nothing")
	}
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	in := map[string]bool{}
	for _, one := range a {
		in[one] = true
	}
	for _, one := range b {
		if !in[one] {
			return false
		}
	}
	return true
}

// A guest builds a git directory of its own in the folder, in any order and by any way that gives it a HEAD.
func TestNoGitDirectoryOfTheGuestsComesIntoTheFolder_StepByStep(t *testing.T) {
	for _, dir := range []string{"evil", "a/b", "x.git/src", ".git/kept", ".git/modules", "x.git/logs", "x.git/refs/remotes/origin", "x.git/logs/refs/remotes/origin", "x.git/refs/remotes"} {
		t.Run(dir, func(t *testing.T) {
			r := newRW(t)
			r.mount()
			for at := range strings.SplitSeq(dir, "/") {
				path := dir[:strings.Index("/"+dir+"/", "/"+at+"/")+len(at)]
				if _, err := r.at(path); err != nil {
					r.mkdir(path)
				}
			}
			r.create(dir+"/config", evilConfig)
			r.mkdir(dir + "/objects")
			if _, err := r.at(dir + "/refs"); err != nil {
				r.mkdir(dir + "/refs")
			}
			r.mkdir("h.git")
			r.create("h.git/HEAD", "ref: refs/heads/main\n") // free: a git directory that is known by its name
			in, err := r.at(dir)
			must(t, err)
			defer in.Drop()
			head, err := r.at("h.git/HEAD")
			must(t, err)
			defer head.Drop()
			git, err := r.at("h.git")
			must(t, err)
			defer git.Drop()
			complete := func(how string) {
				t.Helper()
				if r.runs(dir) {
					t.Errorf("%s: git on the host ran what the guest wrote; the folder has %s", how, r.onHost())
				}
				_ = in.Unlink("HEAD", false)
			}
			_ = in.Link("HEAD", head)
			complete("a second name")
			_ = git.Rename("HEAD", in, "HEAD")
			complete("moved from a git directory")
			_, _ = in.Symlink("HEAD", "refs/heads/main")
			complete("a link")
			r.create("plain", "ref: refs/heads/main\n")
			root := r.tree.Root()
			defer root.Drop()
			_ = root.Rename("plain", in, "HEAD")
			complete("moved from outside")
			_ = root.Rename("h.git", in, "HEAD")
			complete("its directory moved")
			r.create(dir+"/HEAD", "ref: refs/heads/main\n")
			r.mkdir("common")
			r.mkdir("common/objects")
			r.mkdir("common/refs")
			r.create("common/config", evilConfig)
			_ = in.Unlink("objects", true)
			up := strings.Repeat("../", strings.Count(dir, "/")+1)
			r.create(dir+"/commondir", up+"common\n")
			if r.runs(dir) {
				t.Errorf("by commondir: git on the host ran what the guest wrote; the folder has %s", r.onHost())
			}
			if got := r.read(dir + "/HEAD"); got != "ref: refs/heads/main\n" {
				t.Errorf("the guest reads %q", got)
			}
			// The control: with what is missing on the host, git would have run it.
			must(t, os.RemoveAll(r.host(dir+"/commondir")))
			must(t, os.MkdirAll(r.host(dir+"/objects"), 0o755))
			must(t, os.MkdirAll(r.host(dir+"/refs"), 0o755))
			r.hostWrite(dir+"/HEAD", "ref: refs/heads/main\n")
			r.hostWrite(dir+"/config", evilConfig)
			if !r.runs(dir) {
				t.Error("control: the git directory does nothing")
			}
		})
	}
}

// One that lacks its refs (a repository that was itself committed, with nothing in refs) is no git directory until a guest makes them.
func TestARepositoryThatLacksItsRefsTakesNoConfigOfTheGuests(t *testing.T) {
	r := newRW(t)
	r.hostGit("", "init", "--quiet", "--bare", "fixture")
	must(t, os.RemoveAll(r.host("fixture/refs")))
	r.mount()
	r.replace("fixture/config", "fixture/config.lock", evilConfig)
	r.mkdir("fixture/refs")
	if r.runs("fixture") {
		t.Error("git on the host ran what the guest wrote")
	}
	r.hostWrite("fixture/config", evilConfig)
	if !r.runs("fixture") {
		t.Error("control: the config does nothing")
	}
}

// Renames of the repository, and of directories into its place, run beside writes to its config by path and by handle.
func TestRenamesBesideWritesDoNotOpenARepository(t *testing.T) {
	r := newRW(t)
	r.hostGit("", "init", "--quiet", "--bare", "store")
	config := r.hostRead("store/config")
	r.mount()
	r.mkdir("plain")
	r.create("plain/config", "mine")
	root := r.tree.Root()
	defer root.Drop()
	var all sync.WaitGroup
	for _, do := range []func(){
		func() { _ = root.Rename("store", root, "other") },
		func() { _ = root.Rename("other", root, "store") },
		func() { _ = root.Rename("plain", root, "other") },
		func() { _ = root.Rename("other", root, "plain") },
		func() { r.overwrite("store/config") },
		func() { r.overwrite("other/config") },
		func() { r.overwrite("plain/config") },
		func() { r.tryRename("plain", "store", "config") },
		func() { r.tryRename("plain", "other", "config") },
	} {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 400 {
				do()
			}
		}()
	}
	all.Wait()
	found := 0
	for _, dir := range []string{"store", "other", "plain"} {
		if _, err := os.Stat(r.host(dir + "/HEAD")); err == nil {
			found++
			if got := r.hostRead(dir + "/config"); got != config {
				t.Errorf("%s/config is %q", dir, got)
			}
		}
	}
	if found != 1 {
		t.Errorf("the repository is there %d times", found)
	}
}

func (r *rig) tryRename(from, to, name string) {
	a, err := r.at(from)
	if err != nil {
		return
	}
	defer a.Drop()
	b, err := r.at(to)
	if err != nil {
		return
	}
	defer b.Drop()
	_ = a.Rename(name, b, name)
}

func (r *rig) overwrite(path string) {
	n, err := r.at(path)
	if err != nil {
		return
	}
	defer n.Drop()
	f, err := n.Open(1)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt([]byte(evilConfig), 0)
}

func TestWhatALinkInAProtectedPlaceLeadsToStaysInTheLayer(t *testing.T) {
	r := newRW(t)
	must(t, os.MkdirAll(r.host("dotfiles/editor"), 0o755))
	r.hostWrite("dotfiles/editor/tasks.json", "the user's")
	must(t, os.Symlink("dotfiles/editor", r.host(".vscode")))
	r.rules = &names.Rules{}
	r.rules.Follow([]string{".vscode"}, []string{".vscode"}, []string{"dotfiles", "editor"})
	r.mount()
	r.overwrite("dotfiles/editor/tasks.json")
	r.create("dotfiles/editor/launch.json", "evil")
	refused(t, "what it leads to moved away", r.rename("dotfiles/editor", "e"), syscall.EXDEV)
	refused(t, "the directory above moved away", r.rename("dotfiles", "d"), syscall.EXDEV)
	r.mkdir("evil")
	r.create("evil/launch.json", "evil")
	dotfiles, err := r.at("dotfiles")
	must(t, err)
	defer dotfiles.Drop()
	for _, name := range []string{"launch.json", "tasks.json"} {
		must(t, r.unlink("dotfiles/editor/"+name))
	}
	must(t, dotfiles.Unlink("editor", true))
	refused(t, "a directory moved there", r.rename("evil", "dotfiles/editor"), syscall.EXDEV)
	_, err = dotfiles.Symlink("editor", "../evil")
	must(t, err)
	r.create("dotfiles/other", "text") // control
	if got, want := r.onHost(), ".vscode dotfiles/editor/tasks.json dotfiles/other evil/launch.json"; got != want {
		t.Errorf("the folder has %s", got)
	}
	if got := r.hostRead("dotfiles/editor/tasks.json"); got != "the user's" {
		t.Errorf("tasks.json is %q", got)
	}
}

// A relative link leads elsewhere once a directory above it is moved, so that is not moved in the folder.
func TestALinkInAProtectedPlaceIsNotMovedToLeadToTheGuestsOwn(t *testing.T) {
	r := newRW(t)
	must(t, os.MkdirAll(r.host("repo/.git"), 0o755))
	must(t, os.Mkdir(r.host("scripts"), 0o755))
	must(t, os.Symlink("../../scripts", r.host("repo/.git/hooks")))
	r.rules = &names.Rules{}
	hooks := []string{"repo", ".git", "hooks"}
	r.rules.Follow(hooks, hooks, []string{"scripts"})
	r.mount()
	r.mkdir("sub")
	r.mkdir("other")
	r.mkdir("sub/scripts")
	r.create("sub/scripts/pre-commit", "evil")
	refused(t, "the repository moved", r.rename("repo", "sub/repo"), syscall.EXDEV)
	must(t, r.rename("other", "sub/other")) // control
	if _, err := os.Stat(r.host("sub/repo")); err == nil {
		t.Error("the link leads to what the guest made")
	}
}
