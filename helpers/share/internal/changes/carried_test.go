//go:build linux

package changes_test

import (
	"os"
	"strings"
	"testing"

	"cloche/share/internal/problem"
)

func TestADirectoryWhoseMoveWouldLetALinkInItLeaveTheFolderIsNeverAppliedByAll(t *testing.T) {
	r := newRig(t)
	r.put("a/b/f", "x")
	r.open()
	r.link("a/b/up", "../../f")
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.rename("a/b", "b")
	_, done, refused := r.apply(r.all())
	if done != 0 || len(refused) != 1 || !strings.HasSuffix(refused[0], problem.LinkEscapes) {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.rename("b", "a/c") // control: as deep as before
	_, done, refused = r.apply(r.all())
	if r.none(refused); done != 1 {
		t.Errorf("%d done", done)
	}
}

func TestAnIgnoredLineTellsOfALinkThatAMoveInItWouldLetLeaveTheFolder(t *testing.T) {
	for text, want := range map[string]string{"../../../x": " escaping-link", "f": ""} {
		r := newRig(t)
		r.put(".gitignore", "/c\n/a/b/c\n")
		r.put("a/b/c/f", "host")
		must(t, os.Symlink(text, r.host("a/b/c/l")))
		r.open()
		r.rename("a/b/c", "c")
		r.expect("c moved ignored of 1" + want)
	}
}
