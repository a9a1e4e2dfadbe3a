//go:build linux

package gitchange_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/gitchange"
	"cloche/share/internal/gitrepo"
	"cloche/share/internal/gittest"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/view"
	"cloche/share/internal/writeback"
)

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// rig is a folder of the host's, served in review, and a guest: real git works in a copy, whose files are then written
// into the view as git writes them, beside and renamed.
type rig struct {
	t           *testing.T
	host, guest string
	config      string
	lower       *hostfs.Tree
	view        *view.Tree
	layer       *layer.Layer
	folder      *gitchange.Folder
	back        *writeback.Folder
	applies     int
	crash       func(string)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	base := t.TempDir()
	r := &rig{t: t, host: base + "/host", guest: base + "/guest", config: base + "/gitconfig"}
	for _, dir := range []string{r.host, base + "/layer", base + "/store"} {
		r.must(os.Mkdir(dir, 0o755))
	}
	r.write(r.config, "[user]\n\tname = A User\n\temail = user@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n[advice]\n\tdetachedHead = false\n")
	r.git(r.host, "init", "-q")
	for i := range 3 {
		r.commit(r.host, "notes.txt", strings.Repeat(fmt.Sprintf("line of commit %d\n", i), 40), fmt.Sprintf("commit %d", i))
	}
	return r
}

// serve is when the guest begins.
func (r *rig) serve() {
	r.t.Helper()
	base := filepath.Dir(r.host)
	lower, err := hostfs.New(hostfs.Options{Root: r.open(r.host), Proc: r.open("/proc/self/fd"), ReadOnly: true, UID: 1000, GID: 1000})
	r.must(err)
	root := lower.Root().(view.Object)
	defer root.Drop()
	identity, err := view.Identity(root, "")
	r.must(err)
	l, err := layer.Open(r.open(base+"/layer"), *identity, root.QID().Path)
	r.must(err)
	r.t.Cleanup(l.Close)
	tree, err := view.New(view.Options{Lower: lower, Layer: l, UID: 1000, GID: 1000})
	r.must(err)
	r.lower, r.layer, r.view = lower, l, tree
	r.folder = &gitchange.Folder{Lower: lower, Merged: tree, Layer: l, Branch: "cloche/receipts"}
	r.openBack()
	if out, err := exec.Command("cp", "-a", r.host, r.guest).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

func (r *rig) openBack() {
	r.t.Helper()
	back, err := writeback.Open(writeback.Options{
		Root: r.open(r.host), Store: r.open(filepath.Dir(r.host) + "/store"), Proc: r.open("/proc/self/fd"), Writer: "w-1", Wait: time.Second,
		Crash: func(point string) {
			if r.crash != nil {
				r.crash(point)
			}
		},
	})
	r.must(err)
	r.t.Cleanup(back.Close)
	r.back = back
}

func (r *rig) open(path string) int {
	r.t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r.must(err)
	return fd
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(path, content string) {
	r.t.Helper()
	r.must(os.MkdirAll(filepath.Dir(path), 0o755))
	r.must(os.WriteFile(path, []byte(content), 0o644))
}

func (r *rig) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+r.config, "HOME=/nonexistent", "GIT_CEILING_DIRECTORIES="+filepath.Dir(r.host), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *rig) commit(dir, file, content, message string) string {
	r.t.Helper()
	r.write(dir+"/"+file, content)
	r.git(dir, "add", "-A")
	r.git(dir, "commit", "-q", "-m", message)
	return r.git(dir, "rev-parse", "HEAD")
}

// replay writes into the view what the guest's git did in its copy.
func (r *rig) replay() {
	r.t.Helper()
	root := r.view.Root()
	defer root.Drop()
	gittest.Replay(r.t, root, r.guest)
}

func (r *rig) summary() *gitrepo.Summary {
	r.t.Helper()
	repo, err := r.folder.Open(context.Background(), ".git")
	r.must(err)
	defer repo.Close()
	s, err := repo.Summary()
	r.must(err)
	return s
}

func (r *rig) apply(asBranch bool) (string, error) {
	r.t.Helper()
	plan, err := r.folder.Plan(context.Background(), ".git", asBranch, 1)
	if err != nil {
		return "", err
	}
	defer plan.Close()
	r.applies++
	name := fmt.Sprint("apply-", r.applies)
	results, err := r.back.Apply(name, plan.Steps)
	if err != nil {
		return "", err
	}
	for _, result := range results {
		if result.Err != nil && !errors.Is(result.Err, writeback.ErrGroup) {
			return "", result.Err
		}
	}
	return name, nil
}

func (r *rig) mustApply(asBranch bool) string {
	r.t.Helper()
	name, err := r.apply(asBranch)
	r.must(err)
	r.git(r.host, "fsck", "--strict", "--full")
	return name
}

func (r *rig) undo(name string) {
	r.t.Helper()
	u, err := r.back.Undo(name)
	r.must(err)
	for u.Remaining() > 0 {
		backs, err := u.Next(512)
		r.must(err)
		for _, b := range backs {
			if b.Err != nil {
				r.t.Fatalf("%s: %v", b.Path, b.Err)
			}
		}
	}
}

// state is all bytes, modes and times of the host's folder but for objects.
func (r *rig) state() string {
	r.t.Helper()
	var b strings.Builder
	r.must(filepath.WalkDir(r.host, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "objects" {
				return fs.SkipDir
			}
			fmt.Fprintf(&b, "%s/\n", path)
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintf(&b, "%s %v %v %x\n", path, info.Mode(), info.ModTime().UnixNano(), sha256.Sum256(content))
		return err
	}))
	return b.String()
}

