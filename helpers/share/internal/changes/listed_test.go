//go:build linux

package changes_test

import (
	"os"
	"strings"
	"testing"

	"cloche/share/internal/problem"
)

// What emacs, patch and `sed -i.bak` do.
func TestAFileOfWhichAnIgnoredBackupWasMadeCanBeApplied(t *testing.T) {
	for _, chosen := range []string{"all", "doc and doc~", "doc alone"} {
		t.Run(chosen, func(t *testing.T) {
			r := newRig(t)
			r.put(".gitignore", "*~\n")
			r.put("doc", "old\n")
			r.open()
			r.rename("doc", "doc~")
			r.guest("doc", "new\n")
			r.guest("other~", "ignored")
			r.expect("doc modified file", "doc~ moved file from doc", " new ignored of 1")
			what := r.all()
			want := []string{" share.ignored"}
			switch chosen {
			case "doc and doc~":
				what, want = r.chosen("doc", "doc~"), nil
			case "doc alone":
				what = r.chosen("doc")
				slice, err := r.set.Apply(what)
				must(t, err)
				if len(slice.Refused) != 1 || slice.Refused[0].Code != problem.NotAppliable || !strings.Contains(slice.Refused[0].Message, "doc~") {
					t.Errorf("refused %v", slice.Refused)
				}
				return
			}
			_, done, refused := r.apply(what)
			if done != 2 || strings.Join(refused, "|") != strings.Join(want, "|") {
				t.Errorf("%d applied, refused %v", done, refused)
			}
			r.content("doc", "new\n")
			r.content("doc~", "old\n")
		})
	}
}

func TestAnIgnoredLineTakesNothingFromWhereNothingIsIgnored(t *testing.T) {
	r := newRig(t)
	r.put(".gitignore", "build/\n")
	r.put("contract.docx", "the contract")
	r.open()
	r.mkdir("build")
	r.guest("build/out", "x")
	r.rename("contract.docx", "build/contract.docx")
	r.expect("build new ignored of 2", "build/contract.docx moved file from contract.docx")
	_, done, refused := r.apply(r.all())
	if want := "build share.ignored|build/contract.docx share.ignored"; done != 0 || strings.Join(refused, "|") != want {
		t.Errorf("%d applied, refused %v, not %s", done, refused, want)
	}
	r.content("contract.docx", "the contract")
	_, _, refused = r.apply(r.chosen("build", "build/contract.docx")) // control
	r.none(refused)
	r.content("build/contract.docx", "the contract")
}

func TestWhatIsMovedIntoARepositoryIsListed_AndNothingOfItIsStuck(t *testing.T) {
	r := newRig(t)
	r.put(".git/HEAD", "ref: refs/heads/main\n")
	for _, d := range []string{".git/objects", ".git/refs/heads", ".git/hooks"} {
		must(t, os.MkdirAll(r.host(d), 0o755))
	}
	r.put("report", "old\n")
	r.put("hook", "#!/bin/sh\n")
	r.open()
	r.rename("report", ".git/report")
	r.rename("hook", ".git/hooks/pre-commit")
	r.guest("report", "new\n")
	r.expect(".git/report moved file from report", ".git/hooks/pre-commit moved file from hook protected", "report modified file")
	for _, what := range []string{"all", "chosen"} {
		asked := r.all()
		if what == "chosen" {
			asked = r.chosen(".git/report", ".git/hooks/pre-commit", "report")
		}
		if _, done, refused := r.apply(asked); done != 0 || len(refused) != 3 {
			t.Errorf("%s: %d applied, refused %v", what, done, refused)
		}
	}
	r.content("report", "old\n")
	if _, err := os.Lstat(r.host(".git/hooks/pre-commit")); err == nil {
		t.Error("the host's repository has a hook of the task's")
	}
	slice, err := r.set.Discard(r.chosen(".git/report", ".git/hooks/pre-commit"))
	must(t, err)
	if len(slice.Refused) > 0 {
		t.Errorf("not discarded: %v", slice.Refused)
	}
	r.expect("report modified file")
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.content("report", "new\n")
	r.content("hook", "#!/bin/sh\n")
}

func TestADirectoryMadeAgainThatTheHostRemovedTooIsListed(t *testing.T) {
	for _, how := range []string{"it", "what is above it, too", "for a file"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.put("b/a/f", "host")
			r.put("b/kept", "host")
			r.open()
			r.remove("b/a/f", false)
			r.remove("b/a", true)
			r.mkdir("b/a")
			r.guest("b/a/new", "an hour of work")
			switch how {
			case "it":
				must(t, os.RemoveAll(r.host("b/a")))
			case "for a file":
				must(t, os.RemoveAll(r.host("b/a")))
				r.put("b/a", "the host's")
				for _, c := range r.list() {
					if c.Path == "b/a" && c.Conflict != "" {
						return
					}
				}
				t.Errorf("the list is %v", r.lines())
				return
			default:
				must(t, os.RemoveAll(r.host("b")))
			}
			r.change("b/a")
			r.change("b/a/new")
			slice, err := r.set.Apply(r.all())
			must(t, err)
			if how != "it" {
				for _, refused := range slice.Refused {
					if refused.Code != problem.Conflict || !strings.Contains(refused.Message, "cannot be reached") {
						t.Errorf("refused %v", refused)
					}
				}
				must(t, os.Mkdir(r.host("b"), 0o755))
				_, _, refused := r.apply(r.chosen("b/a", "b/a/new"))
				r.none(refused)
			}
			r.content("b/a/new", "an hour of work")
			_, err = r.set.Discard(r.all())
			must(t, err)
			r.expect()
		})
	}
}
