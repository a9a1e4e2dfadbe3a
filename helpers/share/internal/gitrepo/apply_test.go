//go:build linux

package gitrepo_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"cloche/share/internal/gitrepo"
)

func lines(old, new []byte) ([]byte, error) {
	return []byte("@@ @@\n-" + strings.TrimSpace(string(old)) + "\n+" + strings.TrimSpace(string(new)) + "\n"), nil
}

func TestTheGuestsCommitsAreTakenOverAndTakenBack(t *testing.T) {
	for _, sha := range []string{"sha1", "sha256"} {
		t.Run(sha, func(t *testing.T) {
			s := withHistoryOf(t, sha)
			s.begin()
			s.commit(s.guest, "notes.txt", "rewritten\n", "first of the task")
			tip := s.commit(s.guest, "new/file.txt", "new\n", "second of the task")
			before := s.state(s.host)

			r := s.open()
			sum, err := r.Summary()
			s.must(err)
			if len(sum.Branches) != 1 || sum.Branches[0].Heading() != "branch main: +2 commits" || sum.Branches[0].Kind != gitrepo.Moved || sum.Conflict != "" || len(sum.Refused) != 0 {
				t.Fatalf("the summary is %+v", sum)
			}
			var diff strings.Builder
			s.must(r.Diff(&diff, lines))
			for _, part := range []string{"# branch main: +2 commits", "first of the task", "second of the task", "A User <user@example.org>", "--- a/notes.txt", "+rewritten", "+++ b/new/file.txt", "new file mode 100644"} {
				if !strings.Contains(diff.String(), part) {
					t.Errorf("the diff lacks %q:\n%s", part, diff.String())
				}
			}

			undo := s.mustApply(false)
			s.same("main", tip, s.git(s.host, "rev-parse", "main"))
			s.same("the log", s.git(s.guest, "log", "--format=%H %s"), s.git(s.host, "log", "--format=%H %s"))
			// The files are changes of their own: what the guest committed and the folder does not have yet is all that differs.
			s.same("the index", s.git(s.guest, "ls-files", "-s"), s.git(s.host, "ls-files", "-s"))
			s.same("the status", "D new/file.txt\n M notes.txt", s.git(s.host, "status", "--porcelain"))
			if sum := s.summary(); len(sum.Branches) != 0 || sum.Staged != 0 || !sum.Empty() {
				t.Errorf("after the apply something is left: %+v", sum)
			}

			undo()
			s.same("the repository after the undo", before, s.state(s.host))
			s.git(s.host, "fsck", "--strict")
			s.mustApply(false)
			s.same("main after a second apply", tip, s.git(s.host, "rev-parse", "main"))
		})
	}
}

func TestPacksOfTheGuestAreReadWhatsoeverTheyAreMadeOf(t *testing.T) {
	for name, pack := range map[string]func(s *scene){
		"offset deltas": func(s *scene) { s.git(s.guest, "repack", "-adfq", "--depth=50", "--window=50") },
		"reference deltas": func(s *scene) {
			s.git(s.guest, "-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--window=50")
		},
		"packed refs too": func(s *scene) { s.git(s.guest, "gc", "-q", "--prune=now") },
		"several packs": func(s *scene) {
			s.git(s.guest, "repack", "-q")
			s.commit(s.guest, "x", "x", "x")
			s.git(s.guest, "repack", "-q")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := withHistory(t)
			s.begin()
			text := ""
			for i := range 12 {
				text += strings.Repeat("some text that stays\n", 20)
				s.commit(s.guest, "long.txt", text+string(rune('a'+i)), "more")
			}
			s.git(s.guest, "tag", "-a", "v1", "-m", "a tag")
			pack(s)
			s.mustApply(false)
			s.same("the log", s.git(s.guest, "log", "--all", "--format=%H"), s.git(s.host, "log", "--all", "--format=%H"))
			s.same("the refs", s.git(s.guest, "for-each-ref"), s.git(s.host, "for-each-ref"))
		})
	}
}

