//go:build linux

package changes_test

import (
	"os"
	"strings"
	"testing"

	"cloche/share/internal/problem"
)

func TestAMoveThatGivesOrTakesAMeaningIsNeverAppliedByAll(t *testing.T) {
	for _, c := range []struct{ have, from, to string }{
		{"config/git/config", "config", ".config"},
		{"plain/hgrc", "plain", ".hg"},
		{".claude/settings.json", ".claude/settings.json", "settings.json"},
		{".claude/settings.json", ".claude", "claude"},
		{".config/git/config", ".config", "config"},
	} {
		r := newRig(t)
		r.put(c.have, "as the user has it")
		r.open()
		r.rename(c.from, c.to)
		_, done, refused := r.apply(r.all())
		if done != 0 || len(refused) != 1 || !strings.HasSuffix(refused[0], problem.Protected) {
			t.Errorf("%s to %s: %d done, refused %v", c.from, c.to, done, refused)
		}
		r.content(c.have, "as the user has it")
		_, _, refused = r.apply(r.chosen(c.to)) // control: by itself
		r.none(refused)
		if _, err := os.Lstat(r.host(c.to)); err != nil {
			t.Error(err)
		}
	}
}

func TestAMoveThatAllLeavesOutDoesNotComeAlongWithWhatLiesInIt(t *testing.T) {
	r := newRig(t)
	r.put("config/git/config", "as the user has it")
	r.open()
	r.rename("config", ".config")
	r.guest(".config/ordinary", "x")
	_, _, _ = r.apply(r.all())
	r.content("config/git/config", "as the user has it")
	_, _, _ = r.apply(r.chosen(".config/ordinary"))
	r.content("config/git/config", "as the user has it")
}

func TestALinkInThePlaceOfADirectoryThatGivesMeaningIsNeverAppliedByAll(t *testing.T) {
	for _, name := range []string{".hg", ".config", ".github", ".bundle", ".cargo"} {
		r := newRig(t)
		r.put("plain/hgrc", "x")
		r.open()
		r.link(name, "plain")
		_, done, refused := r.apply(r.all())
		if done != 0 || len(refused) != 1 || !strings.HasSuffix(refused[0], problem.Protected) {
			t.Errorf("%s: %d done, refused %v", name, done, refused)
		}
	}
}

func TestADirectoryThatWasMovedAgainAfterTheListComesAlongWithNothing(t *testing.T) {
	r := newRig(t)
	r.put("docs/index", "x")
	r.open()
	r.rename("docs", "text")
	r.guest("text/more", "y")
	shown := r.all()
	r.rename("text", "src")
	_, done, refused := r.apply(shown)
	if done != 0 || len(refused) != 2 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.content("docs/index", "x")
	_, done, refused = r.apply(r.all()) // control
	r.none(refused)
	r.content("src/index", "x")
	r.content("src/more", "y")
}
