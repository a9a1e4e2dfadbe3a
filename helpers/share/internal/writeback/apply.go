//go:build linux

package writeback

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Op is what a step does.
type Op string

const (
	// Put makes a file or link, in place of the expected one where there is one.
	Put Op = "put"
	// Remove takes a file, link or empty directory away.
	Remove Op = "remove"
	// MakeDir makes a directory.
	MakeDir Op = "mkdir"
	// Move renames to a name that is free.
	Move Op = "move"
	// SetAttributes changes mode, time and attributes of what stays.
	SetAttributes Op = "attributes"
)

// Step is one change of the folder.
type Step struct {
	Op Op
	// Group: steps of one group are done together or not at all. They stand beside each other.
	Group int
	// Path is from the root, components joined by '/'; To of a Move.
	Path, To string
	// Expect is what must stand at Path; nil: nothing.
	Expect *Identity
	// In is the directory that Path must lie in; nil: whichever is there.
	In *Object
	// Kind, Attributes and Target are what Put and MakeDir make and SetAttributes sets. Nil Attributes.Xattrs are none.
	Kind       Kind
	Attributes Attributes
	Target     string
	// Content opens what a Put file holds. Its fsync is not needed.
	Content func() (*os.File, error)
	// Still is asked when the new file is whole and has not its name yet: an error refuses the step.
	Still func() error
	// Stays: an undo leaves what a step of a larger group made. Others may have come to need it, which nothing tells.
	Stays bool
	// Note comes back with Unsettled.
	Note json.RawMessage

	undoes *place
}

// ErrConflict: the folder is not what the step expects. ErrKind: what is there, or shall be, is no file, directory or link.
var (
	ErrConflict = errors.New("the folder's file is not the one that was expected")
	ErrKind     = errors.New("neither file nor directory nor link")
	ErrGroup    = errors.New("another part of the same change was refused")
)

// Result is how a step ended.
type Result struct {
	// Err is nil for what is in the folder now.
	Err error
	// Made is what the step left at its path; nil where nothing stands.
	Made *Identity
}

// Folder is a folder that is written to, with its journal.
type Folder struct {
	root, proc, store int // not owned
	applies           int // applies/
	own               int // applies/<writer>/
	device            uint64
	writer            string
	keep              time.Duration
	wait              time.Duration
	version           func(string, int, bool) error
	crash             func(string)
	failed            error // the journal cannot be written; only Open helps

	nextSlice, nextKept int64
	slices              []*slice // of this writer, done or undone
}

// slice is what the journal knows of one.
type slice struct {
	begin     *begin
	made      map[int]*Identity
	done      *done
	settled   bool
	undone    map[int]bool
	forgotten bool
}

// running is a slice on its way into the folder.
type running struct {
	folder *Folder
	begin  *begin
	steps  []Step
	order  []int // of steps, directories before what is in them
	level  []int
	temps  map[string]bool
	made   map[int]*Identity
	dirs   map[int]int // by step: the held directory of Path
	state  []error     // why refused; nil: not, or not yet
	acted  []bool
	kept   []*keptFile
}

// MaxSteps bounds a slice.
const MaxSteps = 512

// Apply does the steps, each group wholly or not at all, as part of the apply of that name. An error other than a step's
// means that nothing of the slice is in the folder.
func (f *Folder) Apply(apply string, steps []Step) ([]Result, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return f.run(apply, false, steps)
}

// apart makes of an attributes step one that puts a copy in the file's place, where the file has other names: they may lie outside of the
// folder, or where nobody chose a change.
func (f *Folder) apart(s Step) Step {
	if s.Op != SetAttributes || s.Expect == nil || s.Expect.Kind != File {
		return s
	}
	same := func() (*os.File, error) {
		dir, name, err := f.parent(s.Path)
		if err != nil {
			return nil, err
		}
		defer unix.Close(dir)
		fd, err := f.openObject(dir, name, s.Expect.Object, File)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrConflict, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	file, err := same()
	if err != nil {
		return s // the step itself will meet it
	}
	defer file.Close()
	if many, err := otherNames(int(file.Fd())); err != nil || !many {
		return s
	}
	s.Op, s.Kind, s.Content = Put, File, same
	return s
}

func otherNames(fd int) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Nlink > 1, err
}