func TestBranchesAndTagsMadeRewrittenAndDeleted(t *testing.T) {
	s := withHistory(t)
	for _, name := range []string{"loose", "kept", "packed"} {
		s.git(s.host, "branch", name)
	}
	s.git(s.host, "pack-refs", "--all")
	s.git(s.host, "branch", "-f", "loose", "HEAD~1") // a file again
	s.begin()
	s.git(s.guest, "branch", "-D", "loose", "packed")
	s.git(s.guest, "switch", "-q", "-c", "feature/one")
	s.commit(s.guest, "f", "1", "on the feature")
	s.git(s.guest, "tag", "light")
	sum := s.summary()
	var got []string
	for _, b := range sum.Branches {
		got = append(got, b.Heading())
	}
	want := []string{"branch feature/one: new, +1 commit", "branch loose: deleted", "branch packed: deleted", "tag light: new, +1 commit"}
	if !slices.Equal(got, want) || sum.Head != "main" || sum.HeadNow != "feature/one" {
		t.Fatalf("the summary is %q, %q to %q", got, sum.Head, sum.HeadNow)
	}
	before := s.state(s.host)
	undo := s.mustApply(false)
	s.same("the refs", s.git(s.guest, "for-each-ref"), s.git(s.host, "for-each-ref"))
	s.same("what is checked out", "feature/one", s.git(s.host, "branch", "--show-current"))
	undo()
	s.same("the repository after the undo", before, s.state(s.host))
}

func TestWhatOnlyATagReachesComesWithIt(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.git(s.guest, "switch", "-q", "--detach")
	s.commit(s.guest, "x", "only here\n", "tagged")
	s.git(s.guest, "tag", "-a", "v1", "-m", "a tag")
	s.git(s.guest, "tag", "-a", "of-a-tag", "-m", "a tag of a tag", "v1")
	s.git(s.guest, "tag", "of-a-file", "HEAD:x")
	s.git(s.guest, "switch", "-q", "main")
	s.mustApply(false)
	s.same("the refs", s.git(s.guest, "for-each-ref"), s.git(s.host, "for-each-ref"))
	s.same("the file", "only here", s.git(s.host, "show", "v1:x"))
}

func TestARewrittenBranchIsTakenWhenTheHostsIsWhatItWas(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.write(s.guest+"/amended", "x")
	s.git(s.guest, "add", "-A")
	s.git(s.guest, "commit", "-q", "--amend", "-m", "other words")
	sum := s.summary()
	if b := sum.Branches[0]; b.Kind != gitrepo.Rewritten || b.Commits != 1 || b.Behind != 1 || sum.Conflict != "" {
		t.Fatalf("the summary is %+v", sum)
	}
	s.mustApply(false)
	s.same("main", s.git(s.guest, "rev-parse", "main"), s.git(s.host, "rev-parse", "main"))
}

func TestWhatTheHostCommittedMeanwhileStaysAndABranchIsOffered(t *testing.T) {
	s := withHistory(t)
	s.begin()
	theirs := s.commit(s.guest, "guest.txt", "g\n", "the task's")
	ours := s.commit(s.host, "host.txt", "h\n", "the user's")
	index, err := os.ReadFile(s.host + "/.git/index")
	s.must(err)
	sum := s.conflicts("main was changed in the folder meanwhile")
	if !slices.Equal(sum.Offer, []string{"cloche/receipts"}) || sum.Branches[0].Behind != 1 {
		t.Fatalf("the offer is %q of %+v", sum.Offer, sum.Branches)
	}
	before := s.state(s.host)
	undo := s.mustApply(true)
	s.same("main", ours, s.git(s.host, "rev-parse", "main"))
	s.same("what is checked out", "main", s.git(s.host, "branch", "--show-current"))
	s.same("the branch", theirs, s.git(s.host, "rev-parse", "cloche/receipts"))
	s.same("the status", "", s.git(s.host, "status", "--porcelain"))
	now, err := os.ReadFile(s.host + "/.git/index")
	s.must(err)
	if string(now) != string(index) && s.git(s.host, "diff", "--cached", "--name-only") != "" {
		t.Error("the index was changed")
	}
	// The name is taken now, the next offer has another.
	if sum := s.summary(); !slices.Equal(sum.Offer, []string{"cloche/receipts-2"}) {
		t.Errorf("the next offer is %q", sum.Offer)
	}
	s.must(os.WriteFile(s.host+"/.git/index", index, 0o644))
	undo()
	s.same("the repository after the undo", before, s.state(s.host))
}

