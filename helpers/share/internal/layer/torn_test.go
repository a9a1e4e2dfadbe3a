//go:build linux

package layer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// A guest fills attributes with what a log looks like, and the machine stops while such a record is written.
func TestATornTailIsCutOffWhateverTheGuestWroteIntoIt(t *testing.T) {
	inner := record{seq: 7, timeMs: 1, ops: []op{{remove: 99}}}
	guess := newForm()
	for name, evil := range map[string]func() []byte{
		"nothing of the kind":             func() []byte { return nil },
		"a record of the first version":   func() []byte { b, _ := inner.encode(form{}); return b },
		"a record with a mark of its own": func() []byte { b, _ := inner.encode(guess); return b },
		"a whole log of another layer": func() []byte {
			b, _ := inner.encode(guess)
			return append([]byte(guess.header()), bytes.Repeat(b, 100)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir)
			must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "work", Kind: File, Made: true, QID: 1<<62 | 1})))
			must(t, l.Sync())
			before, end := picture(l), l.logBytes
			value := bytes.Repeat([]byte("x"), 40_000)
			copy(value, evil())
			copy(value[20_000:], evil())
			must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "evil", Kind: File, Made: true, QID: 1<<62 | 2, Xattrs: map[string][]byte{"user.a": value}})))
			l.Close()
			path := filepath.Join(dir, logFile)
			data, err := os.ReadFile(path)
			must(t, err)
			for cut := end; cut < int64(len(data)); cut += 1 + (int64(len(data))-end)/97 {
				must(t, os.WriteFile(path, data[:cut], 0o600))
				again, err := tryOpen(dir)
				if err != nil {
					t.Fatalf("cut at %d of %d: the work before it cannot be opened: %v", cut, len(data), err)
				}
				if !reflect.DeepEqual(picture(again), before) {
					t.Fatalf("cut at %d: %v, want %v", cut, picture(again), before)
				}
				again.Close()
			}
			// Control: a record of ours behind the damage is one.
			damaged := bytes.Clone(data)
			damaged[end-1] ^= 1
			must(t, os.WriteFile(path, damaged, 0o600))
			var corrupt *CorruptError
			if _, err := tryOpen(dir); !errors.As(err, &corrupt) {
				t.Errorf("damage: %v", err)
			}
		})
	}
}

// Every place of such an attribute looks like the beginning of a large record.
func TestAnAttributeThatLooksLikeRecordsEverywhereCostsNoTimeAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	value := bytes.Repeat([]byte{0, 0, 8, 0}, 240_000) // lengths of half a MiB
	must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "evil", Kind: File, Made: true, QID: 1<<62 | 2, Xattrs: map[string][]byte{"user.a": value}})))
	l.Close()
	path := filepath.Join(dir, logFile)
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, data[:len(data)-10], 0o600))
	begin := time.Now()
	again := open(t, dir)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if again.Child(RootID, "evil") != nil {
		t.Error("control: the change was not cut")
	}
}

// asVersion1 writes what a layer holds in the form of the first version.
func asVersion1(t *testing.T, l *Layer, dir string) {
	t.Helper()
	log := []byte(oldHeader)
	data, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	_, _, err = readRecords(logFile, data, func(r *record) error {
		b, err := r.encode(form{})
		log = append(log, b...)
		return err
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, logFile), log, 0o600))
}

func TestALayerOfTheFirstVersionIsReadOnAndWrittenAnew(t *testing.T) {
	for _, torn := range []int{0, 5} {
		dir := t.TempDir()
		l := open(t, dir)
		must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "work", Kind: File, Made: true, QID: 1<<62 | 1})))
		want := picture(l)
		if torn > 0 {
			must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "torn", Kind: File, Made: true, QID: 1<<62 | 2})))
		}
		l.Close()
		asVersion1(t, l, dir)
		path := filepath.Join(dir, logFile)
		data, err := os.ReadFile(path)
		must(t, err)
		data = data[:len(data)-torn]
		// The process ends at any step of the writing anew: the snapshot is there, the log is the old one, empty, or has begun.
		for _, log := range [][]byte{data, data, {}, []byte(newForm().header()[:9])} {
			must(t, os.WriteFile(path, log, 0o600))
			l = open(t, dir)
			if got := picture(l); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %v, want %v", log, got, want)
			}
			l.Close()
			if now, _ := os.ReadFile(path); len(now) != headerBytes || !bytes.HasPrefix(now, []byte(headerBegins)) {
				t.Fatalf("the log is %q", now)
			}
		}
		l = open(t, dir)
		must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "more", Kind: File, Made: true, QID: 1<<62 | 3})))
		l.Close()
		l = open(t, dir)
		if l.Child(RootID, "more") == nil || l.Child(RootID, "work") == nil {
			t.Error("it does not go on")
		}
		l.Close()
	}
}
