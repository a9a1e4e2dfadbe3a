//go:build linux

package writeback

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Applied is one apply, newest first in the list.
type Applied struct {
	Apply  string
	TimeMs int64
	// Files is how many files, links and directories it wrote or took away.
	Files  int
	Undone bool
}

// Applies lists this writer's applies that can still be told of.
func (f *Folder) Applies() []Applied {
	var all []Applied
	at := map[string]int{}
	for _, s := range f.slices {
		if s.begin.Undo || s.forgotten || len(s.done.Applied) == 0 {
			continue
		}
		i, known := at[s.begin.Apply]
		if !known {
			i = len(all)
			at[s.begin.Apply] = i
			all = append(all, Applied{Apply: s.begin.Apply, TimeMs: s.begin.TimeMs, Undone: true})
		}
		for step := range s.done.Applied {
			all[i].Files++
			if !s.undone[step] && !s.begin.Steps[step].Stays {
				all[i].Undone = false
			}
		}
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

// Undoing is the rest of an undo.
type Undoing struct {
	folder *Folder
	apply  string
	todo   []place // last first
}

// ErrNotUndoable: there is no such apply, or nothing of it is left to be taken back.
var ErrNotUndoable = errors.New("there is no such apply, or it is taken back already")

// Undo begins to take an apply back.
func (f *Folder) Undo(apply string) (*Undoing, error) {
	u := &Undoing{folder: f, apply: apply}
	for i := len(f.slices) - 1; i >= 0; i-- {
		s := f.slices[i]
		if s.begin.Apply != apply || s.begin.Undo || s.forgotten {
			continue
		}
		order := s.order()
		for k := len(order) - 1; k >= 0; k-- {
			if step := order[k]; s.done.Applied[step] != nil && !s.undone[step] && !s.begin.Steps[step].Stays {
				u.todo = append(u.todo, place{s.begin.Slice, step})
			}
		}
	}
	if len(u.todo) == 0 {
		return nil, ErrNotUndoable
	}
	return u, nil
}

// Remaining counts what is still to be taken back.
func (u *Undoing) Remaining() int { return len(u.todo) }

// Back is how one step of an undo ended.
type Back struct {
	Path string
	Err  error
	// Was is what the apply had left, Made what stands there now; nil: nothing.
	Was, Made *Identity
}

// Next takes back a slice of the apply. Groups are taken back together, so one may be larger than max.
func (u *Undoing) Next(max int) ([]Back, error) {
	f := u.folder
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var steps []Step
	groups := map[[2]int64]int{}
	var rest []place
	whole := 0     // steps of the groups that were begun
	moved := false // paths below a directory that moves are others afterwards, so that nothing else comes with it
	for _, p := range u.todo {
		s := f.slice(p.Slice)
		key := [2]int64{p.Slice, int64(s.begin.Steps[p.Step].Group)}
		group, known := groups[key]
		if !known {
			size := s.groupSize(s.begin.Steps[p.Step].Group)
			moves := s.movesDirectory(s.begin.Steps[p.Step].Group)
			if len(rest) > 0 || moved || whole > 0 && (moves || whole+size > max) {
				rest = append(rest, p)
				continue
			}
			moved = moves
			group = len(groups) + 1
			groups[key] = group
			whole += size
		}
		step := f.reverse(s, p.Step)
		step.Group, step.undoes = group, &place{p.Slice, p.Step}
		steps = append(steps, step)
	}
	results, err := f.run(u.apply, true, steps)
	if err != nil {
		return nil, err
	}
	u.todo = rest
	backs := make([]Back, len(steps))
	for i, r := range results {
		backs[i] = Back{Path: steps[i].Path, Err: r.Err, Was: steps[i].Expect, Made: r.Made}
	}
	return backs, nil
}

func (s *slice) groupSize(group int) int {
	n := 0
	for i := range s.begin.Steps {
		if s.begin.Steps[i].Group == group {
			n++
		}
	}
	return n
}

func (s *slice) movesDirectory(group int) bool {
	for i := range s.begin.Steps {
		if w := &s.begin.Steps[i]; w.Group == group && w.Op == Move && w.Expect != nil && w.Expect.Kind == Directory {
			return true
		}
	}
	return false
}

func (f *Folder) slice(number int64) *slice {
	for i := len(f.slices) - 1; i >= 0; i-- {
		if f.slices[i].begin.Slice == number {
			return f.slices[i]
		}
	}
	return nil
}

// reverse makes the step that takes an applied one back.
func (f *Folder) reverse(s *slice, i int) Step {
	w, o := &s.begin.Steps[i], s.done.Applied[i]
	made := *orEmpty(o.Made)
	made.CtimeNs = 0 // later steps may have renamed it
	back := Step{Path: string(w.Path), Expect: &made}
	if o.Made == nil {
		back.Expect = nil
	}
	switch w.Op {
	case Move:
		back.Op, back.Path, back.To = Move, string(w.To), string(w.Path)
	case SetAttributes:
		back.Op, back.Kind, back.Attributes = SetAttributes, made.Kind, *w.Before
	default:
		kept := o.Kept
		switch {
		case kept == nil:
			back.Op = Remove
		case kept.Kind == Directory:
			back.Op, back.Kind, back.Attributes = MakeDir, Directory, kept.Attributes
		default:
			back.Op, back.Kind, back.Attributes, back.Target = Put, kept.Kind, kept.Attributes, string(kept.Target)
			back.Content = func() (*os.File, error) { return f.openKept(kept.Number) }
		}
	}
	return back
}

func orEmpty(i *Identity) *Identity {
	if i == nil {
		return &Identity{}
	}
	return i
}

func (f *Folder) openKept(number int64) (*os.File, error) {
	name := strconv.FormatInt(number, 10)
	fd, err := unix.Openat(f.own, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Unsettled is a step that is in the folder and whose caller may not know: its process ended before it could note it.
type Unsettled struct {
	Undo bool
	Note json.RawMessage
	// Was is what the step expected, Made what stands there now; nil: nothing.
	Was, Made *Identity
	// Returned: nothing was done, but what Was is Made now.
	Returned bool
	// Of an undo: what it did where, the note of the step that it took back, and what that had left.
	Op            Op
	Path, To      string
	Undone        json.RawMessage
	Taken         *Taken
	Before, After *Attributes // of an attributes step
}

// Taken is what an undo took out of the folder.
type Taken struct {
	Attributes
	Kind   Kind
	Target string
	// Open gives a file's bytes.
	Open func() (*os.File, error)
}

// Unsettled lists such steps, oldest first.
func (f *Folder) Unsettled() []Unsettled {
	var all []Unsettled
	for _, s := range f.slices {
		if s.settled {
			continue
		}
		for i := range s.begin.Steps {
			w := &s.begin.Steps[i]
			if o := s.done.Applied[i]; o != nil {
				u := Unsettled{Undo: s.begin.Undo, Note: w.Note, Was: w.Expect, Made: o.Made}
				if u.Undo {
					f.tellUndone(&u, w, o)
				}
				all = append(all, u)
			} else if now := s.done.Returned[i]; now != nil {
				all = append(all, Unsettled{Note: w.Note, Was: w.Expect, Made: now, Returned: true})
			}
		}
	}
	return all
}

// tellUndone adds what was taken back, and what that had left in the folder.
func (f *Folder) tellUndone(u *Unsettled, w *writtenStep, o *outcome) {
	u.Op, u.Path, u.To, u.Before, u.After = w.Op, string(w.Path), string(w.To), w.Before, w.After
	if w.Undoes != nil {
		if of := f.slice(w.Undoes.Slice); of != nil && w.Undoes.Step < len(of.begin.Steps) {
			u.Undone = of.begin.Steps[w.Undoes.Step].Note
		}
	}
	if k := o.Kept; k != nil {
		u.Taken = &Taken{Attributes: k.Attributes, Kind: k.Kind, Target: string(k.Target), Open: func() (*os.File, error) { return f.openKept(k.Number) }}
	}
}

// Settled notes that the caller knows of everything that is done so far.
func (f *Folder) Settled() error {
	var records []record
	for _, s := range f.slices {
		if !s.settled {
			records = append(records, record{Settled: s.begin.Slice})
		}
	}
	if len(records) == 0 {
		return nil
	}
	if err := f.append(records...); err != nil {
		return err
	}
	for _, s := range f.slices {
		s.settled = true
	}
	return nil
}
