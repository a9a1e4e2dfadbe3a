//go:build linux

package changes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/changes"
	"cloche/share/internal/problem"
)

// within runs do with room for so many descriptors more.
func (r *rig) within(more int, do func()) {
	r.t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	must(r.t, err)
	unix.Close(fd)
	var old unix.Rlimit
	must(r.t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(r.t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(fd + more), Max: old.Max}))
	defer func() { must(r.t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	do()
}

func TestAListWithoutDescriptorsTellsEverything_OrThatItCannot(t *testing.T) {
	r := newRig(t)
	r.put("changed", "host")
	r.put("deep/er/gone", "host")
	r.put("app.db", sqlite("old"))
	must(t, os.MkdirAll(r.host("store/objects"), 0o755))
	must(t, os.MkdirAll(r.host("store/refs"), 0o755))
	r.put("store/HEAD", "ref: refs/heads/main\n")
	must(t, os.Symlink("..", r.host("deep/up")))
	r.open()
	r.guest(".gitignore", "*.key\n")
	r.guest("my.key", "ignored")
	r.guest("changed", "work")
	r.guest("new", "work")
	r.remove("deep/er/gone", false)
	r.guest("app.db", sqlite("new"))
	r.guest("app.db-wal", wal("new"))
	r.guest("store/config", "[core]\n")
	r.link("deep/er/through", "../up/../canary")
	want := strings.Join(r.lines(), "\n")
	failed, whole := 0, 0
	for more := range 24 {
		var page *changes.Page
		var err error
		r.within(more, func() { page, err = r.set.List("", 100) })
		if err != nil {
			failed++
			continue
		}
		whole++
		var got []string
		for _, c := range page.Changes {
			got = append(got, lineOf(c))
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("with %d descriptors the list is\n%s\nnot\n%s", more, strings.Join(got, "\n"), want)
		}
	}
	if failed == 0 || whole == 0 {
		t.Errorf("%d lists failed and %d did not: nothing is tested", failed, whole)
	}
	what := r.all()
	for more := range 6 {
		r.within(more, func() { _, _ = r.set.Apply(what) })
		if err := unix.Access(r.host("deep/er/gone"), unix.F_OK); err == nil {
			r.change("deep/er/gone") // it waits as long as it is not applied
		}
	}
}

func TestAFileWhoseContentCannotBeReadWaits_WithTheReason(t *testing.T) {
	r := newRig(t)
	r.open()
	r.guest("lost", "work")
	r.guest("fine", "work")
	removed := false
	must(t, filepath.Walk(filepath.Join(r.base, "layer"), func(path string, info os.FileInfo, err error) error {
		if err == nil && !removed && info.Mode().IsRegular() && info.Size() == 4 {
			removed = true
			return os.Remove(path)
		}
		return err
	}))
	var broken string
	for _, c := range r.list() {
		if c.Size == 0 {
			broken = c.Path
		}
	}
	if len(r.list()) != 2 || broken == "" {
		t.Fatalf("the list is %v", r.lines())
	}
	_, done, refused := r.apply(r.all())
	if done != 1 || len(refused) != 1 || refused[0] != broken+" "+problem.NotAppliable {
		t.Errorf("%d applied, refused %v", done, refused)
	}
	_, done, refused = r.apply(r.chosen(broken))
	if done != 0 || len(refused) != 1 || refused[0] != broken+" "+problem.NotAppliable {
		t.Errorf("%d applied, refused %v", done, refused)
	}
	if _, err := r.set.Diff(r.change(broken).ID, "change", 3, 0, 100); err == nil {
		t.Error("it has a diff")
	}
	slice, err := r.set.Discard(r.chosen(broken))
	must(t, err)
	if len(slice.Done) != 1 {
		t.Errorf("it cannot be discarded: %v", slice.Refused)
	}
	r.expect()
}

func TestADirectoryOfTheHostsThatMayNotBeSearchedIsNotTakenForGone(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("IGNORED: root may search any directory")
	}
	r := newRig(t)
	r.put("d/f", "host")
	r.open()
	r.remove("d/f", false)
	must(t, os.Chmod(r.host("d"), 0))
	defer func() { _ = os.Chmod(r.host("d"), 0o755) }()
	_, done, refused := r.apply(r.all())
	if done != 0 || len(refused) != 1 {
		t.Errorf("%d applied, refused %v", done, refused)
	}
	must(t, os.Chmod(r.host("d"), 0o755))
	_, done, refused = r.apply(r.all())
	if r.none(refused); done != 1 {
		t.Errorf("%d applied", done)
	}
}