func (f *Folder) run(apply string, undo bool, steps []Step) ([]Result, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	if len(steps) > MaxSteps {
		return nil, fmt.Errorf("%d steps are more than a slice has", len(steps))
	}
	r := &running{
		folder: f, steps: make([]Step, len(steps)), temps: map[string]bool{}, made: map[int]*Identity{}, dirs: map[int]int{}, state: make([]error, len(steps)),
		acted: make([]bool, len(steps)), kept: make([]*keptFile, len(steps)),
		begin: &begin{Slice: f.nextSlice, Apply: apply, TimeMs: time.Now().UnixMilli(), Undo: undo, Steps: make([]writtenStep, len(steps))},
	}
	defer r.release()
	r.level, r.order = ordered(len(steps), func(i int) (Op, string, string) { return steps[i].Op, steps[i].Path, steps[i].To })
	for i := range steps {
		r.steps[i] = f.apart(steps[i])
		r.write(i)
	}
	f.at("begin")
	if err := f.append(record{Begin: r.begin}); err != nil {
		return nil, err
	}
	f.nextSlice++
	f.at("begun")
	err := r.everyLevel()
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		return nil, r.giveUp(err)
	}
	results := make([]Result, len(steps))
	s := &slice{begin: r.begin, made: r.made, done: &done{Slice: r.begin.Slice, Applied: map[int]*outcome{}}, undone: map[int]bool{}}
	for i := range steps {
		results[i].Err = r.state[i]
		if r.state[i] == nil {
			o := &outcome{Kept: r.kept[i]}
			if o.Made, err = r.left(i); err != nil {
				results[i].Err = err
			}
			results[i].Made = o.Made
			s.done.Applied[i] = o
		}
	}
	s.done.Returned = r.returned()
	f.at("before done")
	if err := f.append(record{Done: s.done}); err != nil {
		return nil, r.giveUp(err)
	}
	f.at("done")
	f.remember(s)
	r.clean()
	f.at("cleaned")
	return results, nil
}

// giveUp takes the whole slice back; the journal says that nothing was done.
func (r *running) giveUp(why error) error {
	for i := len(r.order) - 1; i >= 0; i-- {
		r.takeBack(r.order[i])
	}
	s := &slice{begin: r.begin, made: r.made, done: &done{Slice: r.begin.Slice, Returned: r.returned()}, undone: map[int]bool{}}
	if err := r.folder.append(record{Done: s.done}); err != nil {
		r.folder.failed = err
	} else {
		r.folder.remember(s)
	}
	return why
}

// returned tells of what was taken back how it is known from now on.
func (r *running) returned() map[int]*Identity {
	all := map[int]*Identity{}
	for i := range r.steps {
		dir, walked := r.dirs[i]
		if _, name, err := split(r.steps[i].Path); err == nil && walked && r.state[i] != nil || walked && !r.acted[i] {
			noteReturned(all, i, &r.begin.Steps[i], dir, name)
		}
	}
	return all
}

func noteReturned(all map[int]*Identity, i int, w *writtenStep, dir int, name string) {
	if w.Expect == nil || w.Expect.CtimeNs == 0 {
		return
	}
	if now, err := look(dir, name); err == nil && w.Expect.is(now, false) && now.CtimeNs != w.Expect.CtimeNs {
		all[i] = now
	}
}

func (f *Folder) at(point string) {
	if f.crash != nil {
		f.crash(point)
	}
}

func (f *Folder) append(records ...record) error {
	return appendTo(f.applies, f.writer+".log", records...)
}

// ordered gives the order in which steps are done: a directory is there before what shall be in it; otherwise as they
// stand. What is on one level is prepared together.
func ordered(count int, step func(int) (op Op, path, to string)) (level, order []int) {
	made := map[string]int{}
	level = make([]int, count)
	most := 0
	for i := range count {
		op, path, to := step(i)
		level[i] = levelBelow(made, path)
		if op == Move {
			level[i] = max(level[i], levelBelow(made, to))
		}
		switch op {
		case MakeDir:
			made[path] = level[i]
		case Move:
			made[to] = level[i]
		}
		most = max(most, level[i])
	}
	for at := 0; at <= most; at++ {
		for i := range count {
			if level[i] == at {
				order = append(order, i)
			}
		}
	}
	return level, order
}

// levelBelow is the first level on which the directory of a path is there, given the levels on which directories are made.
func levelBelow(made map[string]int, path string) int {
	for at := strings.LastIndexByte(path, '/'); at >= 0; at = strings.LastIndexByte(path, '/') {
		path = path[:at]
		if level, is := made[path]; is {
			return level + 1
		}
	}
	return 0
}

