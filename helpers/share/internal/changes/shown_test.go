//go:build linux

package changes_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"cloche/share/internal/changes"
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

// below is what a directory's name chooses: its line is named itself, all that lies in it is not.
func (r *rig) below(directory string) changes.What {
	what := changes.What{}
	for _, c := range r.list() {
		if c.Path == directory || strings.HasPrefix(c.Path, directory+"/") {
			what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token, Below: c.Path != directory})
		}
	}
	return what
}

func TestADirectorysNameAppliesNoMoreOfItThanAllWould(t *testing.T) {
	r := newRig(t)
	r.put(".gitignore", "out\n")
	r.open()
	for _, dir := range []string{"src", "src/out", "src/deep"} {
		r.mkdir(dir)
	}
	r.guest("src/ok", "x")
	r.guest("src/deep/ok", "x")
	r.guest("src/out/file", "x")
	r.guest("src/.envrc", "x")
	r.link("src/etc", "/etc")
	r.link("src/up", "../../x")
	_, done, refused := r.apply(r.below("src"))
	want := "src/.envrc share.protected, src/etc share.link-escapes, src/out share.ignored, src/up share.link-escapes"
	if got := strings.Join(refused, ", "); done != 4 || got != want {
		t.Errorf("%d done, refused %s, want %s", done, got, want)
	}
	// control: named itself each is taken over
	if _, done, refused = r.apply(r.chosen("src/.envrc", "src/etc", "src/out", "src/up")); done != 4 || len(refused) > 0 {
		t.Errorf("%d done, refused %v", done, refused)
	}
}

// What was looked at is what is applied, also where the choice is made later, of a list that has gone on.
func TestChosenChangesAreAsTheyWereInTheListThatWasShown(t *testing.T) {
	r := newRig(t)
	r.put("looked", "old\n")
	r.put("moved", "old\n")
	r.put("out/before", "old\n")
	r.put(".gitignore", "out/ignored\n")
	r.open()
	r.mkdir("made")
	r.guest("made/plain", "shown\n")
	r.guest("looked", "shown\n")
	r.guest("moved", "shown\n")
	r.guest("out/ignored", "shown as one to be chosen by itself\n")
	r.guest("out/plain", "shown\n")
	page, err := r.set.List("", 100)
	must(t, err)
	shown := func(what changes.What) changes.What {
		what.Shown, what.Revision = true, page.Revision
		return what
	}
	r.guest("looked", "went on\n")
	r.rename("moved", "elsewhere")
	r.guest("out/new", "came later\n")
	r.guest("made/new", "came later\n")
	r.guest(".gitignore", "\n")
	_, done, refused := r.apply(shown(r.chosen("looked", "elsewhere")))
	if want := []string{"elsewhere " + problem.ChangeMovedOn, "looked " + problem.ChangeMovedOn}; done != 0 || !reflect.DeepEqual(refused, want) {
		t.Errorf("%d done, refused %v, want %v", done, refused, want)
	}
	_, done, refused = r.apply(shown(r.below("out")))
	if want := []string{"out/ignored " + problem.ChangeMovedOn, "out/new " + problem.ChangeMovedOn}; done != 1 || !reflect.DeepEqual(refused, want) {
		t.Errorf("%d done, refused %v, want %v", done, refused, want)
	}
	r.content("out/plain", "shown\n")
	// what a new directory has is as little to be had without it as with --all
	if _, done, refused = r.apply(shown(r.chosen("made/plain"))); done != 0 || len(refused) != 1 {
		t.Errorf("of a directory that went on: %d done, refused %v", done, refused)
	}
	if done, refused := r.discard(shown(r.chosen("looked"))); done != 0 || len(refused) != 1 {
		t.Errorf("a discard of what went on: %d done, refused %v", done, refused)
	}
	// control: as they are now
	if _, done, refused := r.apply(r.chosen("looked", "elsewhere", "out/new", "made/plain")); done != 5 || len(refused) > 0 {
		t.Errorf("%d done, refused %v", done, refused)
	}
}
