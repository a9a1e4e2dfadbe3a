//go:build linux

package gitrepo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/gitrepo"
	"cloche/share/internal/hostfs"
)

// scene is a folder of the host's with a repository, and what a guest sees of it. Both are worked on with real git.
type scene struct {
	t                  *testing.T
	host, guest, begun string // begun: the host's folder at the moment when the guest began
	config             string // git's own settings, out of anybody's home
	sha                string
}

func newScene(t *testing.T, sha string) *scene {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is needed to compare with; the builder has it")
	}
	base := t.TempDir()
	s := &scene{t: t, host: base + "/host", guest: base + "/guest", begun: base + "/begun", config: base + "/gitconfig", sha: sha}
	s.write(s.config, "[user]\n\tname = A User\n\temail = user@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n[advice]\n\tdetachedHead = false\n[core]\n\tfsmonitor = false\n")
	s.must(os.Mkdir(s.host, 0o755))
	return s
}

// withHistory gives the host three commits.
func withHistory(t *testing.T) *scene { return withHistoryOf(t, "sha1") }

func withHistoryOf(t *testing.T, sha string) *scene {
	s := newScene(t, sha)
	s.git(s.host, "init", "-q", "--object-format="+sha)
	for i := range 3 {
		s.write(s.host+"/notes.txt", strings.Repeat(fmt.Sprintf("line of commit %d\n", i), 40+i))
		s.write(fmt.Sprintf("%s/src/deep/file%d.c", s.host, i), fmt.Sprintf("int f%d(void);\n", i))
		s.git(s.host, "add", "-A")
		s.git(s.host, "commit", "-q", "-m", fmt.Sprintf("commit %d", i))
	}
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) write(path, content string) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(content), 0o644))
}

