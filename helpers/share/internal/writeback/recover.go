//go:build linux

package writeback

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Open reads the writer's journal and takes back what any writer of the folder left unfinished.
func Open(o Options) (*Folder, error) {
	f := &Folder{root: o.Root, proc: o.Proc, store: o.Store, applies: -1, own: -1, writer: o.Writer, keep: o.Keep, wait: o.Wait, version: o.Version, crash: o.Crash, nextSlice: 1, nextKept: 1}
	if f.wait == 0 {
		f.wait = 10 * time.Second
	}
	if err := f.open(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Folder) open() error {
	root, err := objectOf(f.root)
	if err != nil {
		return err
	}
	f.device = root.Device
	if f.applies, err = makeDir(f.store, "applies"); err != nil {
		return fmt.Errorf("the folder's store: %w", err)
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// Made and locked while the folder's lock is held: others remove directories that no process has locked.
	if f.own, err = makeDir(f.applies, f.writer); err != nil {
		return fmt.Errorf("the folder's store: %w", err)
	}
	if err := retry(func() error { return unix.Flock(f.own, unix.LOCK_SH|unix.LOCK_NB) }); err != nil {
		return fmt.Errorf("applies/%s cannot be locked: %w", f.writer, err)
	}
	names, err := list(f.applies)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, name := range names {
		writer, isLog := strings.CutSuffix(name, ".log")
		if !isLog {
			continue
		}
		all, err := f.recover(name)
		if err != nil {
			return err
		}
		needed[writer] = slices.ContainsFunc(all, (*slice).isNeeded)
		if writer == f.writer && needed[writer] {
			for _, s := range all {
				f.nextSlice = max(f.nextSlice, s.begin.Slice+1)
				f.remember(s)
			}
		}
	}
	if !needed[f.writer] {
		if err := f.forgetJournal(f.writer); err != nil {
			return err
		}
	}
	if err := f.tidy(); err != nil {
		return err
	}
	return f.tidyOthers(names, needed)
}

// Close gives the descriptors back.
func (f *Folder) Close() {
	for _, fd := range []int{f.applies, f.own} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	f.applies, f.own = -1, -1
}

func makeDir(at int, name string) (int, error) {
	if err := unix.Mkdirat(at, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func list(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), ".")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// recover reads a journal and rolls its unfinished slice back. The folder's lock is held, so nobody is at work on it.
func (f *Folder) recover(name string) ([]*slice, error) {
	records, err := readJournal(f.applies, name)
	if err != nil {
		return nil, err
	}
	var slices []*slice
	byNumber := map[int64]*slice{}
	for i := range records {
		switch r := &records[i]; {
		case r.Begin != nil:
			s := &slice{begin: r.Begin, made: map[int]*Identity{}, undone: map[int]bool{}}
			slices = append(slices, s)
			byNumber[r.Begin.Slice] = s
		case r.Prepared != nil && byNumber[r.Prepared.Slice] != nil:
			for step, made := range r.Prepared.Made {
				byNumber[r.Prepared.Slice].made[step] = made
			}
		case r.Done != nil && byNumber[r.Done.Slice] != nil:
			byNumber[r.Done.Slice].done = r.Done
		case byNumber[r.Settled] != nil:
			byNumber[r.Settled].settled = true
		}
	}
	oldest := time.Time{}
	if f.keep > 0 {
		oldest = time.Now().Add(-f.keep)
	}
	for _, s := range slices {
		if s.done != nil {
			s.forgotten = time.UnixMilli(s.begin.TimeMs).Before(oldest)
			f.letGoAll(s)
			continue
		}
		order := s.order()
		for i := len(order) - 1; i >= 0; i-- {
			f.rollBack(s, order[i])
			f.at("rolled a step back")
		}
		f.at("rolled back")
		s.done = &done{Slice: s.begin.Slice, Returned: f.returned(s)}
		if err := appendTo(f.applies, name, record{Done: s.done}); err != nil {
			return nil, err
		}
	}
	return slices, nil
}

func (f *Folder) returned(s *slice) map[int]*Identity {
	all := map[int]*Identity{}
	for i := range s.begin.Steps {
		w := &s.begin.Steps[i]
		if dir, name, err := f.parent(string(w.Path)); err == nil {
			noteReturned(all, i, w, dir, name)
			unix.Close(dir)
		}
	}
	return all
}

func (s *slice) order() []int {
	_, order := ordered(len(s.begin.Steps), func(i int) (Op, string, string) {
		w := &s.begin.Steps[i]
		return w.Op, string(w.Path), string(w.To)
	})
	return order
}

// rollBack takes one step back. A directory that cannot be reached any more was moved by somebody since; what is hidden in
// it stays where it is, as nothing may be guessed about a directory that is another one.
func (f *Folder) rollBack(s *slice, i int) {
	w := &s.begin.Steps[i]
	dir, name, err := f.parent(string(w.Path))
	if err != nil {
		return
	}
	defer unix.Close(dir)
	f.revert(w, s.made[i], dir, name)
	_ = unix.Fsync(dir)
}

// revert brings one name back to what it was before its step, by what stands under it and under the hidden one. Done twice
// it does nothing the second time. made is what was prepared, nil where nothing was written down, before which nothing
// gets a name. What somebody wrote into the new file since is left under the name, or put beside it.
func (f *Folder) revert(w *writtenStep, made *Identity, dir int, name string) {
	switch w.Op {
	case Move:
		f.moveBack(w, dir, name)
		return
	case SetAttributes:
		f.attributesBack(w, dir, name)
		return
	}
	now, err := look(dir, name)
	if err != nil {
		return
	}
	hidden, err := look(dir, w.Temp)
	if err != nil {
		return
	}
	isNew := func(i *Identity) bool { return i != nil && made != nil && i.same(made.Object) }
	switch {
	case w.Op == Remove:
		if hidden != nil {
			f.putBack(dir, w.Temp, name)
		}
	case hidden == nil:
		// Nothing was replaced. What was made has its name, unless somebody changed it since, who keeps it then.
		if isNew(now) && w.Expect == nil && made.is(now, false) {
			f.unmake(w, dir, name)
		}
	case isNew(now): // exchanged: what is hidden was there before, whatever it is
		if rename(dir, w.Temp, dir, name, unix.RENAME_EXCHANGE) != nil {
			return
		}
		if made.is(now, false) {
			f.unmake(w, dir, w.Temp)
		} else {
			f.putBack(dir, w.Temp, name)
		}
	case isNew(hidden), made == nil: // not yet exchanged, or not even whole
		f.unmake(w, dir, w.Temp)
	default: // exchanged, and somebody put another thing in the new one's place since
		f.putBack(dir, w.Temp, name)
	}
}

// unmake unlinks what a step made. A directory goes only when it is empty.
func (f *Folder) unmake(w *writtenStep, dir int, name string) {
	flags := 0
	if w.Op == MakeDir {
		flags = unix.AT_REMOVEDIR
	}
	_ = unix.Unlinkat(dir, name, flags)
}

// putBack gives what was taken out its name again, or one beside it when somebody has taken that: it is never lost.
func (f *Folder) putBack(dir int, temp, name string) {
	err := rename(dir, temp, dir, name, unix.RENAME_NOREPLACE)
	for n := 1; errors.Is(err, unix.EEXIST) && n < 1000; n++ {
		beside := name[:min(len(name), 220)] + ".kept-" + strconv.Itoa(n)
		err = rename(dir, temp, dir, beside, unix.RENAME_NOREPLACE)
	}
}

// attributesBack sets what a file had, unless somebody else has written to it since.
func (f *Folder) attributesBack(w *writtenStep, dir int, name string) {
	if w.Before == nil || w.After == nil {
		return
	}
	fd, err := f.openObject(dir, name, w.Expect.Object, w.Expect.Kind)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, err := attributesOf(fd); err == nil && (now.MtimeNs == w.Before.MtimeNs || now.MtimeNs == w.After.MtimeNs) {
		_ = f.setAttributes(fd, w.Before)
		_ = unix.Fsync(fd)
	}
}

func (f *Folder) moveBack(w *writtenStep, dir int, name string) {
	to, toName, err := f.parent(string(w.To))
	if err != nil {
		return
	}
	defer unix.Close(to)
	moved, err := look(to, toName)
	if err == nil && moved != nil && moved.same(w.Expect.Object) {
		_ = rename(to, toName, dir, name, unix.RENAME_NOREPLACE)
		_ = unix.Fsync(to)
	}
}

// letGo unlinks the hidden name of a step that is written down as done: a victim whose copy is in the store. A directory
// that somebody put something into meanwhile comes back.
func (f *Folder) letGo(w *writtenStep, dir int, applied bool, temps map[string]bool) {
	if w.Temp == "" {
		return
	}
	hidden, err := look(dir, w.Temp)
	if err != nil || hidden == nil {
		return
	}
	_, name, _ := split(string(w.Path))
	switch {
	case !applied || w.Expect == nil || !hidden.same(w.Expect.Object):
		// A step that was taken back leaves nothing of others' under its hidden name (revert); what is there is its own.
		if w.Op == Remove {
			f.putBack(dir, w.Temp, name)
			return
		}
		flags := 0
		if hidden.Kind == Directory {
			flags = unix.AT_REMOVEDIR
		}
		_ = unix.Unlinkat(dir, w.Temp, flags)
	case hidden.Kind == Directory:
		f.letGoBelow(dir, w.Temp, temps)
		if err := unix.Unlinkat(dir, w.Temp, unix.AT_REMOVEDIR); err != nil {
			f.putBack(dir, w.Temp, name)
		}
	default:
		_ = unix.Unlinkat(dir, w.Temp, 0)
	}
}

// letGoBelow unlinks the slice's own hidden names in a removed directory, whose files were removed before it.
func (f *Folder) letGoBelow(dir int, name string, temps map[string]bool) {
	fd, err := f.step(dir, name)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if bare, err := empty(fd, temps); err != nil || !bare {
		return // somebody put something into it: it comes back, with all that was in it
	}
	names, err := list(fd)
	if err != nil {
		return
	}
	for _, each := range names {
		if unix.Unlinkat(fd, each, 0) == unix.EISDIR {
			f.letGoBelow(fd, each, temps)
			_ = unix.Unlinkat(fd, each, unix.AT_REMOVEDIR)
		}
	}
}

// letGoAll finishes a slice whose process ended between done and the end.
func (f *Folder) letGoAll(s *slice) {
	temps := map[string]bool{}
	for i := range s.begin.Steps {
		temps[s.begin.Steps[i].Temp] = true
	}
	for i := range s.begin.Steps {
		w := &s.begin.Steps[i]
		if w.Temp == "" {
			continue
		}
		dir, _, err := f.parent(string(w.Path))
		if err != nil {
			continue
		}
		f.letGo(w, dir, s.done.Applied[i] != nil, temps)
		unix.Close(dir)
	}
}

// tells: something of it is in the folder, or was.
func (s *slice) tells() bool { return len(s.done.Applied) > 0 || len(s.done.Returned) > 0 }

// remember takes a finished slice into the list of applies.
func (f *Folder) remember(s *slice) {
	if !s.tells() {
		return
	}
	f.slices = append(f.slices, s)
	for i, o := range s.done.Applied {
		u := s.begin.Steps[i].Undoes
		if u == nil {
			continue
		}
		for _, earlier := range f.slices {
			if earlier.begin.Slice == u.Slice {
				earlier.undone[u.Step] = true
				f.stands(earlier.begin.Slice, earlier.begin.Steps[u.Step].Expect, o.Made)
			}
		}
	}
}

// stands tells applies before a slice that what they made, and that one had replaced, is back as another inode: so that they can be taken
// back as well. What was made later has the number of what was replaced by chance: a filesystem gives numbers out again at once.
func (f *Folder) stands(before int64, was, now *Identity) {
	if was == nil || now == nil {
		return
	}
	for _, s := range f.slices {
		if s.begin.Slice >= before {
			continue
		}
		for _, o := range s.done.Applied {
			if o.Made != nil && was.is(o.Made, false) {
				o.Made = now
			}
		}
	}
}

// tidy removes kept files that nothing needs any more, or no record names, such as a crashed slice's, and numbers the next one.
func (f *Folder) tidy() error {
	used := map[string]bool{}
	for _, s := range f.slices {
		for _, o := range s.done.Applied {
			if o.Kept != nil && o.Kept.Number > 0 {
				f.nextKept = max(f.nextKept, o.Kept.Number+1)
				if s.isNeeded() {
					used[strconv.FormatInt(o.Kept.Number, 10)] = true
				}
			}
		}
	}
	names, err := list(f.own)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !used[name] {
			if err := unix.Unlinkat(f.own, name, 0); err != nil {
				return err
			}
			f.at("forgot a kept file")
		}
	}
	return nil
}

// isNeeded tells whether a slice may still be taken back, or has not been told to its task. One that was rolled back just now is needed
// until the next Open.
func (s *slice) isNeeded() bool { return !s.forgotten || !s.settled && s.tells() }

// maxForgotten bounds how many files of other writers one Open removes: other tasks wait for the folder's lock meanwhile.
const maxForgotten = 4096

// tidyOthers removes what other writers have in the store and nobody needs any more. The folder's lock is held.
func (f *Folder) tidyOthers(names []string, needed map[string]bool) error {
	room := maxForgotten
	seen := map[string]bool{f.writer: true}
	for _, name := range names {
		writer := strings.TrimSuffix(name, ".log")
		if seen[writer] || needed[writer] {
			continue
		}
		seen[writer] = true
		removed, err := f.forget(writer, room)
		if err != nil {
			return fmt.Errorf("applies/%s cannot be removed: %w", writer, err)
		}
		room -= removed
	}
	return nil
}

// forget removes a writer's journal, then what it kept, unless its process runs: that has its directory locked, and goes by what was
// young enough when it began. What is left without a journal, by a crash or as there is too much of it, is removed by the next Open.
func (f *Folder) forget(writer string, room int) (removed int, err error) {
	dir, err := unix.Openat(f.applies, writer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return 0, f.forgetJournal(writer)
	}
	if err == unix.ENOTDIR {
		return 0, nil // no writer's
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir)
	err = retry(func() error { return unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := f.forgetJournal(writer); err != nil {
		return 0, err
	}
	kept, err := list(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range kept {
		if removed == room {
			return removed, nil
		}
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return removed, err
		}
		removed++
		f.at("forgot a kept file")
	}
	return removed, unix.Unlinkat(f.applies, writer, unix.AT_REMOVEDIR)
}

func (f *Folder) forgetJournal(writer string) error {
	err := unix.Unlinkat(f.applies, writer+".log", 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		f.at("forgot a journal")
	}
	return err
}
