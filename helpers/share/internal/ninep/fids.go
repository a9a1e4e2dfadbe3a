package ninep

import (
	"sync"
	"sync/atomic"
	"syscall"

	"cloche/share/internal/wire"
)

// fid is one of the client's handles. The table holds one reference, each request in flight another, so a clunk
// beside a slow read takes the number away at once and the file only when the read is done.
type fid struct {
	refs   atomic.Int32
	locked atomic.Bool // a lock was taken through it once

	mu    sync.Mutex // guards what follows
	node  Node
	file  File   // nil until opened
	xattr *xattr // a fid made by xattrwalk or turned by xattrcreate
	value *value // what xattr may hold
}

func newFid(n Node) *fid {
	f := &fid{node: n}
	f.refs.Store(1)
	return f
}

func (f *fid) release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	if f.file != nil {
		f.file.Close()
	}
	if f.node != nil {
		f.node.Drop()
	}
	if f.value != nil {
		f.value.of.Add(-f.value.bytes)
	}
}

// opened gives the open file.
func (f *fid) opened() (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil, syscall.EBADF
	}
	return f.file, nil
}

// handle gives the node with a reference, as a walk may give the fid another meanwhile; EBADF for a fid that stands for an
// attribute.
func (f *fid) handle() (Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.xattr != nil {
		return nil, syscall.EBADF
	}
	f.node.Hold()
	return f.node, nil
}

// fidTable maps numbers to fids, up to a limit.
type fidTable struct {
	mu    sync.Mutex
	fids  map[uint32]*fid
	limit int
	count *atomic.Int64 // the server's total, for stats
}

// get gives the fid with a reference for the caller.
func (t *fidTable) get(number uint32) (*fid, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.fids[number]
	if f == nil {
		return nil, syscall.EBADF
	}
	f.refs.Add(1)
	return f, nil
}

// put adds a fid and takes over its reference, also when it fails.
func (t *fidTable) put(number uint32, f *fid) error {
	t.mu.Lock()
	var err error
	switch {
	case number == wire.NoFid:
		err = syscall.EINVAL
	case t.fids[number] != nil:
		err = syscall.EBADF
	case len(t.fids) >= t.limit:
		err = syscall.ENFILE
	default:
		t.fids[number] = f
		t.count.Add(1)
	}
	t.mu.Unlock()
	if err != nil {
		f.release()
	}
	return err
}

// take removes a fid; the table's reference becomes the caller's.
func (t *fidTable) take(number uint32) (*fid, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.fids[number]
	if f == nil {
		return nil, syscall.EBADF
	}
	delete(t.fids, number)
	t.count.Add(-1)
	return f, nil
}

func (t *fidTable) clear() {
	t.mu.Lock()
	old := t.fids
	t.fids = map[uint32]*fid{}
	t.count.Add(-int64(len(old)))
	t.mu.Unlock()
	for _, f := range old {
		f.release()
	}
}
