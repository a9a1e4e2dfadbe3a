package activity

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

const writing = syscall.O_WRONLY | syscall.O_RDWR | syscall.O_TRUNC

// Tree is a watched tree.
type Tree struct {
	ninep.Tree
	to *recorder
}

// Watch gives a tree that answers as inner does and hands what happens to tell. tell is called by one at a time, with batches that
// count up from 1. failed, which may be nil, is told each failure with the path of what failed.
func Watch(inner ninep.Tree, tell func(batch uint64, entries []Entry), failed func(err error, path string)) *Tree {
	t := &Tree{Tree: inner, to: newRecorder(tell)}
	t.to.failed = failed
	return t
}

// Flush hands over what has come so far, now or as soon as earlier batches are recorded.
func (t *Tree) Flush() { t.to.Flush() }

// Recorded says that all batches up to this one are written down.
func (t *Tree) Recorded(batch uint64) { t.to.Recorded(batch) }

func (t *Tree) Root() ninep.Node { return &node{Node: t.Tree.Root(), to: t.to} }

// node is a handle with the name it was walked by.
type node struct {
	ninep.Node
	to *recorder
	// at is nil at the root; a rename through this handle sets another one.
	at atomic.Pointer[place]
}

type place struct {
	above *node
	name  string
}

func handle(inner ninep.Node, to *recorder, above *node, name string) *node {
	n := &node{Node: inner, to: to}
	n.at.Store(&place{above, name})
	return n
}

// path joins the names on the way up. It has an end whatever renames have made of the handles: a path longer than the
// protocol takes is cut there anyway.
func (n *node) path() string {
	var names []string
	length := 0
	for at := n.at.Load(); at != nil && length <= maxPath; at = at.above.at.Load() {
		names = append(names, at.name)
		length += len(at.name) + 1
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

func (n *node) below(name string) string {
	if above := n.path(); above != "" {
		return above + "/" + name
	}
	return name
}

func (n *node) did(what, path string) { n.to.record(Entry{What: what, Path: path, Count: 1}) }

// answer tells of a refusal, and of nothing else that fails: what is not there or not empty is no act.
func (n *node) answer(err error, path string) error {
	if n.to.failed != nil && err != nil {
		n.to.failed(err, path)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.ELOOP, syscall.ENXIO, syscall.ENOSPC, syscall.EDQUOT:
			n.to.record(Entry{What: Refused, Path: path, Reason: errno.Error(), Count: 1})
		}
	}
	return err
}

// done tells of what was done, or of its refusal.
func (n *node) done(err error, what, path string) error {
	if err != nil {
		return n.answer(err, path)
	}
	n.did(what, path)
	return nil
}

func (n *node) Walk(name string) (ninep.Node, error) {
	to, err := n.Node.Walk(name)
	if err != nil {
		return nil, n.answer(err, n.below(name))
	}
	return handle(to, n.to, n, name), nil
}

func (n *node) Parent() ninep.Node {
	parent := &node{Node: n.Node.Parent(), to: n.to}
	if at := n.at.Load(); at != nil {
		parent.at.Store(at.above.at.Load())
	}
	return parent
}

func (n *node) Open(flags uint32) (ninep.File, error) {
	f, err := n.Node.Open(flags)
	if err != nil {
		return nil, n.answer(err, n.path())
	}
	if flags&writing == 0 {
		return f, nil
	}
	path := n.path()
	n.did(OpenedForWrite, path)
	return &file{File: f, node: n, what: OpenedForWrite, path: path}, nil
}

func (n *node) Create(name string, flags, mode uint32) (ninep.Node, ninep.File, error) {
	path := n.below(name)
	to, f, err := n.Node.Create(name, flags, mode)
	if err != nil {
		return nil, nil, n.answer(err, path)
	}
	n.did(Created, path)
	made := handle(to, n.to, n, name)
	return made, &file{File: f, node: made, what: Created, path: path}, nil
}

func (n *node) Mkdir(name string, mode uint32) (wire.QID, error) {
	qid, err := n.Node.Mkdir(name, mode)
	return qid, n.done(err, Created, n.below(name))
}

func (n *node) Mknod(name string, mode uint32) (wire.QID, error) {
	qid, err := n.Node.Mknod(name, mode)
	return qid, n.done(err, Created, n.below(name))
}

func (n *node) Symlink(name, target string) (wire.QID, error) {
	qid, err := n.Node.Symlink(name, target)
	return qid, n.done(err, Created, n.below(name))
}

func (n *node) Link(name string, target ninep.Node) error {
	return n.done(n.Node.Link(name, bare(target)), Created, n.below(name))
}

func (n *node) Unlink(name string, directory bool) error {
	return n.done(n.Node.Unlink(name, directory), Deleted, n.below(name))
}

func (n *node) Remove() error { return n.done(n.Node.Remove(), Deleted, n.path()) }

func (n *node) Rename(name string, to ninep.Node, newName string) error {
	return n.renamed(n.Node.Rename(name, bare(to), newName), n.below(name), to, newName)
}

func (n *node) RenameTo(to ninep.Node, name string) error {
	from := n.path()
	err := n.renamed(n.Node.RenameTo(bare(to), name), from, to, name)
	if watched, ok := to.(*node); ok && err == nil {
		n.at.Store(&place{watched, name})
	}
	return err
}

func (n *node) renamed(err error, from string, to ninep.Node, name string) error {
	if err != nil {
		return n.answer(err, from)
	}
	path := name
	if watched, ok := to.(*node); ok {
		path = watched.below(name)
	}
	n.to.record(Entry{What: Renamed, Path: from, To: path, Count: 1})
	return nil
}

func (n *node) SetAttr(change wire.SetAttr, open ninep.File) error {
	if f, ok := open.(*file); ok {
		open = f.File
	}
	what := Metadata
	if change.Valid&wire.SetSize != 0 {
		what = OpenedForWrite // a truncation is a write by another name
	}
	return n.done(n.Node.SetAttr(change, open), what, n.path())
}

func (n *node) SetXattr(name string, value []byte, flags uint32) error {
	return n.done(n.Node.SetXattr(name, value, flags), Metadata, n.path())
}

// file counts what is written to it until it is closed.
type file struct {
	ninep.File
	node    *node
	what    string
	path    string
	written atomic.Uint64
}

func (f *file) WriteAt(b []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(b, offset)
	if n > 0 {
		f.written.Add(uint64(n))
	}
	if err != nil {
		err = f.node.answer(err, f.path)
	}
	return n, err
}

func (f *file) Close() {
	f.File.Close()
	if written := f.written.Load(); written > 0 {
		f.node.to.record(Entry{What: f.what, Path: f.path, Bytes: written})
	}
}

// bare is the inner node: a tree is given its own.
func bare(n ninep.Node) ninep.Node {
	if watched, ok := n.(*node); ok {
		return watched.Node
	}
	return n
}
