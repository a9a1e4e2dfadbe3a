//go:build linux

package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// as opens the store for a writer.
func (f *fixture) as(writer string) *Store {
	f.t.Helper()
	o := f.options
	o.Writer, o.Broker = writer, renames{f.root, filepath.Join(f.base, "store"), writer}
	s, err := Open(o)
	must(f.t, err)
	return s
}

// keepAs has a writer keep one version of the file that is named like it.
func (f *fixture) keepAs(writer, content string) {
	f.t.Helper()
	s := f.as(writer)
	defer s.Close()
	f.put(writer, content)
	must(f.t, s.Keep(f.victim(writer, Overwritten)))
}

// makeOld makes what a writer kept so far 31 days old.
func (f *fixture) makeOld(writer string) {
	f.t.Helper()
	log, err := os.Open(f.log(writer))
	must(f.t, err)
	defer log.Close()
	text, err := encode(&record{Format: &header{Version: format, Writer: writer}})
	must(f.t, err)
	_, err = read(log, writer, func(r *record) error {
		if r.Kept != nil {
			r.Kept.TimeMs -= 31 * 24 * 3600 * 1000
		}
		line, err := encode(r)
		text = append(text, line...)
		return err
	})
	must(f.t, err)
	must(f.t, os.WriteFile(f.log(writer), text, 0o600))
}

// ended makes a writer that has ended with one version, young or old. It does so without Open, which would look
// through the others.
func (f *fixture) ended(writer string, old bool) {
	f.t.Helper()
	alone := newFixture(f.t, f.t.TempDir())
	alone.keepAs(writer, "content of "+writer)
	if old {
		alone.makeOld(writer)
	}
	to := filepath.Join(f.base, "store", "versions")
	must(f.t, os.MkdirAll(to, 0o700))
	must(f.t, os.CopyFS(filepath.Join(to, writer), os.DirFS(filepath.Join(filepath.Dir(alone.log(writer)), writer))))
	text, err := os.ReadFile(alone.log(writer))
	must(f.t, err)
	must(f.t, os.WriteFile(f.log(writer), text, 0o600))
}

// stored lists what lies in the store of some writers.
func (f *fixture) stored(pattern string) []string {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.base, "store", "versions", pattern))
	must(f.t, err)
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}

func TestEveryEndedTasksOldVersionsGo_HoweverManyTasksThereWere(t *testing.T) {
	for what, c := range map[string]struct{ old, young int }{
		"all are old":                {100, 0},
		"most have young ones first": {10, 80},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, t.TempDir())
			for i := range c.young {
				f.ended(fmt.Sprintf("a-%03d", i), false)
			}
			for i := range c.old {
				f.ended(fmt.Sprintf("b-%03d", i), true)
			}
			for range (c.old+c.young)/maxOthers + 1 {
				f.openStore().Close()
			}
			s := f.openStore()
			defer s.Close()
			all, err := s.History("", true)
			must(t, err)
			if len(all) != c.young {
				t.Errorf("%d versions are left, want the %d young ones", len(all), c.young)
			}
			if used, err := s.Used(); err != nil || used != int64(c.young)*cost(0) {
				t.Errorf("%d bytes count, %v", used, err)
			}
			expect(t, "what the store holds of ended tasks without versions", f.stored("b-*"))
			for i := range c.young { // control
				name := fmt.Sprintf("a-%03d", i)
				expect(t, name, s.texts(t, name), "content of "+name)
			}
		})
	}
}

func TestWhatARunningTaskKeptIsLeftToIt(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.ended("old", true)
	f.ended("young", false)
	f.as("empty").Close()
	s := f.as("running")
	defer s.Close()
	expect(t, "the ended task", s.texts(t, "old"))
	f.openStore().Close()
	expect(t, "ended tasks' logs, and the running one's", f.stored("*.log"), "running.log", "w.log", "young.log")
	f.put("a", "later")
	must(t, s.Keep(f.victim("a", Overwritten)))
	f.openStore().Close()
	expect(t, "what the running task kept", s.texts(t, "a"), "later")
	expect(t, "what is young", s.texts(t, "young"), "content of young")
}

// A link and a removed directory have no content, so that their task's directory is empty.
func TestYoungVersionsOfLinksAndDirectoriesStay(t *testing.T) {
	f := newFixture(t, t.TempDir())
	must(t, os.Symlink("target", filepath.Join(f.root, "link")))
	must(t, os.Mkdir(filepath.Join(f.root, "directory"), 0o755))
	s := f.as("links")
	must(t, s.Keep(f.victim("link", Deleted)))
	s.Close()
	s = f.as("directories")
	must(t, s.Note(f.victim("directory", Deleted)))
	s.Close()
	left := func() (found []string) {
		s := f.openStore()
		defer s.Close()
		all, err := s.History("", true)
		must(t, err)
		for _, v := range all {
			found = append(found, v.Path)
		}
		return found
	}
	expect(t, "young", left(), "directory", "link")
	f.makeOld("links")
	f.makeOld("directories")
	expect(t, "old", left())
	expect(t, "logs", f.stored("*.log"), "w.log")
}