func TestAStagedFileOfTheHostsIsNotLost(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.commit(s.guest, "guest.txt", "g\n", "the task's")
	s.write(s.host+"/mine.txt", "staged by the user\n")
	s.git(s.host, "add", "mine.txt")
	sum := s.conflicts("staged in the folder meanwhile")
	if !slices.Equal(sum.Offer, []string{"cloche/receipts"}) {
		t.Fatalf("the offer is %q", sum.Offer)
	}
	s.mustApply(true)
	s.same("what is staged", "A  mine.txt", s.git(s.host, "status", "--porcelain"))
}

func TestAnIndexThatGitOnlyRefreshedIsNoConflict(t *testing.T) {
	s := withHistory(t)
	s.begin()
	tip := s.commit(s.guest, "guest.txt", "g\n", "the task's")
	s.must(os.Chtimes(s.host+"/notes.txt", zeroTime, zeroTime))
	s.git(s.host, "update-index", "--refresh")
	if s.input().Moved("index") == false {
		t.Fatal("the refresh wrote nothing, so this test shows nothing")
	}
	s.mustApply(false)
	s.same("main", tip, s.git(s.host, "rev-parse", "main"))
}

func TestAFileStagedByTheTaskIsShownAndStagedWithItsContent(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.commit(s.guest, "committed.txt", "c\n", "a commit before")
	s.write(s.guest+"/staged.txt", "staged by the task\n")
	s.git(s.guest, "add", "staged.txt")
	var diff strings.Builder
	s.must(s.open().Diff(&diff, lines))
	if _, staged, _ := strings.Cut(diff.String(), "# Staged, not committed: 1\n"); !strings.Contains(staged, "+staged by the task") || strings.Contains(staged, "committed.txt") {
		t.Errorf("the diff is %s", diff.String())
	}
	s.mustApply(false)
	s.same("the content", "staged by the task", s.git(s.host, "show", ":staged.txt"))
	s.same("the status", "D committed.txt\nAD staged.txt", s.git(s.host, "status", "--porcelain"))
}

// A guest that says of its entries what git cached of the host's files would hide what differs.
func TestAnIndexOfTheTaskCannotHideAChange(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.write(s.guest+"/notes.txt", "the task's\n")
	s.git(s.guest, "update-index", "notes.txt")
	s.git(s.guest, "update-index", "--assume-unchanged", "notes.txt")
	s.git(s.guest, "update-index", "--skip-worktree", "src/deep/file0.c")
	s.mustApply(false)
	s.same("the status", "MM notes.txt", s.git(s.host, "status", "--porcelain"))
	if out := s.git(s.host, "ls-files", "-v"); strings.Contains(out, "S ") || strings.Contains(out, "h ") {
		t.Errorf("flags that hide changes came over:\n%s", out)
	}
}

