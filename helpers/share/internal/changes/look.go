//go:build linux

package changes

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// lookout looks at the folder's files by path. It keeps the directories of the last path, as lists come in order.
type lookout struct {
	names []string
	dirs  []ninep.Node // dirs[0] is the root; one more than names
	// trouble is why something could not be looked at that may be there: what was found is no answer then.
	trouble error
	// left is how many names it still looks at in directories that were made again.
	left int
}

// missing tells whether an error means that nothing is there.
func missing(err error) bool {
	for _, none := range []error{unix.ENOENT, unix.ENOTDIR, unix.ESTALE, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}

// short tells whether an error is want of descriptors or memory: another look may find what this one did not.
func short(err error) bool {
	for _, want := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// note keeps an error that is no answer, and tells whether nothing is there.
func (l *lookout) note(err error) bool {
	if l.trouble == nil && short(err) {
		l.trouble = fmt.Errorf("the folder cannot be looked through: %w", err)
	}
	return missing(err)
}

func newLookout(lower ninep.Tree) *lookout {
	return &lookout{dirs: []ninep.Node{lower.Root()}, left: maxCarried}
}

func (l *lookout) close() {
	for _, dir := range l.dirs {
		dir.Drop()
	}
	l.dirs, l.names = nil, nil
}

// node walks to a path; an error means that nothing (that may be seen) is there. The caller drops it.
func (l *lookout) node(path string) (ninep.Node, error) {
	parts := layer.Components(path)
	if len(parts) == 0 {
		l.dirs[0].Hold()
		return l.dirs[0], nil
	}
	above := parts[:len(parts)-1]
	same := 0
	for same < len(above) && same < len(l.names) && above[same] == l.names[same] {
		same++
	}
	for len(l.names) > same {
		l.dirs[len(l.dirs)-1].Drop()
		l.dirs, l.names = l.dirs[:len(l.dirs)-1], l.names[:len(l.names)-1]
	}
	for _, name := range above[same:] {
		next, err := l.dirs[len(l.dirs)-1].Walk(name)
		if err != nil {
			return nil, err
		}
		l.dirs, l.names = append(l.dirs, next), append(l.names, name)
	}
	return l.dirs[len(l.dirs)-1].Walk(parts[len(parts)-1])
}

// base tells what stands at a path; nil: nothing that could be a change's.
func (l *lookout) base(path string) *layer.Base {
	n, err := l.node(path)
	if err != nil && l.note(err) {
		return nil
	}
	if err != nil {
		return &layer.Base{Path: path} // what may not be looked at: something, of no kind
	}
	defer n.Drop()
	object, ok := n.(view.Object)
	if !ok {
		return nil
	}
	b, err := view.Identity(object, path)
	if err != nil {
		l.note(err)
		return &layer.Base{Path: path} // a FIFO or a device: something, of no kind
	}
	return b
}

// has tells whether a directory has a name as the host finds it, or may not be looked at; see names.Look.
func (l *lookout) has(directory, name string) bool {
	n, err := l.node(directory)
	if err != nil {
		return !l.note(err)
	}
	defer n.Drop()
	object, ok := n.(view.Object)
	if !ok {
		return false
	}
	there, isDirectory := object.Has(name)
	return there && !(isDirectory && name == "HEAD")
}

// link gives a link's text; empty when there is none.
func (l *lookout) link(path string) string {
	n, err := l.node(path)
	if err != nil {
		l.note(err)
		return ""
	}
	defer n.Drop()
	text, err := n.Readlink()
	if err != nil {
		l.note(err)
		return ""
	}
	return text
}

// read gives a file's bytes, at most max.
func (l *lookout) read(path string, max int64) ([]byte, error) {
	n, err := l.node(path)
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	f, err := n.Open(0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(readerAt{f}, max)
}

// readerAt is a file of ninep as io has it.
type readerAt struct{ f ninep.File }

func (r readerAt) ReadAt(b []byte, at int64) (int, error) {
	n, err := r.f.ReadAt(b, at)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func readAll(r io.ReaderAt, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.NewSectionReader(r, 0, max+1))
	if err == nil && int64(len(data)) > max {
		err = errTooLarge
	}
	return data, err
}

var errTooLarge = fmt.Errorf("more bytes than are compared")

// maxCarried bounds how many names a list looks at in directories that were moved up, and in those that were made again.
const maxCarried = 20_000

// leads tells whether a link in one of the folder's directories leads out of the folder once that is moved up; also where
// there is more than can be looked at.
func (l *lookout) leads(from, to string, left *int) bool {
	found := false
	for todo := []string{""}; len(todo) > 0 && !found; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		dir, err := l.node(strings.TrimSuffix(layer.Join(from, at), "/"))
		if err != nil {
			found = !l.note(err)
			continue // gone meanwhile, or hidden
		}
		err = ninep.EachName(dir, func(d wire.Dirent) bool {
			if *left--; *left < 0 {
				found = true
				return false
			}
			path := layer.Join(at, d.Name)
			switch {
			case d.QID.Type&wire.QTDir != 0:
				todo = append(todo, path)
			case d.QID.Type&wire.QTSymlink != 0:
				link, err := dir.Walk(d.Name)
				if err != nil {
					found = !l.note(err)
					return !found
				}
				defer link.Drop()
				target, err := link.Readlink()
				found = err != nil || linkFlag(layer.Join(to, path), target) != "" && linkFlag(layer.Join(from, path), target) == ""
			}
			return !found
		})
		dir.Drop()
		found = found || err != nil
	}
	return found
}

// leaves tells whether the way of a link's text from where the link is goes out of the folder through links that the folder has. Those
// of the task's are changes of their own.
func (l *lookout) leaves(path, target string) bool {
	return names.WayLeads(layer.Components(parentOf(path)), target, func(at []string) (string, error) {
		n, err := l.node(strings.Join(at, "/"))
		if err != nil && l.note(err) {
			return "", err
		}
		if err != nil {
			return "/", nil
		}
		defer n.Drop()
		return view.LinkText(n), nil
	})
}

func parentOf(path string) string {
	if at := strings.LastIndexByte(path, '/'); at >= 0 {
		return path[:at]
	}
	return ""
}
