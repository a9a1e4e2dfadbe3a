//go:build linux

package view_test

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// The table of README.md, cell by cell. What the task did comes first, then what the host did, then a look at the folder as the
// guest sees it, once at once and once from a fresh mount.

// show tells what the guest sees at a path: "-", a file's bytes, "-> text" of a link, or "{names}" of a directory.
func (r *rig) show(path string) string {
	r.t.Helper()
	n, err := r.at(path)
	if err == syscall.ENOENT {
		return "-"
	}
	must(r.t, err)
	defer n.Drop()
	if _, err := n.Attr(); err != nil {
		return "getattr: " + err.Error()
	}
	switch n.QID().Type {
	case wire.QTDir:
		names, err := list(n, 4096)
		must(r.t, err)
		var sorted []string
		for name := range names {
			sorted = append(sorted, name)
		}
		sort.Strings(sorted)
		return "{" + strings.Join(sorted, " ") + "}"
	case wire.QTSymlink:
		text, err := n.Readlink()
		must(r.t, err)
		return "-> " + text
	}
	text, err := readFile(n)
	if err != nil {
		return err.Error()
	}
	return text
}

// conflict tells by what a node was made from whether the folder still has that.
func (r *rig) conflict(n *layer.Node, place string) string {
	r.t.Helper()
	look := func(path string) *layer.Base {
		at := r.lower.Root()
		defer func() { at.Drop() }()
		for _, name := range layer.Components(path) {
			next, err := at.Walk(name)
			if err != nil {
				return nil
			}
			at.Drop()
			at = next
		}
		b, err := view.Identity(at.(view.Object), path)
		must(r.t, err)
		return b
	}
	if n.Base == nil {
		if look(place) != nil {
			return "exists"
		}
		return ""
	}
	now := look(n.Base.Path)
	switch {
	case now == nil:
		return "gone"
	case now.Kind != n.Base.Kind:
		return "type-changed"
	case !n.Base.Same(now):
		return "changed"
	case n.Elsewhere && n.Over == nil && look(place) != nil:
		return "exists"
	}
	return ""
}

const eio = "input/output error"