func (s *scene) tryGit(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+s.config, "HOME=/nonexistent", "GIT_CEILING_DIRECTORIES="+filepath.Dir(s.host), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *scene) git(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.tryGit(dir, args...)
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// begin is when the guest starts: it sees what the host has.
func (s *scene) begin() {
	s.t.Helper()
	for _, to := range []string{s.guest, s.begun} {
		out, err := exec.Command("cp", "-a", s.host, to).CombinedOutput()
		if err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
	}
}

func (s *scene) commit(dir, file, content, message string) string {
	s.t.Helper()
	s.write(dir+"/"+file, content)
	s.git(dir, "add", "-A")
	s.git(dir, "commit", "-q", "-m", message)
	return s.git(dir, "rev-parse", "HEAD")
}

// dir opens a folder as the server does; nil for none.
func (s *scene) dir(path string) gitrepo.Dir {
	s.t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.must(err)
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	s.must(err)
	s.t.Cleanup(func() { unix.Close(proc) })
	tree, err := hostfs.New(hostfs.Options{Root: fd, Proc: proc, ReadOnly: true})
	s.must(err)
	return gitrepo.FromNode(tree.Root())
}

func (s *scene) input() gitrepo.Input {
	return gitrepo.Input{
		Lower: s.dir(s.host + "/.git"), Merged: s.dir(s.guest + "/.git"), Branch: "cloche/receipts",
		Moved: func(path ...string) bool {
			name := ".git/" + strings.Join(path, "/")
			then, err := os.ReadFile(filepath.Join(s.begun, name))
			now, errNow := os.ReadFile(filepath.Join(s.host, name))
			return (err == nil) != (errNow == nil) || !bytes.Equal(then, now)
		},
	}
}

func (s *scene) tryOpen() (*gitrepo.Repository, error) {
	r, err := gitrepo.Open(context.Background(), s.input())
	if err == nil {
		s.t.Cleanup(r.Close)
	}
	return r, err
}

func (s *scene) open() *gitrepo.Repository {
	s.t.Helper()
	r, err := s.tryOpen()
	s.must(err)
	return r
}

func (s *scene) summary() *gitrepo.Summary {
	s.t.Helper()
	sum, err := s.open().Summary()
	s.must(err)
	return sum
}

// apply does what the engine does with a plan, without its journal, and gives what takes it back.
func (s *scene) apply(asBranch bool) (undo func(), err error) {
	s.t.Helper()
	r, err := s.tryOpen()
	if err != nil {
		return nil, err
	}
	plan, err := r.Plan(asBranch)
	if err != nil {
		return nil, err
	}
	var pack bytes.Buffer
	if plan.Objects() > 0 {
		if err := plan.WritePack(&pack); err != nil {
			return nil, err
		}
	}
	if lower := s.dir(s.host + "/.git"); lower != nil {
		defer lower.Close()
		if err := plan.Verify(lower); err != nil {
			return nil, err
		}
	}
	steps, err := plan.Steps()
	s.must(err)
	var back []func()
	for _, step := range steps {
		path := filepath.Join(append([]string{s.host, ".git"}, step.Path...)...)
		old, errOld := os.ReadFile(path)
		content := step.Content
		if step.Pack {
			content = pack.Bytes()
		}
		switch step.Do {
		case gitrepo.MakeDir:
			if err := os.Mkdir(path, os.FileMode(step.Mode)); err == nil {
				back = append(back, func() { os.Remove(path) })
			} else if !errors.Is(err, fs.ErrExist) {
				s.t.Fatal(err)
			}
			continue
		case gitrepo.Create:
			if errOld == nil {
				s.t.Fatalf("%s: create, but it is there", path)
			}
			if !step.Stays {
				back = append(back, func() { s.must(os.Remove(path)) })
			}
		case gitrepo.Replace, gitrepo.Remove:
			if errOld != nil || sha256.Sum256(old) != step.Old {
				s.t.Fatalf("%s: is not what the step expects", path)
			}
			back = append(back, func() { s.must(os.WriteFile(path, old, 0o644)) })
		default:
			s.t.Fatalf("%q is no step", step.Do)
		}
		if step.Do == gitrepo.Remove {
			s.must(os.Remove(path))
			continue
		}
		temporary := path + ".new"
		if step.Lock != "" {
			temporary = filepath.Join(filepath.Dir(path), step.Lock)
		}
		f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(step.Mode))
		s.must(err)
		_, err = f.Write(content)
		s.must(err)
		s.must(f.Close())
		s.must(os.Rename(temporary, path))
	}
	return func() {
		for i := len(back) - 1; i >= 0; i-- {
			back[i]()
		}
	}, nil
}

func (s *scene) mustApply(asBranch bool) (undo func()) {
	s.t.Helper()
	undo, err := s.apply(asBranch)
	s.must(err)
	if out, err := s.tryGit(s.host, "fsck", "--strict", "--full"); err != nil {
		s.t.Fatalf("git fsck --strict: %v\n%s", err, out)
	}
	return undo
}

// state is all that git and a user see of a repository but for unreachable objects.
func (s *scene) state(dir string) string {
	s.t.Helper()
	var b strings.Builder
	s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "objects" {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %x\n", strings.TrimPrefix(path, dir), sha256.Sum256(content))
		} else {
			fmt.Fprintf(&b, "%s %v\n", strings.TrimPrefix(path, dir), d.Type())
		}
		return nil
	}))
	return b.String()
}

func (s *scene) same(what, want, got string) {
	s.t.Helper()
	if want != got {
		s.t.Errorf("%s:\nwant %s\ngot  %s", what, want, got)
	}
}

func (s *scene) conflicts(part string) *gitrepo.Summary {
	s.t.Helper()
	before := s.state(s.host)
	sum := s.summary()
	if !strings.Contains(sum.Conflict, part) {
		s.t.Errorf("the conflict is %q, not about %q", sum.Conflict, part)
	}
	if _, err := s.apply(false); !errors.Is(err, gitrepo.ErrConflict) {
		s.t.Errorf("an apply in place: %v, want a conflict", err)
	}
	s.same("the host after the refusal", before, s.state(s.host))
	return sum
}