// write puts into the journal's words what is needed to take a step back.
func (r *running) write(i int) {
	s := &r.steps[i]
	w := &r.begin.Steps[i]
	*w = writtenStep{Op: s.Op, Group: s.Group, Path: []byte(s.Path), To: []byte(s.To), Expect: s.Expect, Undoes: s.undoes, Stays: s.Stays, Note: s.Note}
	switch s.Op {
	case Put, Remove, MakeDir:
		w.Temp = newTemp()
		r.temps[w.Temp] = true
	case SetAttributes:
		w.After = &s.Attributes
	}
	if s.Expect != nil && (s.Op == SetAttributes || s.Expect.Kind == Directory) {
		dir, name, err := r.folder.parent(s.Path)
		if err != nil {
			return // the step itself will meet it
		}
		defer unix.Close(dir)
		if fd, err := r.folder.openObject(dir, name, s.Expect.Object, s.Expect.Kind); err == nil {
			w.Before, _ = attributesOf(fd)
			unix.Close(fd)
		}
	}
}

// everyLevel prepares what stands on one level, writes its inodes down, and gives it its names.
func (r *running) everyLevel() error {
	for at := 0; at < len(r.order); {
		end := at
		for end < len(r.order) && r.level[r.order[end]] == r.level[r.order[at]] {
			end++
		}
		made := map[int]*Identity{}
		for _, i := range r.order[at:end] {
			if r.refusedGroup(i) {
				continue
			}
			if err := r.prepare(i); err != nil {
				if full(err) {
					return err
				}
				r.state[i] = err
				continue
			}
			if r.made[i] != nil {
				made[i] = r.made[i]
			}
		}
		r.folder.at("prepared, not written down")
		if len(made) > 0 {
			if err := r.folder.append(record{Prepared: &prepared{r.begin.Slice, made}}); err != nil {
				return err
			}
		}
		r.folder.at("prepared")
		for _, i := range r.order[at:end] {
			if r.refusedGroup(i) || r.state[i] != nil {
				continue
			}
			if err := r.act(i); err != nil {
				if full(err) {
					return err
				}
				r.state[i] = err
			}
			r.folder.at("acted")
		}
		at = end
	}
	// A group that lost a member is taken back, last step first.
	for at := len(r.order) - 1; at >= 0; at-- {
		if i := r.order[at]; r.refusedGroup(i) {
			r.takeBack(i)
			if r.state[i] == nil {
				r.state[i] = ErrGroup
			}
		}
	}
	return nil
}

// full tells a failure of the whole slice from one step's.
func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

func (r *running) refusedGroup(i int) bool {
	for j := range r.steps {
		if r.steps[j].Group == r.steps[i].Group && r.state[j] != nil {
			return true
		}
	}
	return false
}

// prepare walks to the step's directory and makes what is new, whole and durable, under its hidden name.
func (r *running) prepare(i int) error {
	f, s, w := r.folder, &r.steps[i], &r.begin.Steps[i]
	if s.Op == Put && s.Expect != nil && s.Expect.Kind == Directory {
		return ErrKind
	}
	dir, name, err := f.parent(s.Path)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) {
			return fmt.Errorf("%w: %q cannot be reached: %v", ErrConflict, s.Path, err)
		}
		return err
	}
	r.dirs[i] = dir
	if s.In != nil {
		if in, err := objectOf(dir); err != nil || in != *s.In {
			return fmt.Errorf("%w: another directory stands above %q", ErrConflict, s.Path)
		}
	}
	found, err := look(dir, name)
	if err != nil {
		return err
	}
	if (found == nil) != (s.Expect == nil) && !r.freedBefore(i) || s.Expect != nil && !s.Expect.is(found, true) {
		return ErrConflict
	}
	switch s.Op {
	case Put:
		err = r.prepareFile(i, dir, w.Temp)
	case MakeDir:
		if err = unix.Mkdirat(dir, w.Temp, 0o700); err == nil {
			var fd int
			if fd, err = f.step(dir, w.Temp); err == nil {
				if err = f.setAttributes(fd, &s.Attributes); err == nil {
					r.made[i], err = look(dir, w.Temp)
				}
				unix.Close(fd)
			}
		}
	}
	f.at("made under a hidden name")
	if err == nil && s.Still != nil {
		err = s.Still()
	}
	return err
}

// freedBefore tells whether an earlier step of this slice frees the name.
func (r *running) freedBefore(i int) bool {
	for j := range r.steps[:i] {
		if s := &r.steps[j]; s.Path == r.steps[i].Path && r.state[j] == nil && (s.Op == Remove || s.Op == Move) {
			return true
		}
	}
	return false
}

