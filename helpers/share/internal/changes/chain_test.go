//go:build linux

package changes_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/problem"
	"cloche/share/internal/wire"
)

// sees describes all that the guest sees.
func (r *rig) sees() string {
	r.t.Helper()
	return r.picture(r.tree)
}

// picture describes all that a tree shows.
func (r *rig) picture(tree ninep.Tree) string {
	r.t.Helper()
	var lines []string
	var walk func(dir ninep.Node, path string)
	walk = func(dir ninep.Node, path string) {
		var listed []string
		if err := ninep.EachName(dir, func(d wire.Dirent) bool {
			if !names.Temporary(d.Name) {
				listed = append(listed, d.Name)
			}
			return true
		}); err != nil {
			lines = append(lines, fmt.Sprintf("%s cannot be listed: %v", path, err))
		}
		for _, name := range listed {
			n, err := dir.Walk(name)
			if err != nil {
				lines = append(lines, fmt.Sprintf("%s%s is listed: %v", path, name, err))
				continue
			}
			a, err := n.Attr()
			must(r.t, err)
			at := path + name
			switch a.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				lines = append(lines, fmt.Sprintf("%s/ %o", at, a.Mode&0o777))
				walk(n, at+"/")
			case unix.S_IFLNK:
				target, err := n.Readlink()
				must(r.t, err)
				lines = append(lines, at+" -> "+target)
			default:
				f, err := n.Open(0)
				if err != nil {
					lines = append(lines, fmt.Sprintf("%s cannot be read: %v", at, err))
					n.Drop()
					continue
				}
				b := make([]byte, a.Size)
				size, err := f.ReadAt(b, 0)
				must(r.t, err)
				f.Close()
				lines = append(lines, fmt.Sprintf("%s %o %q", at, a.Mode&0o777, b[:size]))
			}
			n.Drop()
		}
	}
	root := tree.Root()
	defer root.Drop()
	walk(root, "")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// A name that something moved away from is another's now: the folder's file goes to its new place before its name is taken.
func TestAMoveOntoANameThatWasMovedAwayLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		moves [][2]string
		want  map[string]string
	}{
		"a file onto a file's":           {[][2]string{{"a", "z"}, {"b", "a"}}, map[string]string{"z": "of a", "a": "of b"}},
		"earlier in the list":            {[][2]string{{"b", "A"}, {"a", "b"}}, map[string]string{"A": "of b", "b": "of a"}},
		"a directory onto a file's":      {[][2]string{{"a", "z"}, {"d", "a"}}, map[string]string{"z": "of a", "a/in": "of d/in"}},
		"a file onto a directory's":      {[][2]string{{"d", "z"}, {"a", "d"}}, map[string]string{"z/in": "of d/in", "d": "of a"}},
		"a directory onto a directory's": {[][2]string{{"d", "z"}, {"e", "d"}}, map[string]string{"z/in": "of d/in", "d/in": "of e/in"}},
		"two that change places":         {[][2]string{{"a", "t"}, {"b", "a"}, {"t", "b"}}, map[string]string{"b": "of a", "a": "of b"}},
		"out of a directory that moves":  {[][2]string{{"d/in", "z"}, {"d", "q"}}, map[string]string{"z": "of d/in"}},
		"two directories that do":        {[][2]string{{"d", "t"}, {"e", "d"}, {"t", "e"}}, map[string]string{"e/in": "of d/in", "d/in": "of e/in"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, path := range []string{"a", "b", "d/in", "e/in"} {
				r.put(path, "of "+path)
			}
			r.open()
			before := r.folder()
			for _, move := range c.moves {
				r.rename(move[0], move[1])
			}
			if name == "a file onto a file's" {
				r.guest("b", "made anew")
				c.want["b"] = "made anew"
			}
			saw := r.sees()
			batch, _, refused := r.apply(r.all())
			if now := r.sees(); now != saw {
				t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
			}
			if strings.HasPrefix(name, "two") { // neither can go first, and both stay as they were
				r.same("after the refusal", before)
				if len(refused) != 2 || !strings.HasSuffix(refused[0], problem.NotAppliable) || !strings.HasSuffix(refused[1], problem.NotAppliable) {
					t.Errorf("refused: %v", refused)
				}
				return
			}
			r.none(refused)
			for path, want := range c.want {
				r.content(path, want)
			}
			r.expect()
			if now := r.sees(); now != saw {
				t.Errorf("in the end the guest sees\n%s\nnot\n%s", now, saw)
			}
			r.undo(batch)
			r.same("after the undo", before)
		})
	}
}
