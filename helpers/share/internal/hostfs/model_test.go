//go:build linux

package hostfs_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// The promise as a model: whoever wrote a content last, only he himself may destroy it without a trace. Two tasks and
// the host work on one folder in random order; at each step of each operation a task's server is killed and started
// anew; and after all that, each content that its author did not give up himself is in the folder or a version, with
// its mode and time.

// world is a folder with its authors.
type world struct {
	t       *testing.T
	root    string
	store   string
	writers []*writer
	random  *rand.Rand
	// partsAbove makes small files large.
	partsAbove int64
	parts      int // how often something was owed in parts
	made       int
	// owed are the contents that must be found, by their text, with who may give them up.
	owed map[string]owed
}

type owed struct {
	author  int // index of writers, or host
	mode    os.FileMode
	mtimeNs int64
}

const host = -1

// writer is one task's server, without the 9P in between.
type writer struct {
	w      *world
	name   string
	store  *versions.Store
	tree   *hostfs.Tree
	broker *countingBroker
	close  []int
	steps  int
	killAt int
	killed chan struct{}
}

// step is where a server may be killed: what runs it never goes on.
func (w *writer) step(string) error {
	w.steps++
	if w.steps == w.killAt {
		close(w.killed)
		select {}
	}
	return nil
}

// countingBroker renames as the broker does, with a step before and one after.
type countingBroker struct {
	w    *writer
	none bool
}

func (b *countingBroker) Move(path []string, _, _ uint64, directory int64, as string) error {
	if b.none {
		return unix.EXDEV
	}
	_ = b.w.step("before the move")
	from := filepath.Join(append([]string{b.w.w.root}, path...)...)
	to := filepath.Join(b.w.w.store, "versions", b.w.name, fmt.Sprint("d", directory), as)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	_ = b.w.step("after the move")
	return err
}

// keeping puts a step after each keeping, before the destructive step.
type keeping struct {
	*versions.Store
	w *writer
}

func (k keeping) Move(v versions.Victim) (bool, error) {
	moved, err := k.Store.Move(v)
	_ = k.w.step("moved")
	return moved, err
}

func (k keeping) Keep(v versions.Victim) error {
	err := k.Store.Keep(v)
	_ = k.w.step("kept")
	return err
}

func (w *writer) start() {
	t := w.w.t
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		w.close = append(w.close, fd)
		return fd
	}
	var err error
	w.store, err = versions.Open(versions.Options{
		Store: open(w.w.store), Proc: open("/proc/self/fd"), Writer: w.name, KeepDays: 30, LimitBytes: 1 << 40, Broker: w.broker, Step: w.step, PartsAbove: w.w.partsAbove,
	})
	must(t, err)
	w.tree, err = hostfs.New(hostfs.Options{Root: open(w.w.root), Proc: open("/proc/self/fd"), Versions: keeping{w.store, w}})
	must(t, err)
}

// end closes what the kernel closes when a process ends.
func (w *writer) end() {
	w.store.Close()
	for _, fd := range w.close {
		unix.Close(fd)
	}
	w.close = nil
}

// run does one operation; false: the server was killed in it and is started anew.
func (w *writer) run(operation func()) bool {
	done := make(chan struct{})
	go func() { operation(); close(done) }()
	select {
	case <-done:
		return true
	case <-w.killed:
		w.killAt, w.killed = 0, make(chan struct{})
		w.end()
		w.start()
		return false
	}
}

func (w *world) content() string {
	w.made++
	return fmt.Sprintf("%05d content", w.made)
}

// give says that an author gives up what he himself wrote last, wherever that is.
func (w *world) give(author int, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if o, is := w.owed[string(text)]; is && o.author == author {
		delete(w.owed, string(text))
	}
}

// owe notes what is at a path now.
func (w *world) owe(author int, path, want string) {
	text, err := os.ReadFile(path)
	if err != nil || string(text) != want {
		return // it did not come to that
	}
	st, err := os.Stat(path)
	must(w.t, err)
	w.owed[want] = owed{author, st.Mode(), st.ModTime().UnixNano()}
}

var places = []string{"a", "b", "c", "d/a", "d/b"}

func (w *world) path(place string) string { return filepath.Join(w.root, place) }

// hostEdits writes in place, replaces, removes or moves, as programs of the host do.
func (w *world) hostEdits() {
	place := places[w.random.Intn(len(places))]
	path, text := w.path(place), w.content()
	before := w.inParts()
	defer func() {
		after := w.inParts()
		for text := range before {
			if !after[text] {
				delete(w.owed, text) // what it rested on was destroyed by the host itself
			}
		}
	}()
	switch w.random.Intn(4) {
	case 0:
		w.give(host, path)
		if w.owedTo(path) != host { // the host destroys what a task wrote: his own choice
			w.give(w.owedTo(path), path)
		}
		os.Remove(path)
	default:
		w.give(w.owedTo(path), path)
		_ = os.Chmod(path, 0o644)
		must(w.t, os.WriteFile(path, []byte(text), 0o644))
		must(w.t, os.Chmod(path, 0o600+os.FileMode(w.random.Intn(0o100))))
		when := time.Unix(1_600_000_000+int64(w.random.Intn(1e8)), int64(w.random.Intn(1e9)))
		must(w.t, os.Chtimes(path, when, when))
		w.owe(host, path, text)
	}
}