func TestTheTable(t *testing.T) {
	host := map[string]func(r *rig){
		"same":    func(*rig) {},
		"changed": func(r *rig) { r.hostWrite("p", "changed by the host") },
		"gone":    func(r *rig) { must(r.t, os.RemoveAll(r.host("p"))) },
		// The host put another file in the place.
		"new": func(r *rig) {
			_ = os.RemoveAll(r.host("p"))
			r.hostWrite("other", "new of the host")
			must(r.t, os.Rename(r.host("other"), r.host("p")))
		},
		"type changed": func(r *rig) {
			_ = os.RemoveAll(r.host("p"))
			must(r.t, os.Mkdir(r.host("p"), 0o755))
			r.hostWrite("p/x", "x")
		},
	}
	type cell struct{ p, q, conflict string }
	rows := []struct {
		state string
		base  bool // the folder has p at first
		task  func(r *rig)
		cells map[string]cell
	}{
		{"none", true, func(*rig) {}, map[string]cell{
			"same": {p: "base"}, "changed": {p: "changed by the host"}, "gone": {p: "-"}, "new": {p: "new of the host"}, "type changed": {p: "{x}"},
		}},
		{"none where nothing was", false, func(*rig) {}, map[string]cell{
			"same": {p: "-"}, "new": {p: "new of the host"}, "type changed": {p: "{x}"},
		}},
		{"modified", true, func(r *rig) { r.create("p", "task") }, map[string]cell{
			"same": {p: "task"}, "changed": {p: "task", conflict: "changed"}, "gone": {p: "task", conflict: "gone"},
			"new": {p: "task", conflict: "changed"}, "type changed": {p: "task", conflict: "type-changed"},
		}},
		{"deleted", true, func(r *rig) { must(r.t, r.unlink("p")) }, map[string]cell{
			"same": {p: "-"}, "changed": {p: "-", conflict: "changed"}, "gone": {p: "-", conflict: "gone"},
			"new": {p: "-", conflict: "changed"}, "type changed": {p: "-", conflict: "type-changed"},
		}},
		{"new", false, func(r *rig) { r.create("p", "task") }, map[string]cell{
			"same": {p: "task"}, "changed": {p: "task", conflict: "exists"}, "gone": {p: "task"},
			"new": {p: "task", conflict: "exists"}, "type changed": {p: "task", conflict: "exists"},
		}},
		{"moved", true, func(r *rig) { must(r.t, r.rename("p", "q")) }, map[string]cell{
			"same": {p: "-", q: "base"}, "changed": {p: "-", q: "changed by the host", conflict: "changed"}, "gone": {p: "-", q: eio, conflict: "gone"},
			"new": {p: "-", q: "new of the host", conflict: "changed"}, "type changed": {p: "-", q: eio, conflict: "type-changed"},
		}},
		{"moved and modified", true, func(r *rig) { must(r.t, r.rename("p", "q")); r.create("q", "task") }, map[string]cell{
			"same": {p: "-", q: "task"}, "changed": {p: "-", q: "task", conflict: "changed"}, "gone": {p: "-", q: "task", conflict: "gone"},
			"new": {p: "-", q: "task", conflict: "changed"}, "type changed": {p: "-", q: "task", conflict: "type-changed"},
		}},
		{"type changed to a link", true, func(r *rig) {
			must(r.t, r.unlink("p"))
			root := r.tree.Root()
			defer root.Drop()
			_, err := root.Symlink("p", "task")
			must(r.t, err)
		}, map[string]cell{
			"same": {p: "-> task"}, "changed": {p: "-> task", conflict: "changed"}, "gone": {p: "-> task", conflict: "gone"},
			"new": {p: "-> task", conflict: "changed"}, "type changed": {p: "-> task", conflict: "type-changed"},
		}},
		{"type changed to a directory", true, func(r *rig) { must(r.t, r.unlink("p")); r.mkdir("p"); r.create("p/t", "t") }, map[string]cell{
			"same": {p: "{t}"}, "changed": {p: "{t}", conflict: "changed"}, "gone": {p: "{t}", conflict: "gone"},
			"new": {p: "{t}", conflict: "changed"}, "type changed": {p: "{t}", conflict: "type-changed"},
		}},
	}
	walked := 0
	for _, row := range rows {
		for lower, want := range row.cells {
			t.Run(fmt.Sprintf("%s × %s", lower, row.state), func(t *testing.T) {
				r := newRig(t)
				if row.base {
					r.hostWrite("p", "base")
				}
				r.mount()
				row.task(r)
				host[lower](r)
				for _, look := range []string{"at once", "from a fresh mount"} {
					if got := r.show("p"); got != want.p {
						t.Errorf("%s: p is %q, want %q", look, got, want.p)
					}
					if got := r.show("q"); want.q != "" && got != want.q {
						t.Errorf("%s: q is %q, want %q", look, got, want.q)
					}
					// Listed and walked are one.
					root := r.tree.Root()
					names, err := list(root, 4096)
					root.Drop()
					must(t, err)
					if _, there := names["p"]; there != (want.p != "-") {
						t.Errorf("%s: p listed: %v", look, there)
					}
					if r.l.Child(layer.RootID, "p") == nil && r.l.Child(layer.RootID, "q") == nil {
						if row.state[:4] != "none" {
							t.Errorf("%s: no change", look)
						}
					} else {
						place := "p"
						if want.q != "" {
							place = "q"
						}
						if got := r.conflict(r.node(place), place); got != want.conflict {
							t.Errorf("%s: conflict %q, want %q", look, got, want.conflict)
						}
					}
					r.remount()
				}
				// Whatever it is, the guest can take it away.
				for _, path := range []string{"p", "q"} {
					switch got := r.show(path); {
					case strings.HasPrefix(got, "{"):
						must(t, r.removeAll(path))
					case got != "-":
						must(t, r.unlink(path))
					}
					if got := r.show(path); got != "-" {
						t.Errorf("after its removal %s is %q", path, got)
					}
				}
			})
			walked++
		}
	}
	if walked < 40 {
		t.Errorf("%d cells were walked", walked)
	}
}

