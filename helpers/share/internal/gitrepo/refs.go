package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const (
	heads = "refs/heads/"
	tags  = "refs/tags/"
)

// ref is one name's value.
type ref struct {
	id     ID
	target string // of a symbolic ref; id is empty then
	loose  bool   // a file of its own; else a line of packed-refs
	bad    bool   // what stands there is not a ref
	packed ID     // what packed-refs says, also below a file
	sum    []byte // of its file
}

// refs is all that a view has below refs, and HEAD.
type refs struct {
	all    map[string]ref // by full name
	head   ref
	packed []byte   // packed-refs as it is
	locks  []string // files of a git that is at work, or was killed
}

func (f *format) parseRef(b []byte) ref {
	r := f.parseRefText(b)
	r.loose, r.sum = true, sum(b)
	return r
}

func (f *format) parseRefText(b []byte) ref {
	text := strings.TrimRight(string(b), " \t\r\n")
	if target, ok := strings.CutPrefix(text, "ref:"); ok {
		target = strings.TrimSpace(target)
		return ref{target: target, bad: !strings.HasPrefix(target, "refs/")}
	}
	id, ok := f.parseID(text)
	return ref{id: id, bad: !ok}
}

const maxRefFile = 4 << 10

// readRefs reads what dir has. That one file is nonsense makes that ref bad and no other.
func readRefs(w *work, f *format, dir Dir) (*refs, error) {
	r := &refs{all: map[string]ref{}}
	var err error
	if r.packed, err = slurp(dir, maxPackedRefs, "packed-refs"); err != nil {
		return nil, err
	}
	for line := range bytes.Lines(r.packed) {
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" || text[0] == '#' || text[0] == '^' {
			continue
		}
		hex, name, _ := strings.Cut(text, " ")
		id, ok := f.parseID(hex)
		if !strings.HasPrefix(name, "refs/") {
			return nil, malformed("packed-refs has a line that is no ref")
		}
		if len(r.all) == maxRefs {
			return nil, tooMuch("more than %d refs", maxRefs)
		}
		r.all[name] = ref{id: id, packed: id, bad: !ok}
	}
	folder, err := dir.Dir("refs")
	if err != nil {
		return nil, err
	}
	err = r.walk(w, f, folder, "refs/", 0)
	folder.Close()
	if err != nil {
		return nil, err
	}
	head, err := slurp(dir, maxRefFile, "HEAD")
	if err != nil {
		return nil, err
	}
	r.head = f.parseRef(head)
	for _, name := range []string{"HEAD.lock", "index.lock", "packed-refs.lock"} {
		if _, err := dir.Kind(name); err == nil {
			r.locks = append(r.locks, name)
		}
	}
	return r, nil
}

func (r *refs) walk(w *work, f *format, dir Dir, prefix string, depth int) error {
	if depth > maxRefDepth {
		return tooMuch("refs nested deeper than %d", maxRefDepth)
	}
	names, err := dir.Names(maxRefs)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.spend(0); err != nil {
			return err
		}
		full := prefix + name
		kind, err := dir.Kind(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if kind == Directory {
			below, err := dir.Dir(name)
			if err != nil {
				return err
			}
			err = r.walk(w, f, below, full+"/", depth+1)
			below.Close()
			if err != nil {
				return err
			}
			continue
		}
		if strings.HasSuffix(name, ".lock") {
			r.locks = append(r.locks, full)
			continue
		}
		packed := r.all[full].packed
		if len(r.all) == maxRefs && packed == "" {
			return tooMuch("more than %d refs", maxRefs)
		}
		value := ref{loose: true, bad: true}
		if kind == Regular {
			b, err := slurp(dir, maxRefFile, name)
			if err == nil && b != nil {
				value = f.parseRef(b)
			} else if err != nil && !errors.Is(err, ErrLimit) {
				return err
			}
		}
		value.packed = packed
		r.all[full] = value
	}
	return nil
}

// headID is the commit that is checked out; empty for a branch without one.
func (r *refs) headID() ID {
	if r.head.target != "" {
		return r.all[r.head.target].id
	}
	return r.head.id
}

// same tells whether both stand for the same value.
func (a ref) same(b ref) bool { return a.id == b.id && a.target == b.target && a.bad == b.bad }

// exactly tells everything of a ref, for what is made from it.
func (a ref) exactly() string {
	return fmt.Sprintf("%x %q %x %t %t", string(a.id), a.target, string(a.packed), a.loose, a.bad)
}

// text is the file of a ref.
func (a ref) text() []byte {
	if a.target != "" {
		return []byte("ref: " + a.target + "\n")
	}
	return []byte(a.id.String() + "\n")
}

// withoutPacked gives packed-refs without the lines of one ref.
func withoutPacked(packed []byte, name string) []byte {
	var out []byte
	skip := false
	for line := range bytes.Lines(packed) {
		if line[0] != '^' {
			_, of, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
			skip = line[0] != '#' && of == name
		}
		if !skip {
			out = append(out, line...)
		}
	}
	return out
}