// What Cloche did not put there is no reason to lose what it belongs to.
func TestATaskWithSomethingUnknownInItsDirectoryIsNotRemoved(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.ended("old", true)
	must(t, os.WriteFile(filepath.Join(f.base, "store", "versions", "old", "unknown"), []byte("?"), 0o600))
	f.openStore().Close()
	expect(t, "its directory", f.stored("old/*"), "unknown")
	expect(t, "its log", f.stored("old.log"), "old.log")
}

func TestATaskThatIsStartedAgainWhileItsOldVersionsGoLosesNothing(t *testing.T) {
	// At any moment of its own start, another task's start removes what there was of it.
	t.Run("before it has its lock", func(t *testing.T) {
		f := newFixture(t, t.TempDir())
		f.ended("again", true)
		locks := 0
		f.options.Step = func(step string) error {
			if step == "lock again" {
				if locks++; locks == 1 {
					f.options.Step = nil
					f.openStore().Close()
					expect(t, "control: it is removed", f.stored("again*"))
				}
			}
			return nil
		}
		s := f.as("again")
		defer s.Close()
		if locks != 2 {
			t.Errorf("locked %d times, want the removed directory and the new one", locks)
		}
		f.put("again", "later")
		must(t, s.Keep(f.victim("again", Overwritten)))
		f.openStore().Close()
		expect(t, "what it keeps", s.texts(t, "again"), "later")
	})
	// And another task's start that saw the old directory meets the one of the task that came back.
	t.Run("before the other one has its lock", func(t *testing.T) {
		f := newFixture(t, t.TempDir())
		f.ended("again", true)
		f.options.Step = func(step string) error {
			if step == "lock again" {
				f.options.Step = nil
				f.as("third").Close() // removes it
				expect(t, "control: it is removed", f.stored("again*"))
				f.keepAs("again", "later")
			}
			return nil
		}
		s := f.openStore()
		defer s.Close()
		expect(t, "what it keeps", s.texts(t, "again"), "later")
	})
	t.Run("again and again", func(t *testing.T) {
		f := newFixture(t, t.TempDir())
		const rounds = 30
		var others sync.WaitGroup
		defer others.Wait()
		done := make(chan struct{})
		defer close(done)
		for _, writer := range []string{"one", "two"} {
			o := f.options
			o.Writer, o.Broker = writer, nil
			others.Add(1)
			go func() {
				defer others.Done()
				for {
					select {
					case <-done:
						return
					default:
					}
					s, err := Open(o)
					if err != nil {
						t.Error(err)
						return
					}
					s.Close()
				}
			}()
		}
		for i := range rounds {
			f.as("again").Close() // has nothing, and may be removed
			f.keepAs("again", fmt.Sprint(i))
			s := f.as("last")
			expect(t, "what it keeps", s.texts(t, "again"), fmt.Sprint(i))
			s.Close()
			s = f.as("again") // its lock, to write the log
			f.makeOld("again")
			s.Close()
		}
	})
}

// The process is killed, at each step in turn, while it removes what is too old.
func TestACrashWhileOldVersionsGoLosesNothingYoungAndLeavesNothingOld(t *testing.T) {
	errCrash := errors.New("crash")
	seen := map[string]bool{}
	for n := 1; ; n++ {
		f := newFixture(t, t.TempDir())
		f.ended("old", true)
		f.ended("young", false)
		must(t, os.WriteFile(f.log("old")+".new", nil, 0o600)) // of a crash before
		steps := 0
		f.options.Step = func(step string) error {
			if steps++; steps == n {
				seen[step] = true
				return errCrash
			}
			return nil
		}
		s, err := Open(f.options)
		f.options.Step = nil
		if err == nil {
			s.Close()
			break
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		s = f.openStore()
		what := fmt.Sprintf("after the crash at step %d: ", n)
		expect(t, what+"old", s.texts(t, "old"))
		expect(t, what+"young", s.texts(t, "young"), "content of young")
		expect(t, what+"what is left of the ended task", f.stored("old*"))
		if used, err := s.Used(); err != nil || used != cost(0) {
			t.Errorf("%s%d bytes count, %v", what, used, err)
		}
		s.Close()
		f.keepAs("old", "later")
		s = f.openStore()
		expect(t, what+"the task that is started again", s.texts(t, "old"), "later")
		s.Close()
	}
	for _, step := range []string{"sync removed content", "remove old.log.new", "remove old.log", "sync removed log", "remove directory"} {
		if !seen[step] {
			t.Errorf("no crash at %q", step)
		}
	}
}

// The place where the next Open goes on is no more than that: whatever stands there, all have their turn.
func TestADamagedPlaceInTheOrderOfTasksKeepsNoOldVersion(t *testing.T) {
	for _, place := range []string{"", "\x00\xff", "zzz", strings.Repeat("q", 200)} {
		f := newFixture(t, t.TempDir())
		f.openStore().Close()
		for i := range maxOthers + 6 {
			f.ended(fmt.Sprintf("a-%03d", i), true)
		}
		counters, err := os.OpenFile(filepath.Join(f.base, "store", "versions", "counters"), os.O_WRONLY, 0)
		must(t, err)
		must(t, unix.Ftruncate(int(counters.Fd()), turnAt))
		_, err = counters.WriteAt([]byte(place), turnAt)
		must(t, err)
		must(t, counters.Close())
		f.openStore().Close()
		f.openStore().Close()
		expect(t, fmt.Sprintf("with %q", place), f.stored("a-*"))
	}
}