func (r *running) prepareFile(i, dir int, temp string) error {
	f, s := r.folder, &r.steps[i]
	switch s.Kind {
	case Link:
		if err := unix.Symlinkat(s.Target, dir, temp); err != nil {
			return err
		}
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(s.Attributes.MtimeNs)}
		if err := unix.UtimesNanoAt(dir, temp, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		var err error
		r.made[i], err = look(dir, temp)
		return err
	case File:
	default:
		return ErrKind
	}
	from, err := s.Content()
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := unix.Openat(dir, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := copyContent(fd, int(from.Fd())); err != nil {
		return err
	}
	if err := f.setAttributes(fd, &s.Attributes); err != nil {
		return err
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	r.made[i], err = look(dir, temp)
	return err
}

// act gives the new its name, or takes the old away, and looks at what was taken.
func (r *running) act(i int) error {
	f, s, w, dir := r.folder, &r.steps[i], &r.begin.Steps[i], r.dirs[i]
	_, name, _ := split(s.Path)
	var err error
	switch {
	case s.Op == Put && s.Expect != nil:
		err = rename(dir, w.Temp, dir, name, unix.RENAME_EXCHANGE)
	case s.Op == Put, s.Op == MakeDir:
		err = rename(dir, w.Temp, dir, name, unix.RENAME_NOREPLACE)
	case s.Op == Remove:
		err = rename(dir, name, dir, w.Temp, unix.RENAME_NOREPLACE)
	case s.Op == Move:
		return r.move(i)
	case s.Op == SetAttributes:
		return r.setAttributes(i)
	default:
		return fmt.Errorf("no step is called %q", s.Op)
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return ErrConflict
	}
	if err != nil {
		return err
	}
	r.acted[i] = true
	f.at("renamed")
	if s.Expect != nil {
		victim, err := look(dir, w.Temp)
		if err == nil && !s.Expect.is(victim, false) {
			err = ErrConflict
		}
		if err == nil {
			err = r.keep(i, dir)
		}
		if err != nil {
			r.takeBack(i)
			return err
		}
	}
	if err := f.stillThere(s.Path, dir); err != nil {
		r.takeBack(i)
		return fmt.Errorf("%w: %v", ErrConflict, err)
	}
	return nil
}

func rename(oldDir int, oldName string, newDir int, newName string, flags uint) error {
	return retry(func() error { return unix.Renameat2(oldDir, oldName, newDir, newName, flags) })
}

func (r *running) move(i int) error {
	f, s := r.folder, &r.steps[i]
	to, toName, err := f.parent(s.To)
	if err != nil {
		return fmt.Errorf("%w: %q cannot be reached: %v", ErrConflict, s.To, err)
	}
	defer unix.Close(to)
	_, name, _ := split(s.Path)
	err = rename(r.dirs[i], name, to, toName, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return ErrConflict
	}
	if err != nil {
		return err
	}
	r.acted[i] = true
	f.at("renamed")
	moved, err := look(to, toName)
	if err == nil && !s.Expect.is(moved, false) {
		err = ErrConflict
	}
	if err == nil {
		err = f.stillThere(s.Path, r.dirs[i])
	}
	if err == nil {
		err = f.stillThere(s.To, to)
	}
	if err != nil {
		if back := rename(to, toName, r.dirs[i], name, unix.RENAME_NOREPLACE); back == nil {
			r.acted[i] = false
		}
		return fmt.Errorf("%w: %v", ErrConflict, err)
	}
	return nil
}

func (r *running) setAttributes(i int) error {
	f, s := r.folder, &r.steps[i]
	_, name, _ := split(s.Path)
	if r.begin.Steps[i].Before == nil {
		return ErrConflict
	}
	fd, err := f.openObject(r.dirs[i], name, s.Expect.Object, s.Expect.Kind)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrConflict, err)
	}
	defer unix.Close(fd)
	if s.Expect.Kind == File {
		if many, err := otherNames(fd); err != nil || many {
			return errors.Join(err, fmt.Errorf("%w: it was given another name", ErrConflict))
		}
	}
	r.acted[i] = true
	if err := f.setAttributes(fd, &s.Attributes); err != nil {
		r.takeBack(i)
		return err
	}
	return unix.Fsync(fd)
}