func TestHooksAndConfigOfTheTaskNeverReachTheHost(t *testing.T) {
	s := withHistory(t)
	s.begin()
	tip := s.commit(s.guest, "good.txt", "good\n", "honest work")
	s.write(s.guest+"/.git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/owned\n")
	s.must(os.Chmod(s.guest+"/.git/hooks/post-checkout", 0o755))
	s.git(s.guest, "config", "core.fsmonitor", "touch /tmp/owned")
	s.write(s.guest+"/.git/info/attributes", "* filter=evil\n")
	s.git(s.guest, "-c", "core.fsmonitor=false", "update-ref", "refs/replace/"+s.git(s.guest, "rev-parse", "HEAD~1"), tip)
	s.git(s.guest, "-c", "core.fsmonitor=false", "worktree", "add", "-q", "-b", "side", s.guest+"-side")
	s.write(s.guest+"/.git/info/grafts", "x\n")
	s.write(s.guest+"/.git/objects/info/alternates", "/somewhere/else\n")
	config, err := os.ReadFile(s.host + "/.git/config")
	s.must(err)

	sum := s.summary()
	for _, want := range []string{"config", "hooks/post-checkout", "info/attributes", "info/grafts", "objects/info/alternates", "worktrees/guest-side", "refs/replace"} {
		if !slices.Contains(sum.Refused, want) {
			t.Errorf("%s is not named: %q", want, sum.Refused)
		}
	}
	s.mustApply(false)
	s.same("main", tip, s.git(s.host, "rev-parse", "main")) // the control: what is harmless came
	now, err := os.ReadFile(s.host + "/.git/config")
	s.must(err)
	s.same("the config", string(config), string(now))
	for _, name := range []string{"hooks/post-checkout", "info/attributes", "info/grafts", "objects/info/alternates", "refs/replace", "worktrees"} {
		if _, err := os.Lstat(s.host + "/.git/" + name); err == nil {
			t.Errorf("%s is on the host", name)
		}
	}
}

func TestANewRepositoryComesWithoutItsSettings(t *testing.T) {
	for _, sha := range []string{"sha1", "sha256"} {
		t.Run(sha, func(t *testing.T) {
			s := newScene(t, sha)
			s.write(s.host+"/a.txt", "a\n")
			s.begin()
			s.git(s.guest, "init", "-q", "--object-format="+sha)
			s.git(s.guest, "config", "core.pager", "touch /tmp/owned")
			s.write(s.guest+"/.git/hooks/pre-commit", "#!/bin/sh\n")
			tip := s.commit(s.guest, "b.txt", "b\n", "the first")
			s.git(s.guest, "tag", "v1")
			s.git(s.guest, "branch", "some/other")
			sum := s.summary()
			if !sum.New || sum.HeadNow != "main" || !slices.Contains(sum.Refused, "config") || !slices.Contains(sum.Refused, "hooks/pre-commit") {
				t.Fatalf("the summary is %+v", sum)
			}
			undo := s.mustApply(false)
			s.same("main", tip, s.git(s.host, "rev-parse", "main"))
			s.same("the refs", s.git(s.guest, "for-each-ref"), s.git(s.host, "for-each-ref"))
			s.same("the status", "D b.txt", s.git(s.host, "status", "--porcelain"))
			s.same("the pager", "", s.git(s.host, "config", "--default", "", "core.pager"))
			s.same("its hooks", "", strings.Join(names(t, s.host+"/.git/hooks"), " "))
			undo()
			s.same("what is left after the undo", "a.txt", strings.Join(names(t, s.host), " "))
		})
	}
}