// inParts are the contents that rest on a file of which only the overwritten parts were kept.
func (w *world) inParts() map[string]bool {
	texts := map[string]bool{}
	if w.partsAbove == 0 {
		return texts
	}
	s := w.writers[0].store
	all, err := s.History("", true)
	must(w.t, err)
	for _, v := range all {
		if v.Whole {
			continue
		}
		f, err := s.Assemble(v, w.writers[0].tree)
		if errors.Is(err, versions.ErrNotExact) {
			continue
		}
		must(w.t, err)
		text, err := io.ReadAll(f)
		f.Close()
		must(w.t, err)
		texts[string(text)] = true
	}
	w.parts += len(texts)
	return texts
}

func (w *world) owedTo(path string) int {
	text, _ := os.ReadFile(path)
	if o, is := w.owed[string(text)]; is {
		return o.author
	}
	return host
}

// walk gives a node; nil when there is none.
func walk(t *hostfs.Tree, place string) ninep.Node {
	at := t.Root()
	for _, name := range strings.Split(place, "/") {
		next, err := at.Walk(name)
		at.Drop()
		if err != nil {
			return nil
		}
		at = next
	}
	return at
}

func split(place string) (directory, name string) {
	if i := strings.LastIndexByte(place, '/'); i >= 0 {
		return place[:i], place[i+1:]
	}
	return "", place
}

func parent(t *hostfs.Tree, place string) (ninep.Node, string) {
	directory, name := split(place)
	if directory == "" {
		return t.Root(), name
	}
	return walk(t, directory), name
}

// taskActs does one random operation of a task.
func (w *world) taskActs(author int) {
	task := w.writers[author]
	place, other := places[w.random.Intn(len(places))], places[w.random.Intn(len(places))]
	path, text := w.path(place), w.content()
	kind := w.random.Intn(8)
	switch kind {
	case 4: // rename over
		w.give(author, w.path(other))
	default:
		w.give(author, path)
	}
	whole := task.run(func() {
		dir, name := parent(task.tree, place)
		defer dir.Drop()
		switch kind {
		case 0:
			_ = dir.Unlink(name, false)
		case 1, 2: // in place, as long as before
			n := walk(task.tree, place)
			if n == nil {
				return
			}
			defer n.Drop()
			if attr, err := n.Attr(); err != nil || attr.Size == 0 || attr.Size > uint64(len(text)) {
				return
			}
			if f, err := n.Open(2); err == nil {
				_, _ = f.WriteAt([]byte(text), 0)
				f.Close()
			}
		case 3: // made or cut, then written
			n, f, err := dir.Create(name, 1|0o1000, 0o640)
			if err == nil {
				_, _ = f.WriteAt([]byte(text), 0)
				f.Close()
				n.Drop()
			}
		case 4:
			to, newName := parent(task.tree, other)
			_ = dir.Rename(name, to, newName)
			to.Drop()
		case 5: // as editors save: a new file over the old
			n, f, err := dir.Create("new", 1|0o1000, 0o604)
			if err == nil {
				_, _ = f.WriteAt([]byte(text), 0)
				f.Close()
				n.Drop()
				_ = dir.Rename("new", dir, name)
			}
		case 7: // a part of it, in place, or its end
			n := walk(task.tree, place)
			if n == nil {
				return
			}
			defer n.Drop()
			// Whole ones only: to make a file longer destroys nothing, and makes no version.
			if attr, err := n.Attr(); err != nil || attr.Size != uint64(len(text)) {
				return
			}
			if f, err := n.Open(2); err == nil {
				if w.made%3 == 0 {
					_ = n.SetAttr(wire.SetAttr{Valid: wire.SetSize, Size: 6 + uint64(w.made%3)}, f)
				} else {
					_, _ = f.WriteAt([]byte(text[2:5]), int64(6+w.made%5))
				}
				f.Close()
			}
		case 6: // removed while open, then written through the open file
			n := walk(task.tree, place)
			if n == nil {
				return
			}
			defer n.Drop()
			f, err := n.Open(2)
			if err != nil {
				return
			}
			_ = dir.Unlink(name, false)
			_, _ = f.WriteAt([]byte("into nowhere..."[:len(text)]), 0)
			f.Close()
		}
	})
	if whole && kind == 7 {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 && w.owedTo(path) == host {
			if _, known := w.owed[string(text)]; !known {
				w.owe(author, path, string(text))
			}
		}
	}
	if whole && (kind == 1 || kind == 2 || kind == 3 || kind == 5) {
		w.owe(author, path, text)
	}
}

