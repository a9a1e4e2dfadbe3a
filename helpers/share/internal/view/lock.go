//go:build linux

package view

import (
	"math"
	"sync"
	"sync/atomic"
	"syscall"

	"cloche/share/internal/wire"
)

// lockTable holds the record locks on a file that is the layer's: between the guest's own processes, each open file an owner.
// The host's programs have another file, so there is nothing to lock against.
type lockTable struct {
	mu   sync.Mutex
	held []heldLock
}

type heldLock struct {
	owner      *file
	kind       uint8
	start, end uint64 // end is exclusive
}

// maxLocks bounds what a guest can make one file hold, and maxAllLocks all of them.
const (
	maxLocks    = 1024
	maxAllLocks = 1 << 16
)

func (n *node) locks() *lockTable { return &n.lockTable }

func span(l wire.Lock) (start, end uint64, err error) {
	if l.Type > wire.LockUnlock || l.Start > math.MaxInt64 || l.Length > math.MaxInt64-l.Start {
		return 0, 0, syscall.EINVAL
	}
	if l.Length == 0 {
		return l.Start, math.MaxUint64, nil
	}
	return l.Start, l.Start + l.Length, nil
}

func (t *lockTable) conflict(owner *file, kind uint8, start, end uint64) *heldLock {
	for i := range t.held {
		h := &t.held[i]
		if h.owner != owner && h.start < end && start < h.end && (h.kind == wire.LockWrite || kind == wire.LockWrite) {
			return h
		}
	}
	return nil
}

func (t *lockTable) set(all *atomic.Int64, owner *file, kind uint8, start, end uint64) (blocked bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kind != wire.LockUnlock && t.conflict(owner, kind, start, end) != nil {
		return true, nil
	}
	var kept []heldLock
	for _, h := range t.held {
		if h.owner != owner || h.end <= start || end <= h.start {
			kept = append(kept, h)
			continue
		}
		if h.start < start {
			kept = append(kept, heldLock{owner, h.kind, h.start, start})
		}
		if end < h.end {
			kept = append(kept, heldLock{owner, h.kind, end, h.end})
		}
	}
	if kind != wire.LockUnlock {
		kept = append(kept, heldLock{owner, kind, start, end})
	}
	more := int64(len(kept) - len(t.held))
	if total := all.Add(more); more > 0 && (len(kept) > maxLocks || total > maxAllLocks) {
		all.Add(-more)
		return false, syscall.ENOLCK
	}
	t.held = kept
	return false, nil
}

func (t *lockTable) drop(all *atomic.Int64, owner *file) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.held[:0]
	for _, h := range t.held {
		if h.owner != owner {
			kept = append(kept, h)
		}
	}
	all.Add(int64(len(kept) - len(t.held)))
	t.held = kept
}

func (f *file) Lock(l wire.Lock) (blocked bool, err error) {
	if f.below && f.low != nil {
		return f.low.Lock(l)
	}
	start, end, err := span(l)
	if err != nil {
		return false, err
	}
	return f.node.locks().set(&f.node.tree.locked, f, l.Type, start, end)
}

func (f *file) GetLock(l wire.Lock) (wire.Lock, error) {
	if f.below && f.low != nil {
		return f.low.GetLock(l)
	}
	start, end, err := span(l)
	if err != nil {
		return l, err
	}
	t := f.node.locks()
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.conflict(f, l.Type, start, end)
	if h == nil {
		l.Type = wire.LockUnlock
		return l, nil
	}
	l.Type, l.Start, l.Length, l.ProcID = h.kind, h.start, 0, 0
	if h.end != math.MaxUint64 {
		l.Length = h.end - h.start
	}
	return l, nil
}
