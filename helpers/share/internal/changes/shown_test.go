//go:build linux

package changes_test

import (
	"os"
	"strings"
	"testing"

	"cloche/share/internal/problem"
)

// What is no content is shown as well: a file or directory that everybody may write is not what the user had.
func TestADiffTellsModesAndAttributesThatTheApplySets(t *testing.T) {
	r := newRig(t)
	r.put("file", "x")
	r.put("dir/in", "x")
	r.put("over", "the user's")
	r.put("moved", "x")
	r.open()
	r.chmod("file", 0o666)
	r.chmod("dir", 0o777)
	r.mkdir("new")
	r.chmod("new", 0o777)
	r.rename("moved", "over")
	n := r.at("dir/in")
	must(t, n.SetXattr("user.origin", []byte("elsewhere"), 0))
	n.Drop()
	for path, want := range map[string]string{
		"file":   "old mode 100644\nnew mode 100666\n",
		"dir":    "old mode 040755\nnew mode 040777\n",
		"new":    "new file mode 040777\n",
		"over":   "rename from moved\nrename to over\nreplaces what the folder has at over\n",
		"dir/in": "attribute user.origin set, 9 bytes\n",
	} {
		d, err := r.set.Diff(r.change(path).ID, "change", 3, 0, 1<<20)
		must(t, err)
		if d.Kind != "text" || string(d.Bytes) != want {
			t.Errorf("%s: %s %q, want %q", path, d.Kind, d.Bytes, want)
		}
	}
}

// A link of the folder's may lead out of it, as the user made it. A new one through it does, too.
func TestALinkThroughALinkOfTheFoldersThatLeavesItIsNeverAppliedByAll(t *testing.T) {
	for _, c := range []struct{ has, to, target string }{
		{"ext", "", "ext/file"}, {"ext", "", "in/../ext"}, {"in/up", "../..", "in/up/file"}, {"ext", "", "in/near"},
	} {
		r := newRig(t)
		r.put("in/file", "x")
		if c.to == "" {
			c.to = r.base
		}
		must(t, os.Symlink(c.to, r.host(c.has)))
		must(t, os.Symlink("../ext", r.host("in/near")))
		must(t, os.Symlink("in", r.host("inner")))
		r.open()
		r.link("new", c.target)
		r.link("fine", "inner/file") // control: a link that stays
		_, done, refused := r.apply(r.all())
		if done != 1 || len(refused) != 1 || !strings.HasSuffix(refused[0], problem.LinkEscapes) {
			t.Errorf("%+v: %d done, refused %v", c, done, refused)
		}
		if target, err := os.Readlink(r.host("fine")); err != nil || target != "inner/file" {
			t.Errorf("the control: %q, %v", target, err)
		}
	}
}

// One line stands for many files: what would be said of one of them is said of the line.
func TestALineOfManyFilesTellsOfTheLinksAndProgramsInIt(t *testing.T) {
	r := newRig(t)
	r.put(".gitignore", "out/\n")
	r.put("data.db", sqlite("x"))
	r.open()
	r.mkdir("out")
	r.link("out/etc", "/etc")
	r.guest("out/run", "x")
	r.chmod("out/run", 0o755)
	r.guest("data.db", sqlite("y"))
	r.guest("data.db-wal", wal("z"))
	r.expect("out new ignored of 3 absolute-link executable", "data.db modified database of 2")
	r.chmod("data.db-wal", 0o755)
	if c := r.change("data.db"); !c.Executable {
		t.Error("a program in a database is not told")
	}
}
