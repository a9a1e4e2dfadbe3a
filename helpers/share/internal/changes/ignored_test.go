//go:build linux

package changes_test

import (
	"os"
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