// keep copies what was taken out to the store.
func (r *running) keep(i, dir int) error {
	f, s, w := r.folder, &r.steps[i], &r.begin.Steps[i]
	switch s.Expect.Kind {
	case Directory:
		fd, err := f.openObject(dir, w.Temp, s.Expect.Object, Directory)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if bare, err := empty(fd, r.temps); err != nil || !bare {
			return errors.Join(err, fmt.Errorf("%w: the directory is not empty", ErrConflict))
		}
		if w.Before == nil {
			return ErrConflict
		}
		r.kept[i] = &keptFile{Attributes: *w.Before, Kind: Directory}
	case Link:
		var text [4096]byte
		n, err := unix.Readlinkat(dir, w.Temp, text[:])
		if err != nil {
			return err
		}
		r.kept[i] = &keptFile{Kind: Link, Target: append([]byte{}, text[:n]...), Attributes: Attributes{MtimeNs: s.Expect.MtimeNs}}
	case File:
		return r.keepFile(i, dir)
	default:
		return ErrKind
	}
	return nil
}

func (r *running) keepFile(i, dir int) error {
	f, s, w := r.folder, &r.steps[i], &r.begin.Steps[i]
	from, err := f.openObject(dir, w.Temp, s.Expect.Object, File)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if f.version != nil {
		if err := f.version(s.Path, from, r.begin.Undo); err != nil {
			return err
		}
	}
	number := f.nextKept
	f.nextKept++
	to, err := unix.Openat(f.own, strconv.FormatInt(number, 10), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	f.at("keeping")
	// Somebody who has it open may write meanwhile: it is another file then than the one that was expected.
	asExpected := func() error {
		var st unix.Stat_t
		if err := unix.Fstat(from, &st); err != nil {
			return err
		}
		if !s.Expect.is(identityOf(&st), false) {
			return fmt.Errorf("%w: somebody wrote to it meanwhile", ErrConflict)
		}
		return nil
	}
	if err := asExpected(); err != nil {
		return err
	}
	if err := copyContent(to, from); err != nil {
		return err
	}
	a, err := attributesOf(from)
	if err != nil {
		return err
	}
	r.kept[i] = &keptFile{Attributes: *a, Kind: File, Number: number, Size: s.Expect.Size}
	if err := asExpected(); err != nil {
		return err
	}
	return unix.Fsync(to)
}

// takeBack undoes what a step did to the folder so far, at once.
func (r *running) takeBack(i int) {
	dir, walked := r.dirs[i]
	if !walked {
		return
	}
	if op := r.steps[i].Op; !r.acted[i] && (op == Move || op == SetAttributes) {
		return
	}
	_, name, _ := split(r.steps[i].Path)
	r.folder.revert(&r.begin.Steps[i], r.made[i], dir, name)
	if k := r.kept[i]; k != nil && k.Number > 0 {
		_ = unix.Unlinkat(r.folder.own, strconv.FormatInt(k.Number, 10), 0)
	}
	r.acted[i], r.kept[i] = false, nil
}

// finish makes names and kept files durable.
func (r *running) finish() error {
	r.folder.at("acted all")
	if err := unix.Fsync(r.folder.own); err != nil {
		return err
	}
	synced := map[Object]bool{}
	for i := range r.steps {
		if !r.acted[i] {
			continue
		}
		if err := syncOnce(r.dirs[i], synced); err != nil {
			return err
		}
		if r.steps[i].Op == Move {
			to, _, err := r.folder.parent(r.steps[i].To)
			if err != nil {
				return err
			}
			err = syncOnce(to, synced)
			unix.Close(to)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func syncOnce(dir int, synced map[Object]bool) error {
	object, err := objectOf(dir)
	if err != nil || synced[object] {
		return err
	}
	synced[object] = true
	return unix.Fsync(dir)
}

// left tells what a step left.
func (r *running) left(i int) (*Identity, error) {
	s := &r.steps[i]
	if s.Op == Remove {
		return nil, nil
	}
	dir, path := r.dirs[i], s.Path
	if s.Op == Move {
		to, _, err := r.folder.parent(s.To)
		if err != nil {
			return nil, err
		}
		defer unix.Close(to)
		dir, path = to, s.To
	}
	_, name, _ := split(path)
	return look(dir, name)
}

// clean lets go of what is in the store. Until now the victim stood under its hidden name.
func (r *running) clean() {
	for i := range r.steps {
		w := &r.begin.Steps[i]
		if w.Temp == "" || r.dirs[i] == 0 {
			continue
		}
		r.folder.letGo(w, r.dirs[i], r.state[i] == nil, r.temps)
		r.folder.at("let go")
	}
}

func (r *running) release() {
	for _, dir := range r.dirs {
		unix.Close(dir)
	}
}