func TestADirectoryThatWasMovedToTheOldPlaceOfAnotherThingCanBeTakenAway(t *testing.T) {
	for was, make := range map[string]func(r *rig){
		"a file":             func(r *rig) { r.hostWrite("p", "the folder's") },
		"an empty directory": func(r *rig) { must(r.t, os.Mkdir(r.host("p"), 0o755)) },
	} {
		t.Run(was, func(t *testing.T) {
			r := newRig(t)
			make(r)
			must(t, os.Mkdir(r.host("d"), 0o755))
			r.hostWrite("d/x", "below")
			before := hashFolder(t, r.root)
			r.mount()
			must(t, r.unlink("d/x"))
			must(t, r.removeAll("p"))
			must(t, r.rename("d", "p"))
			must(t, r.removeAll("p"))
			for _, remounted := range []bool{false, true} {
				if remounted {
					r.remount()
				}
				for _, path := range []string{"d", "p"} {
					if got := r.show(path); got != "-" {
						t.Errorf("remounted %v: %s is %q", remounted, path, got)
					}
				}
			}
			if hashFolder(t, r.root) != before {
				t.Error("the folder was changed")
			}
		})
	}
}

// A node of the folder's cannot keep what was deleted in another directory of the folder's: such a move is refused, so that mv copies.
func TestADirectoryOfTheFoldersIsNotMovedOntoTheNameOfOneWhoseFilesWereDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		before func(r *rig)
		moved  string
		want   error
	}{
		"removed":                   {func(r *rig) { must(r.t, r.removeAll("p")) }, "d", syscall.EXDEV},
		"removed and made anew":     {func(r *rig) { must(r.t, r.removeAll("p")); r.mkdir("p") }, "d", syscall.EXDEV},
		"by one that was moved":     {func(r *rig) { must(r.t, r.removeAll("p")); must(r.t, r.rename("d", "q")) }, "q", syscall.EXDEV},
		"deeper":                    {func(r *rig) { must(r.t, r.removeAll("p/below")) }, "d", syscall.ENOTEMPTY},
		"by one of the task's":      {func(r *rig) { must(r.t, r.removeAll("p")); r.mkdir("mine") }, "mine", nil},
		"by a file of the folder's": {func(r *rig) { must(r.t, r.removeAll("p")) }, "f", nil},
		"moved away":                {func(r *rig) { must(r.t, r.rename("p", "q")) }, "d", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, dir := range []string{"d", "p", "p/below"} {
				must(t, os.Mkdir(r.host(dir), 0o755))
				r.hostWrite(dir+"/x", "of the host")
			}
			r.hostWrite("f", "of the host")
			r.mount()
			c.before(r)
			before := r.picture()
			if got := r.rename(c.moved, "p"); got != c.want {
				t.Fatalf("%s to p: %v, want %v", c.moved, got, c.want)
			}
			if c.want == nil {
				if got := r.show(c.moved); got != "-" {
					t.Errorf("%s is %q", c.moved, got)
				}
				return
			}
			r.remount()
			if after := r.picture(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("what was refused left something:\n%v\n%v", before, after)
			}
		})
	}
}

// removeAll is rm -r.
func (r *rig) removeAll(path string) error {
	dir, err := r.at(strings.TrimSuffix(path[:strings.LastIndex("/"+path, "/")], "/"))
	if err != nil {
		return err
	}
	defer dir.Drop()
	name := path[strings.LastIndex(path, "/")+1:]
	return removeBelow(dir, name)
}

func removeBelow(dir ninep.Node, name string) error {
	n, err := dir.Walk(name)
	if err != nil {
		return err
	}
	defer n.Drop()
	if n.QID().Type != wire.QTDir {
		return dir.Unlink(name, false)
	}
	names, err := list(n, 4096)
	if err != nil {
		return err
	}
	for below := range names {
		if err := removeBelow(n, below); err != nil {
			return err
		}
	}
	return dir.Unlink(name, true)
}