func names(t *testing.T, dir string) []string {
	var out []string
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestAShallowCloneOfTheTaskIsTakenAsOne(t *testing.T) {
	s := withHistory(t)
	s.begin()
	origin := s.host
	s.must(os.Rename(s.host, s.host+"-origin"))
	origin += "-origin"
	s.must(os.Mkdir(s.host, 0o755))
	s.must(os.RemoveAll(s.guest))
	s.git(t.TempDir(), "clone", "-q", "--depth", "1", "file://"+origin, s.guest)
	s.mustApply(false)
	s.same("the log", s.git(s.guest, "log", "--format=%H"), s.git(s.host, "log", "--format=%H"))
	s.same("is it shallow", "true", s.git(s.host, "rev-parse", "--is-shallow-repository"))
}

// The plan is made from what was read at the beginning; what the host does after that is found before the first step.
func TestAChangeOfTheHostsBetweenPlanAndApplyIsFound(t *testing.T) {
	for name, change := range map[string]func(s *scene){
		"a commit":   func(s *scene) { s.commit(s.host, "h", "h", "h") },
		"a switch":   func(s *scene) { s.git(s.host, "switch", "-q", "-c", "elsewhere") },
		"a reset":    func(s *scene) { s.git(s.host, "reset", "-q", "--soft", "HEAD~1") },
		"a file":     func(s *scene) { s.write(s.host+"/h", "h"); s.git(s.host, "add", "h") },
		"git's lock": func(s *scene) { s.write(s.host+"/.git/refs/heads/main.lock", "") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				s := withHistory(t)
				s.begin()
				s.commit(s.guest, "x", "x", "x")
				r := s.open()
				if !late {
					change(s)
				}
				plan, err := r.Plan(false)
				s.must(err)
				lower := s.dir(s.host + "/.git")
				defer lower.Close()
				if late {
					s.must(plan.Verify(lower)) // the control
					change(s)
				}
				if err := plan.Verify(lower); !errors.Is(err, gitrepo.ErrConflict) {
					t.Errorf("the plan is still good: %v", err)
				}
			}
		})
	}
}

func TestNothingToShowWhereOnlyCachesChanged(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.must(os.Chtimes(s.guest+"/notes.txt", zeroTime, zeroTime))
	s.git(s.guest, "status")
	s.git(s.guest, "gc", "-q")
	s.git(s.guest, "update-ref", "refs/remotes/origin/main", "HEAD") // a fetch
	if sum := s.summary(); !sum.Empty() {
		t.Errorf("the summary is %+v", sum)
	}
	s.commit(s.guest, "x", "x", "x")
	if sum := s.summary(); sum.Empty() {
		t.Error("a commit is not shown")
	}
}

func TestGitAtWorkOnTheHostIsWaitedFor(t *testing.T) {
	for name, want := range map[string]string{"index.lock": "at work", "refs/heads/main.lock": "at work", "HEAD.lock": "at work", "MERGE_HEAD": "a merge", "rebase-merge": "a rebase"} {
		t.Run(name, func(t *testing.T) {
			s := withHistory(t)
			s.begin()
			s.commit(s.guest, "x", "x", "x")
			s.write(s.host+"/.git/"+name, "")
			s.conflicts(want)
			s.must(os.Remove(s.host + "/.git/" + name))
			s.mustApply(false)
		})
	}
}

func TestATaskInTheMiddleOfAMergeOffersItsCommitsOnly(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.git(s.guest, "switch", "-q", "-c", "side", "HEAD~1")
	s.commit(s.guest, "notes.txt", "side\n", "side")
	s.git(s.guest, "switch", "-q", "main")
	tip := s.commit(s.guest, "notes.txt", "main\n", "main")
	if _, err := s.tryGit(s.guest, "merge", "side"); err == nil {
		t.Fatal("the merge had no conflict, so this test shows nothing")
	}
	s.conflicts("middle of a merge")
	s.mustApply(true)
	s.same("the branch", tip, s.git(s.host, "rev-parse", "cloche/receipts"))
}

func TestABranchOfAnotherWorktreeOfTheHostsIsLeftAlone(t *testing.T) {
	s := withHistory(t)
	s.git(s.host, "worktree", "add", "-q", "-b", "side", s.host+"-side")
	s.begin()
	s.git(s.guest, "update-ref", "refs/heads/side", s.commit(s.guest, "x", "x", "x"))
	s.conflicts("another worktree")
}

func TestTheTokenChangesWithWhatWouldBeApplied(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.commit(s.guest, "x", "x", "x")
	first := s.summary().Token
	if s.summary().Token != first {
		t.Error("the token changes by itself")
	}
	s.commit(s.guest, "x", "y", "y")
	second := s.summary().Token
	s.git(s.host, "branch", "-f", "unrelated")
	s.git(s.host, "update-ref", "refs/heads/main", s.git(s.host, "rev-parse", "main~1"))
	if third := s.summary().Token; second == first || third == second {
		t.Error("the token stays although what is applied changed")
	}
}
