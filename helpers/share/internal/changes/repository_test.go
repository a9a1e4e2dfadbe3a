//go:build linux

package changes_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloche/share/internal/changes"
	"cloche/share/internal/gittest"
	"cloche/share/internal/problem"
)

// gitRig is a folder with a repository of real git's, and a guest whose git works in a copy.
type gitRig struct {
	*rig
	guestDir string
}

func newGitRig(t *testing.T) *gitRig {
	t.Helper()
	r := &gitRig{rig: newRig(t)}
	r.guestDir = filepath.Join(r.base, "guest")
	must(t, os.WriteFile(filepath.Join(r.base, "gitconfig"), []byte("[user]\n\tname = A User\n\temail = user@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"), 0o644))
	r.git(r.root, "init", "-q")
	r.commit(r.root, "notes.txt", strings.Repeat("a line\n", 50), "the first")
	r.open()
	if out, err := exec.Command("cp", "-a", r.root, r.guestDir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func (r *gitRig) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+filepath.Join(r.base, "gitconfig"), "HOME=/nonexistent", "GIT_CEILING_DIRECTORIES="+r.base, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *gitRig) commit(dir, file, content, message string) string {
	r.t.Helper()
	must(r.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
	must(r.t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
	r.git(dir, "add", "-A")
	r.git(dir, "commit", "-q", "-m", message)
	return r.git(dir, "rev-parse", "HEAD")
}

func (r *gitRig) replay() {
	r.t.Helper()
	root := r.tree.Root()
	defer root.Drop()
	gittest.Replay(r.t, root, r.guestDir)
}

// seen writes out what the guest sees, so that git can look at it.
func (r *gitRig) seen() string {
	r.t.Helper()
	dir := r.t.TempDir()
	root := r.tree.Root()
	defer root.Drop()
	gittest.Copy(r.t, root, dir)
	return dir
}

func (r *gitRig) equal(what, want, got string) {
	r.t.Helper()
	if want != got {
		r.t.Errorf("%s:\nwant %s\ngot  %s", what, want, got)
	}
}

func (r *gitRig) withoutObjects() map[string]string {
	all := r.folder()
	for name := range all {
		if strings.HasPrefix(name, ".git/objects") {
			delete(all, name)
		}
	}
	return all
}

func TestCommitsOfTheTaskAreAppliedWithItsFiles_AndBothViewsAgree(t *testing.T) {
	r := newGitRig(t)
	r.commit(r.guestDir, "notes.txt", "the task's\n", "first of the task")
	tip := r.commit(r.guestDir, "src/new.txt", "new\n", "second of the task")
	r.replay()
	c := r.change(".git")
	if c.Type != changes.Repository || c.Conflict != "" || len(c.Summary.Branches) != 1 || c.Summary.Branches[0].Heading() != "branch main: +2 commits" {
		t.Fatalf("the list has %v, %+v", r.lines(), c.Summary)
	}
	for _, line := range r.lines() {
		if strings.HasPrefix(line, ".git/") {
			t.Errorf("a file of git's is listed: %s", line)
		}
	}
	batch, _, refused := r.apply(r.all())
	r.none(refused)
	r.expect()
	r.equal("git fsck", "", r.git(r.root, "fsck", "--strict", "--full"))
	r.equal("the log", r.git(r.guestDir, "log", "--format=%H %s"), r.git(r.root, "log", "--format=%H %s"))
	r.equal("the host's status", "", r.git(r.root, "status", "--porcelain"))

	// The guest goes on from there, and sees what the host does.
	guest := r.seen()
	r.equal("the guest's main", tip, r.git(guest, "rev-parse", "main"))
	r.equal("the guest's status", "", r.git(guest, "status", "--porcelain"))
	ours := r.commit(r.root, "host.txt", "h\n", "the user's")
	guest = r.seen()
	r.equal("the guest's main after the user's commit", ours, r.git(guest, "rev-parse", "main"))
	r.equal("the guest's status after it", "", r.git(guest, "status", "--porcelain"))
	r.expect()
	r.git(r.root, "reset", "-q", "--hard", "HEAD~1")

	// The user's reset wrote refs and index anew, so their undo is refused as a whole; nothing is half.
	_, back := r.undo(batch)
	if !slices.ContainsFunc(back, func(line string) bool { return strings.HasPrefix(line, ".git/") }) {
		t.Errorf("the undo of refs that git wrote since was not refused: %q", back)
	}
	r.equal("main after it", tip, r.git(r.root, "rev-parse", "main"))
}

func TestTheUndoOfARepositoryIsExact(t *testing.T) {
	r := newGitRig(t)
	r.commit(r.guestDir, "notes.txt", "the task's\n", "of the task")
	r.git(r.guestDir, "switch", "-q", "-c", "feature/one")
	tip := r.commit(r.guestDir, "more.txt", "more\n", "on a branch")
	r.replay()
	before := r.withoutObjects()
	batch, _, refused := r.apply(r.all())
	r.none(refused)
	r.equal("the branch", tip, r.git(r.root, "rev-parse", "feature/one"))
	_, refused = r.undo(batch)
	r.none(refused)
	after := r.withoutObjects()
	for name, was := range before {
		if after[name] != was {
			t.Errorf("after the undo %s is %s, was %s", name, after[name], was)
		}
	}
	for name := range after {
		if before[name] == "" {
			t.Errorf("after the undo %s is there", name)
		}
	}
	r.git(r.root, "fsck", "--strict", "--full")
}

func TestARepositoryThatTheUserWentOnWithIsOfferedAsABranch(t *testing.T) {
	r := newGitRig(t)
	theirs := r.commit(r.guestDir, "guest.txt", "g\n", "the task's")
	r.replay()
	r.list()
	ours := r.commit(r.root, "host.txt", "h\n", "the user's")
	time.Sleep(600 * time.Millisecond) // older than what a list remembers
	c := r.change(".git")
	if c.Conflict != changes.ConflictChanged || !slices.Equal(c.Summary.Offer, []string{"cloche/receipts"}) {
		t.Fatalf("conflict %q, offer %q", c.Conflict, c.Summary.Offer)
	}
	_, _, refused := r.apply(r.all())
	if !slices.Contains(refused, ".git "+problem.Conflict) {
		t.Errorf("refused by all: %q", refused)
	}
	what := r.chosen(".git")
	what.Changes[0].As = "cloche/receipts"
	_, _, refused = r.apply(what)
	r.none(refused)
	r.equal("main", ours, r.git(r.root, "rev-parse", "main"))
	r.equal("the branch", theirs, r.git(r.root, "rev-parse", "cloche/receipts"))
	for name, made := range map[string]string{"cloche/receipts": "cloche/receipts-2", "their-work": "their-work", "-x": "", "a..b": "", "main/x": "", "refs/heads/\x1b": ""} {
		what := r.chosen(".git")
		what.Changes[0].As = name
		before := r.git(r.root, "for-each-ref")
		_, _, refused := r.apply(what)
		if (made == "") != (len(refused) == 1) {
			t.Errorf("as %q: refused %q", name, refused)
		}
		if made != "" {
			r.equal("as "+name, theirs, r.git(r.root, "rev-parse", made))
		} else {
			r.equal("the refs after a refused name", before, r.git(r.root, "for-each-ref"))
		}
	}
	r.git(r.root, "fsck", "--strict", "--full")
}

// What the list remembers of a repository may be a moment old. An apply never is.
func TestAHostThatSwitchesItsBranchAfterTheListIsNotOverrun(t *testing.T) {
	r := newGitRig(t)
	r.commit(r.guestDir, "guest.txt", "g\n", "the task's")
	r.replay()
	what := r.chosen(".git")
	r.git(r.root, "switch", "-q", "-c", "elsewhere") // touches no file that the task did
	was := r.git(r.root, "rev-parse", "main")
	if _, _, refused := r.apply(what); len(refused) != 1 {
		t.Errorf("refused: %q", refused)
	}
	r.equal("main", was, r.git(r.root, "rev-parse", "main"))
	r.equal("what is checked out", "elsewhere", r.git(r.root, "branch", "--show-current"))
	// Looked at anew it can be decided anew.
	if c := r.change(".git"); c.Summary.Head != "elsewhere" {
		t.Errorf("the list still says %+v", c.Summary)
	}
}

func TestHooksAndConfigOfTheTaskStayBehind_ByAllAndByName(t *testing.T) {
	r := newGitRig(t)
	tip := r.commit(r.guestDir, "good.txt", "good\n", "honest work")
	must(r.t, os.WriteFile(filepath.Join(r.guestDir, ".git/hooks/post-merge"), []byte("#!/bin/sh\ntouch /tmp/owned\n"), 0o755))
	r.git(r.guestDir, "config", "core.sshCommand", "touch /tmp/owned")
	r.replay()
	config, err := os.ReadFile(r.host(".git/config"))
	must(t, err)
	if c := r.change(".git"); !slices.Contains(c.Summary.Refused, "hooks/post-merge") || !slices.Contains(c.Summary.Refused, "config") {
		t.Errorf("refused are %q", c.Summary.Refused)
	}
	r.apply(r.all())
	r.equal("main", tip, r.git(r.root, "rev-parse", "main"))
	r.apply(r.chosen(".git"))
	now, err := os.ReadFile(r.host(".git/config"))
	must(t, err)
	r.equal("the config", string(config), string(now))
	if _, err := os.Lstat(r.host(".git/hooks/post-merge")); !os.IsNotExist(err) {
		t.Error("the hook is on the host")
	}
}

func TestAPointerToARepositoryIsNoFile(t *testing.T) {
	r := newGitRig(t)
	r.mkdir("sub")
	r.guest("sub/.git", "gitdir: /home/user/other/.git\n")
	r.guest("sub/file", "x")
	c := r.change("sub/.git")
	if c.Type != changes.Repository || !strings.Contains(c.Summary.Conflict, "points to a repository elsewhere") {
		t.Errorf("the list has %v, %+v", r.lines(), c.Summary)
	}
	r.apply(r.all())
	r.apply(r.chosen("sub/.git"))
	if _, err := os.Lstat(r.host("sub/.git")); !os.IsNotExist(err) {
		t.Error("the pointer is on the host")
	}
	r.content("sub/file", "x") // the control
}

func TestListingKeepsNoDescriptors(t *testing.T) {
	r := newGitRig(t)
	r.commit(r.guestDir, "a/b/c/d/file", "x", "deep")
	r.replay()
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	r.list()
	before := count()
	for range 20 {
		r.list()
		time.Sleep(30 * time.Millisecond)
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors after 20 lists, %d before", after, before)
	}
}

func TestObjectsThatTheUserMakesAfterAnApplyAreSeenByTheGuest_InDirectoriesItHasToo(t *testing.T) {
	r := newGitRig(t)
	// Enough objects that the guest has most directories of loose ones.
	for i := range 400 {
		must(t, os.WriteFile(filepath.Join(r.guestDir, fmt.Sprint("notes-", i)), []byte(fmt.Sprint(i, "\n")), 0o644))
	}
	r.commit(r.guestDir, "notes.txt", "all\n", "of the task")
	r.replay()
	_, _, refused := r.apply(r.all())
	r.none(refused)
	for i := range 8 {
		ours := r.commit(r.root, "host.txt", fmt.Sprint("h", i, "\n"), "the user's")
		guest := r.seen()
		r.equal("the guest's main", ours, r.git(guest, "rev-parse", "main"))
		r.equal("the guest's status", "", r.git(guest, "status", "--porcelain"))
	}
	r.equal("git fsck", "", r.git(r.root, "fsck", "--strict", "--full"))
}
