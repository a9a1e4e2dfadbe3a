package gitrepo

import (
	"errors"
	"io"
	"io/fs"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Kind is what a name stands for.
type Kind uint8

// Kinds of Dir.Kind.
const (
	Other Kind = iota // FIFO, socket, device
	Regular
	Directory
	Link
)

// Dir is a handle on one directory of a view. Names are single components. What does not exist is an error that is
// fs.ErrNotExist; what is of another kind than asked for is refused and never opened.
type Dir interface {
	// Names lists at most max names, neither "." nor ".."; more of them are an error.
	Names(max int) ([]string, error)
	Kind(name string) (Kind, error)
	Dir(name string) (Dir, error)
	File(name string) (File, error)
	Close()
}

// File is an open regular file. Its size is what it was at opening; it may be changed meanwhile.
type File interface {
	io.ReaderAt
	Size() int64
	Close()
}

// FromNode gives a Dir of a served folder's node; it takes over the reference.
func FromNode(n ninep.Node) Dir { return nodeDir{n} }

type nodeDir struct{ node ninep.Node }

// Types of Attr.Mode, as Linux has them.
const (
	modeType = 0o170000
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

func kindOfMode(mode uint32) Kind {
	switch mode & modeType {
	case modeDir:
		return Directory
	case modeFile:
		return Regular
	case modeLink:
		return Link
	}
	return Other
}

func (d nodeDir) Close() { d.node.Drop() }

func (d nodeDir) walk(name string, kind Kind) (ninep.Node, uint64, error) {
	if !isName(name) {
		return nil, 0, fs.ErrInvalid
	}
	n, err := d.node.Walk(name)
	if err != nil {
		return nil, 0, err
	}
	attr, err := n.Attr()
	if err == nil && kindOfMode(attr.Mode) != kind {
		err = errKind
	}
	if err != nil {
		n.Drop()
		return nil, 0, err
	}
	return n, attr.Size, nil
}

var errKind = errors.New("is not of the kind that git has there")

func isName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return false
		}
	}
	return true
}

func (d nodeDir) Kind(name string) (Kind, error) {
	if !isName(name) {
		return Other, fs.ErrInvalid
	}
	n, err := d.node.Walk(name)
	if err != nil {
		return Other, err
	}
	defer n.Drop()
	attr, err := n.Attr()
	return kindOfMode(attr.Mode), err
}

func (d nodeDir) Dir(name string) (Dir, error) {
	n, _, err := d.walk(name, Directory)
	if err != nil {
		return nil, err
	}
	return nodeDir{n}, nil
}

func (d nodeDir) File(name string) (File, error) {
	n, size, err := d.walk(name, Regular)
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	f, err := n.Open(0)
	if err != nil {
		return nil, err
	}
	return nodeFile{f, int64(size)}, nil
}

func (d nodeDir) Names(max int) ([]string, error) {
	var names []string
	var more error
	err := ninep.EachName(d.node, func(e wire.Dirent) bool {
		if len(names) == max {
			more = tooMuch("a directory with more than %d names", max)
			return false
		}
		names = append(names, e.Name)
		return true
	})
	if err == nil {
		err = more
	}
	if err != nil {
		return nil, err
	}
	return names, nil
}

type nodeFile struct {
	ninep.File
	size int64
}

func (f nodeFile) Size() int64 { return f.size }

// ReadAt is io.ReaderAt's, which ninep.File's is not at the end.
func (f nodeFile) ReadAt(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := f.File.ReadAt(b[done:], offset+int64(done))
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// reach opens the directory at path below d; the caller closes it.
func reach(d Dir, path ...string) (Dir, error) {
	at := d
	for _, name := range path {
		next, err := at.Dir(name)
		if at != d {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// slurp reads a small file whole. Nothing there is nil.
func slurp(d Dir, limit int64, path ...string) ([]byte, error) {
	at := d
	if len(path) > 1 {
		var err error
		if at, err = reach(d, path[:len(path)-1]...); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return nil, err
		}
		defer at.Close()
	}
	f, err := at.File(path[len(path)-1])
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	if f.Size() > limit {
		return nil, tooMuch("%s has more than %d bytes", path[len(path)-1], limit)
	}
	b := make([]byte, f.Size())
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return b[:n], nil
}