func (r *rig) same(what, want, got string) {
	r.t.Helper()
	if want != got {
		r.t.Errorf("%s:\nwant %s\ngot  %s", what, want, got)
	}
}

func TestCommitsMadeInALayerReachTheHostAndGoBack(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.commit(r.guest, "notes.txt", "the task's\n", "first of the task")
	tip := r.commit(r.guest, "deep/in/new.txt", "new\n", "second of the task")
	r.git(r.guest, "branch", "feature/of/task")
	r.git(r.guest, "tag", "-a", "v1", "-m", "a tag")
	r.replay()
	s := r.summary()
	var got []string
	for _, b := range s.Branches {
		got = append(got, b.Heading())
	}
	if want := []string{"branch feature/of/task: new, +2 commits", "branch main: +2 commits", "tag v1: new, +2 commits"}; !slices.Equal(got, want) || s.Conflict != "" {
		t.Fatalf("the summary is %q, %q", got, s.Conflict)
	}
	before := r.state()
	name := r.mustApply(false)
	r.same("the log", r.git(r.guest, "log", "--format=%H %s"), r.git(r.host, "log", "--format=%H %s"))
	r.same("the refs", r.git(r.guest, "for-each-ref"), r.git(r.host, "for-each-ref"))
	r.same("the index", r.git(r.guest, "ls-files", "-s"), r.git(r.host, "ls-files", "-s"))
	r.undo(name)
	r.same("the host after the undo, to the modes and times", before, r.state())
	r.git(r.host, "fsck", "--strict")
	r.mustApply(false)
	r.same("main after a second apply", tip, r.git(r.host, "rev-parse", "main"))
}

func TestAfterAnApplyTheUsersWorkOnTopOutlivesAnUndo(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.commit(r.guest, "shared.txt", "the same content\n", "the task's")
	r.replay()
	name := r.mustApply(false)
	// The user commits a file of the same content elsewhere: git finds the object in our pack and writes none.
	r.git(r.host, "switch", "-q", "--orphan", "mine")
	r.commit(r.host, "mine.txt", "the same content\n", "the user's")
	u, err := r.back.Undo(name)
	r.must(err)
	backs, err := u.Next(512)
	r.must(err)
	if !slices.ContainsFunc(backs, func(b writeback.Back) bool { return b.Err != nil }) {
		t.Error("an undo over what the user did since was not refused")
	}
	r.git(r.host, "fsck", "--strict", "--full")
	r.same("the user's file", "the same content", r.git(r.host, "show", "mine:mine.txt"))
}

func TestABranchThatTheUserMadeOfAnAppliedCommitOutlivesTheUndo(t *testing.T) {
	r := newRig(t)
	r.serve()
	tip := r.commit(r.guest, "x", "x\n", "the task's")
	r.replay()
	name := r.mustApply(false)
	r.git(r.host, "update-ref", "refs/heads/mine", tip)
	r.undo(name)
	r.git(r.host, "fsck", "--strict", "--full")
	r.same("the user's branch", "x", r.git(r.host, "show", "mine:x"))
}

func TestACommitOfTheHostsMeanwhileMakesABranchTheOffer(t *testing.T) {
	r := newRig(t)
	r.serve()
	theirs := r.commit(r.guest, "guest.txt", "g\n", "the task's")
	r.replay()
	ours := r.commit(r.host, "host.txt", "h\n", "the user's")
	s := r.summary()
	if s.Conflict == "" || !slices.Equal(s.Offer, []string{"cloche/receipts"}) {
		t.Fatalf("conflict %q, offer %q", s.Conflict, s.Offer)
	}
	before := r.state()
	if _, err := r.apply(false); !errors.Is(err, gitrepo.ErrConflict) {
		t.Fatalf("an apply in place: %v", err)
	}
	r.same("the host after the refusal", before, r.state())
	name := r.mustApply(true)
	r.same("main", ours, r.git(r.host, "rev-parse", "main"))
	r.same("the branch", theirs, r.git(r.host, "rev-parse", "cloche/receipts"))
	r.undo(name)
	r.same("the host after the undo", before, r.state())
}

func TestARewriteIsTakenOnlyOverWhatTheTaskSaw(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		r := newRig(t)
		r.serve()
		r.git(r.guest, "commit", "-q", "--amend", "-m", "other words")
		r.replay()
		if meanwhile {
			r.git(r.host, "commit", "-q", "--amend", "-m", "the user's words")
		}
		_, err := r.apply(false)
		if meanwhile && !errors.Is(err, gitrepo.ErrConflict) || !meanwhile && err != nil {
			t.Errorf("changed meanwhile %v: %v", meanwhile, err)
		}
	}
}

