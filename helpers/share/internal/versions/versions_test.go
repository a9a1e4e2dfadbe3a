//go:build linux

package versions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func directoryFD(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

type fixture struct {
	t          testing.TB
	root, base string
	options    Options
}

// renames is a broker without confinement.
type renames struct{ root, store, writer string }

func (r renames) Move(path []string, _, _ uint64, directory int64, as string) error {
	to := filepath.Join(r.store, "versions", r.writer, directoryName(directory), as)
	return unix.Renameat2(unix.AT_FDCWD, filepath.Join(append([]string{r.root}, path...)...), unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

func newFixture(t testing.TB, base string) *fixture {
	f := &fixture{t: t, base: base, root: filepath.Join(base, "root")}
	must(t, os.MkdirAll(filepath.Join(base, "store"), 0o700))
	must(t, os.MkdirAll(f.root, 0o755))
	f.options = Options{Store: directoryFD(t, filepath.Join(base, "store")), Proc: directoryFD(t, "/proc/self/fd"), Writer: "w", KeepDays: 30, LimitBytes: 1 << 40}
	f.options.Broker = renames{f.root, filepath.Join(base, "store"), "w"}
	return f
}

func (f *fixture) openStore() *Store {
	f.t.Helper()
	s, err := Open(f.options)
	must(f.t, err)
	return s
}

func (f *fixture) put(name, content string) {
	f.t.Helper()
	must(f.t, os.MkdirAll(filepath.Dir(filepath.Join(f.root, name)), 0o755))
	must(f.t, os.WriteFile(filepath.Join(f.root, name), []byte(content), 0o644))
}

func (f *fixture) victim(name string, reason Reason) Victim {
	f.t.Helper()
	fd, err := unix.Open(filepath.Join(f.root, name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	must(f.t, err)
	f.t.Cleanup(func() { unix.Close(fd) })
	return Victim{Path: strings.Split(name, "/"), FD: fd, Reason: reason}
}

func (s *Store) texts(t testing.TB, path string) (texts []string) {
	t.Helper()
	all, err := s.History(path, false)
	must(t, err)
	for _, v := range all {
		c, err := s.Content(v)
		must(t, err)
		text, err := io.ReadAll(c)
		must(t, err)
		c.Close()
		texts = append(texts, string(text))
	}
	return texts
}

func (f *fixture) log(writer string) string {
	return filepath.Join(f.base, "store", "versions", writer+".log")
}

func expect(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestATornTailIsCutAndTheRestIsThere(t *testing.T) {
	whole := func() *fixture {
		f := newFixture(t, t.TempDir())
		s := f.openStore()
		for i := range 3 {
			f.put("a", fmt.Sprint("content ", i))
			must(t, s.Keep(f.victim("a", Overwritten)))
		}
		s.Close()
		return f
	}
	f := whole()
	text, err := os.ReadFile(f.log("w"))
	must(t, err)
	last := strings.LastIndex(strings.TrimRight(string(text), "\n"), "\n") + 1
	for cut := last + 1; cut < len(text); cut += 7 {
		f := whole()
		must(t, os.Truncate(f.log("w"), int64(cut)))
		s := f.openStore()
		expect(t, fmt.Sprint("cut at ", cut), s.texts(t, "a"), "content 1", "content 0")
		f.put("a", "later")
		must(t, s.Keep(f.victim("a", Overwritten)))
		s.Close()
		s = f.openStore()
		expect(t, "after the cut", s.texts(t, "a"), "later", "content 1", "content 0")
		s.Close()
	}
}

func TestDamageInTheMiddleIsNamedAndTheLogIsKept(t *testing.T) {
	f := newFixture(t, t.TempDir())
	s := f.openStore()
	for i := range 3 {
		f.put("a", fmt.Sprint("content ", i))
		must(t, s.Keep(f.victim("a", Overwritten)))
	}
	s.Close()
	text, err := os.ReadFile(f.log("w"))
	must(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	at := len(lines[0]) + len(lines[1]) + 30
	text[at] ^= 1
	must(t, os.WriteFile(f.log("w"), text, 0o600))
	_, err = Open(f.options)
	var damage *Damage
	if !errors.As(err, &damage) || damage.Log != "w" || damage.Offset != int64(len(lines[0])+len(lines[1])) {
		t.Fatalf("opened: %v", err)
	}
	after, err := os.ReadFile(f.log("w"))
	if err != nil || string(after) != string(text) {
		t.Error("the damaged log was changed")
	}
	// Another writer works on, sees what can be read, and is told.
	f.options.Writer = "other"
	s = f.openStore()
	defer s.Close()
	all, err := s.History("a", false)
	if len(all) != 2 || !errors.As(err, &damage) {
		t.Errorf("%d versions, %v", len(all), err)
	}
}

func TestALogOfALaterVersionIsRefused(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.openStore().Close()
	line, err := encode(&record{Format: &header{Version: format + 1, Writer: "w"}})
	must(t, err)
	must(t, os.WriteFile(f.log("w"), line, 0o600))
	_, err = Open(f.options)
	var newer *NewerFormat
	if !errors.As(err, &newer) {
		t.Errorf("opened: %v", err)
	}
}

func TestTwoProcessesAreNeverTheSameWriter(t *testing.T) {
	f := newFixture(t, t.TempDir())
	s := f.openStore()
	inUse = 50 * time.Millisecond
	t.Cleanup(func() { inUse = inUseWait })
	if _, err := Open(f.options); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("opened twice: %v", err)
	}
	inUse = inUseWait
	ended := time.AfterFunc(50*time.Millisecond, s.Close) // one that is just ending is waited for
	defer ended.Stop()
	f.openStore().Close()
}

func TestVersionsOlderThanTheUserKeepsAreForgotten(t *testing.T) {
	f := newFixture(t, t.TempDir())
	for _, writer := range []string{"w", "gone"} {
		f.options.Writer = writer
		f.options.Broker = renames{f.root, filepath.Join(f.base, "store"), writer}
		s := f.openStore()
		for _, name := range []string{"copied", "dir/moved"} {
			for _, age := range []string{"old", "new"} {
				f.put(name, age+writer)
				v := f.victim(name, Deleted)
				if name == "copied" {
					must(t, s.Keep(v))
				} else if moved, err := s.Move(v); err != nil || !moved {
					t.Fatal(moved, err)
				}
			}
		}
		s.Close()
		// The old ones are made old.
		log, err := openLog(directoryFD(t, filepath.Dir(f.log(writer))), writer, unix.O_RDWR)
		must(t, err)
		var text []byte
		seen := map[string]bool{}
		_, err = read(log, writer, func(r *record) error {
			if r.Kept != nil && !seen[string(r.Kept.Path)] {
				seen[string(r.Kept.Path)] = true
				r.Kept.TimeMs -= 31 * 24 * 3600 * 1000
			}
			line, err := encode(r)
			text = append(text, line...)
			return err
		})
		must(t, err)
		log.Close()
		first, _ := encode(&record{Format: &header{Version: format, Writer: writer}})
		must(t, os.WriteFile(f.log(writer), append(first, text...), 0o600))
	}
	f.options.Writer = "w"
	s := f.openStore()
	defer s.Close()
	expect(t, "copied", s.texts(t, "copied"), "newgone", "neww")
	expect(t, "moved", s.texts(t, "dir/moved"), "newgone", "neww")
	files := 0
	must(t, filepath.Walk(filepath.Join(f.base, "store", "versions"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && !strings.HasSuffix(path, ".log") && filepath.Base(path) != "counters" {
			files++
		}
		return err
	}))
	if files != 4 {
		t.Errorf("%d content files are left, want 4", files)
	}
	if used, err := s.Used(); err != nil || used != 4*cost(0) {
		t.Errorf("%d bytes in use, %v", used, err)
	}
}

func TestNearTheLimitAWriteWaitsForTheUser(t *testing.T) {
	for what, c := range map[string]struct {
		answer func(*Store)
		want   error
		keeps  bool
		why    string
	}{
		"allowed":   {func(s *Store) { s.Answer(1e6) }, nil, true, ""},
		"too small": {func(s *Store) { s.Answer(12_000) }, unix.ENOSPC, false, UserRefused},
		"refused":   {func(s *Store) { s.Answer(0) }, unix.ENOSPC, false, UserRefused},
		"no answer": {func(*Store) {}, unix.ENOSPC, false, Unanswered},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, t.TempDir())
			var s *Store
			asked, why := 0, ""
			f.options.Refused = func(_ Room, reason string) { why = reason }
			f.options.LimitBytes, f.options.Patience = 10_000, 100*time.Millisecond
			f.options.Ask = func(r Room) {
				asked++
				if r != (Room{NeededBytes: 8000, LimitBytes: 10_000, UsedBytes: 8000, Path: "a"}) {
					t.Errorf("asked about %+v", r)
				}
				c.answer(s)
			}
			s = f.openStore()
			defer s.Close()
			f.put("a", strings.Repeat("1", 8000))
			must(t, s.Keep(f.victim("a", Overwritten))) // control: it fits
			f.put("a", strings.Repeat("2", 8000))
			if err := s.Keep(f.victim("a", Overwritten)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, err := s.Move(f.victim("a", Deleted)); !c.keeps && !errors.Is(err, unix.ENOSPC) {
				t.Errorf("moved without room: %v", err)
			}
			if _, err := os.Stat(filepath.Join(f.root, "a")); !c.keeps && err != nil {
				t.Error(err)
			}
			if why != c.why {
				t.Errorf("the reason that is told: %q", why)
			}
			if asked != 1 {
				t.Errorf("the user was asked %d times", asked)
			}
			if used, _ := s.Used(); !c.keeps && used != 8000 {
				t.Errorf("%d bytes in use", used)
			}
			if c.want != nil { // a later yes holds
				s.Answer(1e6)
				must(t, s.Keep(f.victim("a", Overwritten)))
			}
		})
	}
}

// A power cut may lose the records of moves, which are not synced; the moved files tell where they belong.
func TestMovedFilesAreFoundWithoutTheirRecords(t *testing.T) {
	f := newFixture(t, t.TempDir())
	s := f.openStore()
	for _, name := range []string{"top", "dir/one", "dir/two", "dir/deep/three"} {
		f.put(name, "content of "+name)
		if moved, err := s.Move(f.victim(name, Deleted)); err != nil || !moved {
			t.Fatal(moved, err)
		}
	}
	s.Close()
	text, err := os.ReadFile(f.log("w"))
	must(t, err)
	var synced []string
	for _, line := range strings.SplitAfter(string(text), "\n") {
		if !strings.Contains(line, `"kept"`) {
			synced = append(synced, line)
		}
	}
	must(t, os.WriteFile(f.log("w"), []byte(strings.Join(synced, "")), 0o600))
	s = f.openStore()
	defer s.Close()
	for _, name := range []string{"top", "dir/one", "dir/two", "dir/deep/three"} {
		expect(t, name, s.texts(t, name), "content of "+name)
	}
}

// L06: a full disk. Nothing is destroyed, and what was kept stays.
func TestOnAFullDiskNothingIsLost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("IGNORED: a small filesystem needs root")
	}
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=1500k"); err != nil {
		t.Skipf("IGNORED: a small filesystem cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
	f := newFixture(t, base)
	s := f.openStore()
	text := strings.Repeat("x", 100_000)
	kept, refused := 0, 0
	for i := range 10 {
		must(t, os.WriteFile(filepath.Join(f.root, fmt.Sprintf("f%02d", i)), []byte(text), 0o644))
	}
	for i := range 10 {
		switch err := s.Keep(f.victim(fmt.Sprintf("f%02d", i), Overwritten)); {
		case err == nil:
			kept++
		case errors.Is(err, unix.ENOSPC):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if kept == 0 || refused == 0 {
		t.Fatalf("%d kept, %d refused", kept, refused)
	}
	// A move needs no room for content; a record that has none is made later.
	if moved, err := s.Move(f.victim("f00", Deleted)); err != nil || !moved {
		t.Logf("no room for a move either: %v, %v", moved, err)
	}
	s.Close()
	must(t, unix.Mount("", base, "", unix.MS_REMOUNT, "size=20m"))
	s = f.openStore()
	defer s.Close()
	found := 0
	all, err := s.History("", true)
	must(t, err)
	for _, v := range all {
		c, err := s.Content(v)
		must(t, err)
		got, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(got) != text {
			t.Errorf("version %d of %s: %d bytes, %v", v.Number, v.Path, len(got), err)
		}
		found++
	}
	_, err = os.Stat(filepath.Join(f.root, "f00"))
	if gone := os.IsNotExist(err); found != kept+map[bool]int{true: 1}[gone] {
		t.Errorf("%d versions found, %d kept", found, kept)
	}
}

// What a power cut must find is synced before the destructive step, in this order.
func TestAllIsSyncedBeforeAnythingIsDestroyed(t *testing.T) {
	f := newFixture(t, t.TempDir())
	var steps []string
	f.options.Step = func(step string) error { steps = append(steps, step); return nil }
	s := f.openStore()
	defer s.Close()
	steps = nil
	f.put("dir/a", "content")
	must(t, s.Keep(f.victim("dir/a", Overwritten)))
	expect(t, "a copy", steps, "create content", "copy content", "sync content", "append", "sync content's names", "sync log")
	steps = nil
	if moved, err := s.Move(f.victim("dir/a", Deleted)); err != nil || !moved {
		t.Fatal(moved, err)
	}
	expect(t, "a move", steps, "append", "make directory", "sync content's names", "sync log", "move", "append")
	steps = nil
	f.put("dir/b", "content")
	if moved, err := s.Move(f.victim("dir/b", Deleted)); err != nil || !moved {
		t.Fatal(moved, err)
	}
	expect(t, "a move from the same directory", steps, "move", "append")
}

// A guest that makes and removes without end must not fill the log.
func TestSmallVersionsAndDirectoriesAreBoundedToo(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.options.LimitBytes = 20 * cost(0)
	s := f.openStore()
	defer s.Close()
	must(t, os.Mkdir(filepath.Join(f.root, "d"), 0o755))
	f.put("empty", "")
	notes, kept := 0, 0
	for range 100 {
		if s.Note(f.victim("d", Deleted)) == nil && notes < 10 {
			notes++
		}
		if notes == 10 && s.Keep(f.victim("empty", Overwritten)) == nil {
			kept++
		}
	}
	all, err := s.History("", true)
	must(t, err)
	if len(all) != 20 || kept == 0 {
		t.Errorf("%d versions, %d of them files", len(all), kept)
	}
}

// folderFiles finds files as they are now, without the folder's handles.
type folderFiles struct{ root string }

func (f folderFiles) Current(path string) (*os.File, error) {
	return os.Open(filepath.Join(f.root, path))
}
func (f folderFiles) Find(uint64) (*os.File, error) { return nil, os.ErrNotExist }

// A server that is killed after it began a part and before the first write leaves a part that says nothing, with the mark of the one
// before. What that one rests on is the version that was begun next.
func TestAPartThatWasBegunAndNeverWrittenHidesNoEarlierVersion(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.options.PartsAbove = 4
	f.put("large", "0123456789")
	path := filepath.Join(f.root, "large")
	s := f.openStore()
	begin := func() *Part {
		p, err := s.KeepPart(f.victim("large", Overwritten))
		must(t, err)
		if p == nil {
			t.Skip("IGNORED: the test's filesystem shares blocks, where no part is made")
		}
		return p
	}
	write := func(p *Part, at int64, text string) {
		must(t, p.Save(at, at+int64(len(text))))
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = file.WriteAt([]byte(text), at)
		must(t, err)
		must(t, file.Close())
		when := time.Unix(1_700_000_000, 0).UnixNano()&^MarkMask | p.Mark()
		must(t, os.Chtimes(path, time.Unix(0, when), time.Unix(0, when)))
	}
	write(begin(), 0, "A")
	s.Close()
	s = f.openStore()
	begin()
	s.Close() // killed before anything was saved
	s = f.openStore()
	defer s.Close()
	last := begin()
	write(last, 0, "BBBBBBBBBB")
	must(t, last.Complete())

	all, err := s.History("large", false)
	must(t, err)
	texts := map[int64]string{}
	for _, v := range all {
		file, err := s.Assemble(v, folderFiles{f.root})
		if errors.Is(err, ErrNotExact) {
			continue // the one that says nothing
		}
		must(t, err)
		text, err := io.ReadAll(file)
		must(t, err)
		must(t, file.Close())
		texts[v.Number] = string(text)
	}
	if len(all) != 3 || texts[all[2].Number] != "0123456789" || texts[all[0].Number] != "A123456789" {
		t.Errorf("%d versions: %q", len(all), texts)
	}
}