// found is a content with what belongs to it.
type found struct {
	mode    os.FileMode
	mtimeNs int64
}

// check looks for all that is owed.
func (w *world) check(what string) {
	w.t.Helper()
	there := map[string][]found{}
	must(w.t, filepath.Walk(w.root, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			must(w.t, err)
			there[string(text)] = append(there[string(text)], found{info.Mode(), info.ModTime().UnixNano()})
		}
		return err
	}))
	s := w.writers[0].store
	all, err := s.History("", true)
	must(w.t, err)
	for _, v := range all {
		if v.Kind != versions.File {
			continue
		}
		f, err := s.Assemble(v, w.writers[0].tree)
		if errors.Is(err, versions.ErrNotExact) {
			continue
		}
		must(w.t, err)
		text, err := io.ReadAll(f)
		f.Close()
		must(w.t, err)
		there[string(text)] = append(there[string(text)], found{os.FileMode(v.Mode), v.MtimeNs})
	}
	for text, o := range w.owed {
		same := false
		for _, f := range there[text] {
			same = same || f.mode == o.mode && f.mtimeNs == o.mtimeNs
		}
		if !same {
			w.t.Fatalf("%s: %q of author %d is lost; found %v, owed %v", what, text, o.author, there[text], o)
		}
	}
}

// play runs a game, in which writer 0 is killed at a step, and tells how many steps it made.
func play(t *testing.T, seed int64, moves, killAt int, withBroker, inParts bool) (steps int) {
	base, err := os.MkdirTemp("", "model-")
	must(t, err)
	defer os.RemoveAll(base)
	w := &world{t: t, root: filepath.Join(base, "root"), store: filepath.Join(base, "store"), random: rand.New(rand.NewSource(seed)), owed: map[string]owed{}}
	if inParts {
		w.partsAbove = 4
	}
	must(t, os.MkdirAll(filepath.Join(w.root, "d"), 0o755))
	must(t, os.Mkdir(w.store, 0o700))
	for _, name := range []string{"task-1", "task-2"} {
		task := &writer{w: w, name: name, killed: make(chan struct{})}
		task.broker = &countingBroker{w: task, none: !withBroker}
		task.start()
		defer task.end()
		w.writers = append(w.writers, task)
	}
	w.writers[0].steps, w.writers[0].killAt = 0, killAt
	what := fmt.Sprintf("seed %d, killed at %d, broker %v, parts %v", seed, killAt, withBroker, inParts)
	for range moves {
		switch w.random.Intn(5) {
		case 0, 1:
			w.hostEdits()
		case 2:
			w.taskActs(1)
		default:
			w.taskActs(0)
		}
		w.check(what)
	}
	partsSeen += w.parts
	if len(w.owed) == 0 {
		t.Logf("%s: nothing was owed in the end", what)
	}
	return w.writers[0].steps
}

// partsSeen counts over all games.
var partsSeen int

func TestNoContentOfAnotherIsLostWhateverHappens(t *testing.T) {
	const seeds, moves = 1, 25
	first, _ := strconv.ParseInt(os.Getenv("CLOCHE_SEED"), 10, 64)
	if os.Getenv("CLOCHE_LONG") != "" && first == 0 {
		// In processes of their own: what a killed server had open stays open until its process ends. Two at a time, as they mostly wait.
		seedsOf := make(chan int64)
		var players sync.WaitGroup
		for range 2 {
			players.Add(1)
			go func() {
				defer players.Done()
				for more := range seedsOf {
					again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
					again.Env = append(os.Environ(), "CLOCHE_SEED="+strconv.FormatInt(more, 10))
					if out, err := again.CombinedOutput(); err != nil {
						t.Errorf("seeds from %d: %v\n%s", more, err, out)
					}
				}
			}()
		}
		for more := int64(seeds); more < 100; more += seeds {
			seedsOf <- more
		}
		close(seedsOf)
		players.Wait()
	}
	if first == 0 {
		// Games of long runs that lost something.
		for _, lost := range []struct {
			seed   int64
			killAt int
		}{{84, 33}, {115, 2}} {
			play(t, lost.seed, moves, lost.killAt, true, true)
		}
	}
	games := 0
	for seed := first; seed < first+seeds; seed++ {
		for kind := range 4 {
			withBroker, inParts := kind%2 == 0, kind >= 2
			steps := play(t, seed, moves, 0, withBroker, inParts)
			for kill := 1; kill <= steps; kill++ {
				play(t, seed, moves, kill, withBroker, inParts)
				games++
			}
		}
	}
	t.Logf("%d games with a killed server", games)
	for seed := range int64(8 * seeds) {
		play(t, 1000+seed, 80, 0, seed%2 == 0, seed%4 >= 2)
	}
	if partsSeen == 0 {
		t.Error("no game had a version in parts")
	}
	t.Logf("%d versions in parts", partsSeen)
}