// The guest's index is of the commit before; without its commit it would stage the way back from what the host committed.
func TestAnIndexAloneDoesNotTakeBackWhatTheHostCommitted(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		r := newRig(t)
		r.serve()
		r.write(r.guest+"/staged.txt", "staged by the task\n")
		r.git(r.guest, "add", "staged.txt")
		r.replay()
		if meanwhile {
			r.commit(r.host, "host.txt", "h\n", "the user's")
		}
		if s := r.summary(); s.Staged == 0 || len(s.Branches) != 0 || meanwhile != strings.Contains(s.Conflict, "index was changed meanwhile") {
			t.Errorf("changed meanwhile %v: %+v", meanwhile, s)
		}
		_, err := r.apply(false)
		if meanwhile && !errors.Is(err, gitrepo.ErrConflict) || !meanwhile && err != nil {
			t.Errorf("changed meanwhile %v: %v", meanwhile, err)
		}
		want := "AD staged.txt"
		if meanwhile {
			want = ""
		}
		r.same("the host's status", want, r.git(r.host, "status", "--porcelain"))
	}
}

func TestABranchDeletedWithItsFolderIsDeletedOnTheHost(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		r := newRig(t)
		r.git(r.host, "branch", "old/one", "HEAD~1")
		r.serve()
		r.git(r.guest, "branch", "-q", "-D", "old/one")
		r.replay()
		if meanwhile {
			r.git(r.host, "branch", "-f", "old/one", "HEAD~2")
		}
		_, err := r.apply(false)
		if meanwhile && !errors.Is(err, gitrepo.ErrConflict) || !meanwhile && err != nil {
			t.Errorf("changed meanwhile %v: %v", meanwhile, err)
		}
		if got := r.git(r.host, "branch", "--list", "old/one"); (got != "") != meanwhile {
			t.Errorf("changed meanwhile %v: the branches are %q", meanwhile, got)
		}
	}
}

func TestHooksAndConfigOfTheLayerStayThere(t *testing.T) {
	r := newRig(t)
	r.serve()
	tip := r.commit(r.guest, "good.txt", "good\n", "honest work")
	r.write(r.guest+"/.git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/owned\n")
	r.git(r.guest, "config", "core.editor", "touch /tmp/owned")
	r.replay()
	if s := r.summary(); !slices.Contains(s.Refused, "config") || !slices.Contains(s.Refused, "hooks/post-checkout") {
		t.Errorf("refused are %q", s.Refused)
	}
	config, err := os.ReadFile(r.host + "/.git/config")
	r.must(err)
	r.mustApply(false)
	r.same("main", tip, r.git(r.host, "rev-parse", "main"))
	now, err := os.ReadFile(r.host + "/.git/config")
	r.must(err)
	r.same("the config", string(config), string(now))
	if _, err := os.Lstat(r.host + "/.git/hooks/post-checkout"); err == nil {
		t.Error("the hook is on the host")
	}
}

func TestANewRepositoryOfTheLayerIsOneGroup(t *testing.T) {
	r := newRig(t)
	r.must(os.RemoveAll(r.host + "/.git"))
	r.serve()
	before := r.state()
	r.git(r.guest, "init", "-q")
	tip := r.commit(r.guest, "x", "x", "x")
	for i := range 600 {
		r.write(fmt.Sprintf("%s/.git/refs/tags/v%d", r.guest, i), tip+"\n")
	}
	r.replay()
	name := r.mustApply(false)
	r.same("the refs", r.git(r.guest, "for-each-ref"), r.git(r.host, "for-each-ref"))
	r.undo(name)
	r.same("the host after the undo", before, r.state())
}

// Wherever the process dies: after the next start the host has all of the change or nothing, and git finds no fault.
func TestACrashAtAnyStepLeavesAWholeRepository(t *testing.T) {
	old, done := 0, 0
	for at := 1; ; at++ {
		r := newRig(t)
		r.serve()
		tip := r.commit(r.guest, "x", "x", "x")
		r.git(r.guest, "branch", "a/b")
		r.replay()
		before := r.state()
		was := r.git(r.host, "rev-parse", "main")
		n := 0
		r.crash = func(string) {
			if n++; n == at {
				panic("crash")
			}
		}
		crashed := func() (crashed bool) {
			defer func() { crashed = recover() != nil }()
			_, err := r.apply(false)
			r.must(err)
			return
		}()
		r.crash = nil
		r.openBack()
		r.git(r.host, "fsck", "--strict", "--full")
		switch main := r.git(r.host, "rev-parse", "main"); main {
		case was:
			old++
			r.same("the host", before, r.state())
		case tip:
			done++
			r.same("the branch beside it", tip, r.git(r.host, "rev-parse", "a/b"))
		default:
			t.Errorf("main is %s", main)
		}
		if !crashed {
			break
		}
	}
	if old < 5 || done < 2 {
		t.Errorf("%d crashes before, %d after: this test shows nothing", old, done)
	}
}
