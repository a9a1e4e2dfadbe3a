//go:build linux

package changes_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"cloche/share/internal/problem"
)

func TestWhatWasShownAsIgnoredIsNotTakenByAllOnceTheGuestDropsItsGitignore(t *testing.T) {
	for _, listed := range []string{"never again", "again, shown to another"} {
		t.Run(listed, func(t *testing.T) {
			r := newRig(t)
			r.put("doc", "host")
			r.open()
			r.guest(".gitignore", "build/\n*.key\n")
			r.mkdir("build")
			r.guest("build/evil.sh", "never shown")
			r.guest("my.key", "never shown")
			r.guest("doc", "edited")
			what := r.all()
			r.mkdir("unrelated")
			between := r.layer.Seq() // told with a notice, not with a list
			r.remove(".gitignore", false)
			if listed != "never again" {
				r.all()
			}
			_, done, refused := r.apply(what)
			if done != 1 {
				t.Errorf("%d applied", done)
			}
			for _, path := range []string{"build", "build/evil.sh", "my.key"} {
				if _, err := os.Lstat(r.host(path)); err == nil {
					t.Errorf("%s is in the folder: %v", path, r.folder())
				}
				found := false
				for _, each := range refused {
					found = found || each == path+" "+problem.ChangeMovedOn
				}
				if !found {
					t.Errorf("%s is not refused as moved on: %v", path, refused)
				}
			}
			r.content("doc", "edited")
			if listed == "never again" {
				what.Revision = between
				if _, done, refused = r.apply(what); done != 1 { // the directory that is unrelated
					t.Errorf("%d applied, refused %v", done, refused)
				}
			}
			_, _, refused = r.apply(r.all()) // control: as it is shown now
			r.none(refused)
			r.content("build/evil.sh", "never shown")
			r.content("my.key", "never shown")
		})
	}
}

func TestAllOfAListThatIsNotKnownTakesNothing(t *testing.T) {
	r := newRig(t)
	r.open()
	r.guest(".gitignore", "build/\n")
	r.mkdir("build")
	r.guest("build/evil.sh", "never shown")
	what := r.all()
	r.open()
	r.remove(".gitignore", false)
	_, done, _ := r.apply(what)
	if done != 0 {
		t.Errorf("%d applied: %v", done, r.folder())
	}
	r.open() // control: nothing moved since the list
	what = r.all()
	r.open()
	_, _, refused := r.apply(what)
	r.none(refused)
	r.content("build/evil.sh", "never shown")
}

func TestAnIgnoredLinesDiffSaysWhatBecomesOfEachFile(t *testing.T) {
	r := newRig(t)
	r.put(".gitignore", "*.key\nmany/\n")
	r.put("my.key", "the user's")
	r.put("old.key", "x")
	r.open()
	r.remove("my.key", false)
	r.guest("new.key", "abc")
	r.rename("old.key", "other.key")
	r.link("a.key", "/etc/passwd")
	r.mkdir("many")
	for i := range 600 {
		r.mkdir(fmt.Sprint("many/", i))
	}
	if got, want := r.diff(""), "text new a.key, link to /etc/passwd\ndeleted my.key, 10 bytes\nnew new.key, 3 bytes\nmoved other.key from old.key, 1 bytes\n"; got != want {
		t.Errorf("the diff is %q, want %q", got, want)
	}
	if got := r.diff("many"); strings.Count(got, "\n") != 513 || !strings.HasSuffix(got, "\nand 89 more, which are too many to be applied\n") {
		t.Errorf("%d lines, which end with %q", strings.Count(got, "\n"), got[len(got)-100:])
	}
	_, _, refused := r.apply(r.chosen("many"))
	if len(refused) != 1 || refused[0] != "many "+problem.NotAppliable {
		t.Errorf("refused %v", refused)
	}
}