func TestTheTableOfDirectories(t *testing.T) {
	host := map[string]func(r *rig){
		"same":    func(*rig) {},
		"changed": func(r *rig) { r.hostWrite("d/h", "h") },
		"gone":    func(r *rig) { must(r.t, os.RemoveAll(r.host("d"))) },
		"new": func(r *rig) {
			must(r.t, os.RemoveAll(r.host("d")))
			must(r.t, os.Mkdir(r.host("d"), 0o755))
			r.hostWrite("d/h", "h")
		},
		"type changed": func(r *rig) { must(r.t, os.RemoveAll(r.host("d"))); r.hostWrite("d", "a file") },
	}
	rows := []struct {
		state string
		task  func(r *rig)
		d, e  map[string]string
	}{
		{"none", func(*rig) {}, map[string]string{"same": "{a b}", "changed": "{a b h}", "gone": "-", "new": "{h}", "type changed": "a file"}, nil},
		{"something in it modified", func(r *rig) { r.create("d/a", "task") },
			map[string]string{"same": "{a b}", "changed": "{a b h}", "gone": "{a}", "new": "{a h}", "type changed": "{a}"}, nil},
		{"something in it deleted", func(r *rig) { must(r.t, r.unlink("d/a")) },
			map[string]string{"same": "{b}", "changed": "{b h}", "gone": "-", "new": "{h}", "type changed": "a file"}, nil},
		{"deleted", func(r *rig) { must(r.t, r.removeAll("d")) },
			map[string]string{"same": "-", "changed": "-", "gone": "-", "new": "-", "type changed": "-"}, nil},
		{"deleted and made anew", func(r *rig) { must(r.t, r.removeAll("d")); r.mkdir("d"); r.create("d/t", "t") },
			map[string]string{"same": "{t}", "changed": "{t}", "gone": "{t}", "new": "{t}", "type changed": "{t}"}, nil},
		{"moved", func(r *rig) { must(r.t, r.rename("d", "e")) },
			map[string]string{"same": "-", "changed": "-", "gone": "-", "new": "-", "type changed": "-"},
			map[string]string{"same": "{a b}", "changed": "{a b h}", "gone": "{}", "new": "{h}", "type changed": "{}"}},
		{"moved, with something of the task's", func(r *rig) { must(r.t, r.rename("d", "e")); r.create("e/t", "t"); must(r.t, r.unlink("e/a")) },
			map[string]string{"same": "-", "changed": "-", "gone": "-", "new": "-", "type changed": "-"},
			map[string]string{"same": "{b t}", "changed": "{b h t}", "gone": "{t}", "new": "{h t}", "type changed": "{t}"}},
	}
	for _, row := range rows {
		for lower, do := range host {
			t.Run(fmt.Sprintf("%s × %s", lower, row.state), func(t *testing.T) {
				r := newRig(t)
				must(t, os.Mkdir(r.host("d"), 0o755))
				r.hostWrite("d/a", "a")
				r.hostWrite("d/b", "b")
				r.mount()
				row.task(r)
				do(r)
				for _, look := range []string{"at once", "from a fresh mount"} {
					if got := r.show("d"); got != row.d[lower] {
						t.Errorf("%s: d is %q, want %q", look, got, row.d[lower])
					}
					if got := r.show("e"); row.e != nil && got != row.e[lower] {
						t.Errorf("%s: e is %q, want %q", look, got, row.e[lower])
					}
					r.picture() // every name that is listed can be walked and read
					r.remount()
				}
				for _, path := range []string{"d", "e"} {
					for range 2 { // behind a directory of the task's the host may have put a file
						if r.show(path) != "-" {
							must(t, r.removeAll(path))
						}
					}
					if got := r.show(path); got != "-" {
						t.Errorf("after its removal %s is %q", path, got)
					}
					r.mkdir(path)
					if got := r.show(path); got != "{}" {
						t.Errorf("made anew, %s is %q", path, got)
					}
				}
			})
		}
	}
}
