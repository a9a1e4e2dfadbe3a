//go:build linux

package changes_test

import (
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
