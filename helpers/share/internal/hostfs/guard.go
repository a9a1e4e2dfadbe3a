//go:build linux

package hostfs

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
	"cloche/share/internal/versions"
)

// Keeper keeps what would be destroyed; versions.Store is one. An error means that nothing may be destroyed.
type Keeper interface {
	// Move takes the victim out of the folder, or says that it cannot.
	Move(versions.Victim) (moved bool, err error)
	// Keep copies the victim.
	Keep(versions.Victim) error
	// KeepPart begins a version of a large file that is overwritten; nil: Keep is the way.
	KeepPart(versions.Victim) (*versions.Part, error)
	// Note remembers a directory that was removed.
	Note(versions.Victim) error
}

// guard stands before every operation that destroys content. Content that this server itself wrote last needs no
// keeping: it remembers each file's size and times as it left them, and any difference means that somebody else
// changed the file since.
//
// Locks, in this order: an inode's own; swap; mu; a node's place.
type guard struct {
	tree   *Tree
	keeper Keeper

	// swap is held for writing while handles change from one inode to another, and for reading while one is made.
	swap sync.RWMutex

	mu     sync.Mutex
	inodes map[object]*inode
	left   map[object]leftAs
	parts  map[object]*versions.Part // of large files that this server is overwriting

	// fine tells whether the folder's filesystem has fine times, see finelyTimed. It is asked at the first write.
	fine func() bool
}

// object is an inode's identity on the host.
type object struct{ device, number uint64 }

// inode is a regular file or link that is held or being changed.
type inode struct {
	object object
	refs   int                // guarded by guard.mu
	nodes  map[*node]struct{} // guarded by guard.mu
	change sync.Mutex         // held by whoever changes the file
	// taken: its only place is the store now, so that it must not be changed. foreign: it had names that this server
	// did not make when one was removed. Both guarded by change.
	taken, foreign bool
}

// leftAs is a file as this server left it.
type leftAs struct {
	ours         bool // this server wrote its content last
	size         int64
	mtime, ctime unix.Timespec
	// inside is how many of its hard links were surely made by this server, all within the folder; 0 means 1. It counts
	// only while nobody else has touched the inode, which may have lost one of these names and got one elsewhere.
	inside uint64
}

// maxLeft bounds guard.left. Forgetting an entry costs a version that was not needed, or a link that is broken
// without need, nothing else.
const maxLeft = 1 << 16

func newGuard(t *Tree, k Keeper) *guard {
	return &guard{
		tree: t, keeper: k, inodes: map[object]*inode{}, left: map[object]leftAs{}, parts: map[object]*versions.Part{},
		fine: sync.OnceValue(func() bool { return finelyTimed(t.root.fd) }),
	}
}

func objectOf(st *unix.Stat_t) object { return object{st.Dev, st.Ino} }

// hold gives the inode's entry with one more reference.
func (g *guard) hold(o object) *inode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holdLocked(o)
}

func (g *guard) holdLocked(o object) *inode {
	i := g.inodes[o]
	if i == nil {
		i = &inode{object: o, nodes: map[*node]struct{}{}}
		g.inodes[o] = i
	}
	i.refs++
	return i
}

func (g *guard) release(i *inode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.releaseLocked(i)
}

func (g *guard) releaseLocked(i *inode) {
	if i.refs--; i.refs == 0 {
		delete(g.inodes, i.object)
	}
}

// enter makes a node known by its inode; swap is held for reading.
func (g *guard) enter(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.holdLocked(object{n.device, n.inode})
	i.nodes[n] = struct{}{}
	n.held.Store(i)
}

func (g *guard) leave(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := n.held.Load()
	delete(i.nodes, n)
	g.releaseLocked(i)
}

// lock locks the inode that the node stands for right now.
func (g *guard) lock(n *node) *inode {
	for {
		i := n.held.Load()
		i.change.Lock()
		if n.held.Load() == i {
			return i
		}
		i.change.Unlock()
	}
}

// leftOf gives what is remembered of a file, if the file is as it was then.
func (g *guard) leftOf(st *unix.Stat_t) leftAs {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.left[objectOf(st)]
	l.ours = l.ours && l.size == st.Size && l.mtime == st.Mtim && l.ctime == st.Ctim
	if l.inside == 0 || l.ctime != st.Ctim {
		l.inside = 1
	}
	return l
}

func (g *guard) remember(st *unix.Stat_t, ours bool, inside uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := objectOf(st)
	if !ours && inside <= 1 {
		delete(g.left, o)
		return
	}
	if _, known := g.left[o]; !known && len(g.left) >= maxLeft {
		for other := range g.left {
			delete(g.left, other)
			break
		}
	}
	g.left[o] = leftAs{ours: ours, size: st.Size, mtime: st.Mtim, ctime: st.Ctim, inside: inside}
}

func (g *guard) forget(o object) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.left, o)
}

// made remembers what this server made just now.
func (g *guard) made(dir *node, name string) {
	var st unix.Stat_t
	if unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		g.remember(&st, true, 1)
	}
}

// madeDirectory tells whether this server made a directory, whatever became of it since, and forgets it.
func (g *guard) madeDirectory(st *unix.Stat_t) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := objectOf(st)
	ours := g.left[o].ours
	delete(g.left, o)
	return ours
}

// part gives the version that a file is growing, if it still can: the file is as this server left it.
func (g *guard) part(o object, ours bool) *versions.Part {
	g.mu.Lock()
	p := g.parts[o]
	g.mu.Unlock()
	if p != nil && !ours {
		g.endPart(o)
		return nil
	}
	return p
}

func (g *guard) endPart(o object) {
	g.mu.Lock()
	p := g.parts[o]
	delete(g.parts, o)
	g.mu.Unlock()
	if p != nil {
		p.Close()
	}
}

// complete makes the version of a file whole, before it gets another name or time.
func (g *guard) complete(o object, ours bool) error {
	p := g.part(o, ours)
	if p == nil {
		return nil
	}
	if err := p.Complete(); err != nil {
		return err
	}
	g.endPart(o)
	return nil
}

// completeHeld does so for a file that nobody has locked.
func (g *guard) completeHeld(o object) error {
	if !g.grows(o) {
		return nil
	}
	i := g.hold(o)
	defer g.release(i)
	i.change.Lock()
	defer i.change.Unlock()
	g.mu.Lock()
	p := g.parts[o]
	g.mu.Unlock()
	if p == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.Descriptor(), &st); err != nil {
		return err
	}
	return g.complete(o, g.leftOf(&st).ours)
}

// grows tells whether a file has a version that is a part.
func (g *guard) grows(o object) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.parts[o] != nil
}

// completeBeneath does so for all files of a directory.
func (g *guard) completeBeneath(path []string) error {
	prefix := strings.Join(path, "/") + "/"
	g.mu.Lock()
	var found []object
	for o, p := range g.parts {
		if strings.HasPrefix(p.Path(), prefix) {
			found = append(found, o)
		}
	}
	g.mu.Unlock()
	for _, o := range found {
		if err := g.completeHeld(o); err != nil {
			return err
		}
	}
	return nil
}

// keepFrom keeps what an operation takes away between two offsets of a file that is not ours, or only in part. kept is false
// when nothing needed it.
func (g *guard) keepFrom(n *node, o object, reason versions.Reason, ours bool, from, to int64) (kept bool, err error) {
	part := g.part(o, ours)
	if !ours {
		v := versions.Victim{Path: n.path(), FD: n.fd, Reason: reason}
		if part, err = g.keeper.KeepPart(v); err != nil {
			return false, err
		}
		if part == nil {
			return true, g.keeper.Keep(v)
		}
		g.mu.Lock()
		g.parts[o] = part
		g.mu.Unlock()
	}
	if part == nil {
		return false, nil
	}
	if err := part.Save(from, to); err != nil {
		g.endPart(o) // what was saved stays; the next try begins anew
		g.forget(o)
		return false, err
	}
	return true, nil
}

// keepTries is how often a file is kept once more because somebody else wrote to it meanwhile.
const keepTries = 8

// unwritten tells whether nobody wrote to a file between two looks at it.
func unwritten(before, after *unix.Stat_t) bool {
	return before.Size == after.Size && before.Mtim == after.Mtim
}

// change does what changes a file in place. destroys tells between which offsets that takes content away from a file
// as it is; that is kept first. A file with a name that this server did not make, which may lie outside the folder, is
// separated from that name first. do gets no descriptor: those of n and its open files stay valid throughout.
func (n *node) change(reason versions.Reason, destroys func(*unix.Stat_t) (from, to int64), do func() error) error {
	g := n.tree.guard
	if g == nil || n.held.Load() == nil {
		return do()
	}
	i := g.lock(n)
	defer func() { i.change.Unlock() }()
	var st unix.Stat_t
	var left leftAs
	ours := false
	// Keeping and copying take their time, in which others change the file or its names: then it is looked at anew.
	for try := 0; ; try++ {
		if try == keepTries {
			return syscall.EAGAIN
		}
		if err := unix.Fstat(n.fd, &st); err != nil {
			return err
		}
		left = g.leftOf(&st)
		if !left.ours && st.Nlink > 0 && !i.taken && !n.isLost() && n.isOutside() {
			return syscall.ESTALE
		}
		if i.taken || st.Nlink > left.inside || i.foreign && st.Nlink > 0 && n.isLost() {
			var err error
			if i, err = g.separate(n, i, &st); err != nil && err != errNamesChanged {
				return err
			}
			continue
		}
		ours = left.ours || st.Size == 0
		if destroys == nil {
			// Times are what a part goes by.
			if err := g.complete(i.object, left.ours); err != nil {
				return err
			}
			break
		}
		from, to := destroys(&st)
		if st.Nlink == 0 || from >= to {
			break // a file without a name is gone for everybody but the guest
		}
		kept, err := g.keepFrom(n, i.object, reason, ours, from, to)
		if err != nil {
			return err
		}
		if kept {
			var now unix.Stat_t
			if err := unix.Fstat(n.fd, &now); err != nil {
				return err
			}
			if !unwritten(&st, &now) {
				continue
			}
		}
		ours = true
		break
	}
	err := do()
	if ours || left.inside > 1 {
		if statErr := unix.Fstat(n.fd, &st); statErr != nil {
			g.forget(i.object)
		} else {
			if destroys == nil && st.Mtim == st.Ctim && st.Size > 0 {
				ours = false // a write by somebody else within this tick would leave just these times
			}
			g.remember(&st, ours, left.inside)
		}
	}
	return err
}

// stamp gives a file that was just written a time of its own. Where the kernel's own is only as fine as its tick, a write by
// somebody else within that would leave the same times.
func (n *node) stamp(fd int) {
	now := time.Now().UnixNano()
	g, o := n.tree.guard, n.held.Load().object
	g.mu.Lock()
	part := g.parts[o]
	g.mu.Unlock()
	switch {
	case part != nil:
		now = now&^versions.MarkMask | part.Mark()
	case o.device == n.tree.device && g.fine():
		return // what change finds afterwards, no write by another leaves
	}
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(now)}
	_ = futimens(fd, &times) // without it a change by another within a tick goes unseen, as everywhere
}

// finelyTimed tells whether a file's times, once somebody has looked at them, are others after the next write, however soon that comes:
// Linux gives such times since 6.13, on the filesystems that it was taught them for. A file without a name is written to find out.
func finelyTimed(dir int) bool {
	// The tick is a millisecond or longer, so that coarse times are no more than two different ones within one.
	const writes, within = 8, time.Millisecond
	fd, err := unix.Openat(dir, ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	for range 8 { // somebody else may have had the processor meanwhile
		var last unix.Stat_t
		begun, different := time.Now(), 0
		for range writes {
			var st unix.Stat_t
			if _, err := unix.Pwrite(fd, []byte{0}, 0); err != nil {
				return false
			}
			if err := unix.Fstat(fd, &st); err != nil {
				return false
			}
			if st.Ctim != last.Ctim && st.Mtim != last.Mtim {
				different++
			}
			last = st
		}
		if time.Since(begun) < within {
			return different == writes
		}
	}
	return false
}

// temporaryName is for what is about to take the place of something. One that is left over comes from a server that was killed meanwhile,
// and is the same as what has the place, or as the version that was restored there.
func temporaryName() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return names.TemporaryPrefix + hex.EncodeToString(b[:])
}

// separate gives the node a copy of its file that nobody else has a name for, in the same place, and moves all handles
// on that place to it. i.change is held; on success the copy's is held instead, else still i's. errNamesChanged: the host
// changed the file or its name meanwhile, and nothing was done.
func (g *guard) separate(n *node, i *inode, st *unix.Stat_t) (*inode, error) {
	parent, name, err := n.whereabouts()
	if err == syscall.EBUSY {
		return i, err
	}
	if parent != nil {
		defer parent.Drop()
	}
	nameless := i.taken || n.isLost()
	here := err == nil && !nameless
	if !here && !nameless {
		// Moved on the host, to a place unknown: nobody can say which of the names may be written through.
		return i, syscall.ESTALE
	}
	if err := g.completeMarked(i.object, st); err != nil {
		return i, err // it rests on this very file, which the copy is not
	}
	from, err := n.reopen(unix.O_RDONLY)
	if err != nil {
		return i, err
	}
	defer unix.Close(from)
	temporary := ""
	var to int
	if here {
		temporary = temporaryName()
		to, err = unix.Openat(parent.fd, temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	} else {
		to, err = unix.Openat(g.tree.root.fd, ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return i, err
	}
	defer unix.Close(to)
	undo := func(err error) (*inode, error) {
		if temporary != "" {
			_ = unix.Unlinkat(parent.fd, temporary, 0)
		}
		return i, err
	}
	if err := versions.CopyContent(to, from); err != nil {
		return undo(err)
	}
	mode := st.Mode & permissions
	if err := retry(func() error { return unix.Fchmod(to, mode) }); err != nil {
		return undo(err)
	}
	if err := futimens(to, &[2]unix.Timespec{st.Atim, st.Mtim}); err != nil {
		return undo(err)
	}
	// Durable before it replaces: the outside name may be the only other one, and belongs to somebody else.
	if here {
		if err := retry(func() error { return unix.Fsync(to) }); err != nil {
			return undo(err)
		}
	}
	var copied unix.Stat_t
	if err := unix.Fstat(to, &copied); err != nil {
		return undo(err)
	}
	g.swap.Lock()
	defer g.swap.Unlock()
	next := g.hold(objectOf(&copied))
	next.change.Lock()
	g.mu.Lock()
	defer g.mu.Unlock()
	turns, err := g.turns(n, i, to, mode, func(other *node) bool {
		return other == n || here && other.isAt(parent, name) || !here && (i.taken || other.isLost())
	})
	if err == nil && here {
		err = parent.substitute(temporary, name, objectOf(&copied), from, i.object, st)
	}
	if err != nil {
		for _, t := range turns {
			t.close()
		}
		next.change.Unlock()
		g.releaseLocked(next)
		if err == errNamesChanged {
			return i, err // what stands at the temporary name is seen to
		}
		return undo(err)
	}
	for _, t := range turns {
		t.commit(next.object)
		delete(i.nodes, t.node)
		g.releaseLocked(i)
		next.refs++
		next.nodes[t.node] = struct{}{}
		t.node.held.Store(next)
	}
	g.releaseLocked(next)
	i.change.Unlock()
	return next, nil
}

// completeMarked makes a part whole whose mark the file still has.
func (g *guard) completeMarked(o object, st *unix.Stat_t) error {
	g.mu.Lock()
	p := g.parts[o]
	g.mu.Unlock()
	return g.complete(o, p != nil && st.Mtim.Nano()&versions.MarkMask == p.Mark())
}

// substitute puts the copy at the temporary name in the place of the file it was made of, which loses the name. With
// errNamesChanged name leads to what it led to before.
func (n *node) substitute(temporary, name string, copied object, from int, original object, st *unix.Stat_t) error {
	at := func(name string, o object) bool {
		var there unix.Stat_t
		return unix.Fstatat(n.fd, name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && objectOf(&there) == o
	}
	same := func() bool {
		var now unix.Stat_t
		return unix.Fstat(from, &now) == nil && unwritten(st, &now)
	}
	remove := func() error { return retry(func() error { return unix.Unlinkat(n.fd, temporary, 0) }) }
	// The two change places, so that the host's own next file at that name is never what is removed.
	exchange := func() error {
		return retry(func() error { return unix.Renameat2(n.fd, temporary, n.fd, name, unix.RENAME_EXCHANGE) })
	}
	switch err := exchange(); err {
	case nil:
	case unix.ENOENT:
		_ = remove()
		return errNamesChanged
	case unix.EINVAL, unix.ENOSYS, unix.EPERM:
		if !at(name, original) || !same() {
			_ = remove()
			return errNamesChanged
		}
		return retry(func() error { return unix.Renameat(n.fd, temporary, n.fd, name) })
	default:
		return err
	}
	if at(temporary, original) && same() {
		err := remove()
		if err == nil {
			return nil
		}
		if back := exchange(); back != nil {
			return back
		}
		return err
	}
	if err := exchange(); err != nil {
		return err
	}
	if at(temporary, copied) { // else the host has saved once more just now, and that stays
		_ = remove()
	}
	return errNamesChanged
}

// turn is a node that is about to stand for another file: descriptors of that file, for its own and for those of its open files.
type turn struct {
	node *node
	with []turnTo
}

type turnTo struct {
	file *file // nil: the node's own
	fd   int
}

// turns opens all that is needed to make nodes of i ones of the file behind to, so that nothing of it can fail later: a handle
// that stays would be one on a file outside. g.mu is held.
func (g *guard) turns(n *node, i *inode, to int, mode uint32, chosen func(*node) bool) (all []*turn, err error) {
	if mode&0o600 != 0o600 {
		// An open file may have been opened when its mode allowed more.
		if err := retry(func() error { return unix.Fchmod(to, mode|0o600) }); err != nil {
			return nil, err
		}
		defer func() {
			if back := retry(func() error { return unix.Fchmod(to, mode) }); err == nil {
				err = back
			}
		}()
	}
	number := strconv.Itoa(to)
	for other := range i.nodes {
		if !chosen(other) {
			continue
		}
		t, err := other.prepare(g.tree.options.Proc, number)
		if err != nil {
			return all, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (n *node) prepare(proc int, number string) (*turn, error) {
	n.place.Lock()
	defer n.place.Unlock()
	t := &turn{node: n}
	open := func(f *file, flags int) error {
		fd, err := unix.Openat(proc, number, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			t.with = append(t.with, turnTo{f, fd})
		}
		return err
	}
	shared := false
	for f := range n.files {
		flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
		if err == nil {
			if f.shared {
				shared, f = true, nil
			}
			err = open(f, flags&(unix.O_ACCMODE|unix.O_APPEND|unix.O_SYNC|unix.O_DSYNC))
		}
		if err != nil {
			t.close()
			return nil, err
		}
	}
	if !shared {
		if err := open(nil, unix.O_PATH); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

// commit puts the descriptors in the place of the node's, whose numbers stay. Locks on the open files are lost.
func (t *turn) commit(to object) {
	n := t.node
	n.place.Lock()
	defer n.place.Unlock()
	for _, w := range t.with {
		fd := n.fd
		if w.file != nil {
			fd = w.file.fd
			if _, open := n.files[w.file]; !open {
				continue // closed meanwhile, and the number is another's
			}
		}
		_ = retry(func() error { return unix.Dup3(w.fd, fd, unix.O_CLOEXEC) }) // both are open, so that it cannot fail
	}
	t.close()
	n.now = to
}

func (t *turn) close() {
	for _, w := range t.with {
		unix.Close(w.fd)
	}
}

// isAt tells whether the node was walked to by this name.
func (n *node) isAt(parent *node, name string) bool {
	n.place.Lock()
	defer n.place.Unlock()
	return n.parent != nil && n.parent.device == parent.device && n.parent.inode == parent.inode && n.name == name
}

// deleted ends what the kernel tells of a name that was removed.
const deleted = " (deleted)"

// isOutside tells whether a file that has names is none of the folder's by this one: the server of another task moved it into the
// store, or the host took it, or a directory above it, elsewhere.
func (n *node) isOutside() bool {
	if n.isAway() {
		return true
	}
	if at, err := n.tree.options.where(n.number()); err != nil || !strings.HasSuffix(at, deleted) {
		return false
	}
	parent, _, err := n.whereabouts()
	if err != nil {
		return true
	}
	parent.Drop()
	return false // it is called so
}

// path is where the node was walked to, as components from the folder.
func (n *node) path() []string {
	var up []string
	for at := n; at != nil; {
		at.place.Lock()
		parent, name := at.parent, at.name
		at.place.Unlock()
		if parent != nil {
			up = append(up, name)
		}
		at = parent
	}
	for i, j := 0, len(up)-1; i < j; i, j = i+1, j-1 {
		up[i], up[j] = up[j], up[i]
	}
	return up
}

func (n *node) pathOf(name string) []string { return append(n.path(), name) }

// victim is what a name leads to.
type victim struct {
	fd int
	st unix.Stat_t
}

func (n *node) victim(name string) (*victim, error) {
	fd, err := n.openPath(name)
	if err != nil {
		return nil, err
	}
	v := &victim{fd: fd}
	if err := unix.Fstat(fd, &v.st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return v, nil
}

func (v *victim) close() { unix.Close(v.fd) }

func (v *victim) hasContent() bool {
	kind := kindOf(v.st.Mode)
	return kind == regular || kind == symlink
}

// stillAt tells whether the name still leads to the victim.
func (v *victim) stillAt(dir *node, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && objectOf(&st) == objectOf(&v.st)
}

func (n *node) isLost() bool {
	n.place.Lock()
	defer n.place.Unlock()
	return n.lost
}

// gone notes that a victim lost one name; kept tells that the store has it now.
func (g *guard) gone(i *inode, v *victim, dir *node, name string, kept bool) {
	g.mu.Lock()
	for n := range i.nodes {
		if n.isAt(dir, name) {
			n.place.Lock()
			n.lost = true
			n.place.Unlock()
		}
	}
	g.mu.Unlock()
	if kept {
		// With more names, the others may be the folder's still.
		i.taken, i.foreign = v.st.Nlink == 1, v.st.Nlink > 1
		g.forget(i.object)
		return
	}
	left := g.leftOf(&v.st)
	var st unix.Stat_t
	if v.st.Nlink > 1 && unix.Fstat(v.fd, &st) == nil {
		inside := uint64(1)
		if left.inside >= v.st.Nlink {
			inside = left.inside - 1
		} else {
			i.foreign = true
		}
		g.remember(&st, left.ours && unwritten(&v.st, &st), inside)
		return
	}
	g.forget(i.object)
}

// removeName takes a name away from its directory after what it leads to was kept where needed.
func (n *node) removeName(name string) error {
	g := n.tree.guard
	plain := func() error { return retry(func() error { return unix.Unlinkat(n.fd, name, 0) }) }
	v, err := n.victim(name)
	if err != nil {
		return plain() // ENOENT, or something that cannot be looked at and so not be kept: the kernel's answer
	}
	defer v.close()
	if !v.hasContent() {
		return plain()
	}
	i := g.hold(objectOf(&v.st))
	defer g.release(i)
	i.change.Lock()
	defer i.change.Unlock()
	switch err := unix.Fstatat(n.fd, name, &v.st, unix.AT_SYMLINK_NOFOLLOW); {
	case err != nil:
		return err
	case objectOf(&v.st) != i.object:
		return syscall.EAGAIN
	}
	return n.removeVictim(name, v, i)
}

// removeHeld is removeName where the name's file is held already: one look at the name tells what it leads to, as the
// number of an inode that is held is nobody else's.
func (n *node) removeHeld(name string, held *node) error {
	i := n.tree.guard.lock(held)
	defer i.change.Unlock()
	v := &victim{fd: held.fd}
	switch err := unix.Fstatat(n.fd, name, &v.st, unix.AT_SYMLINK_NOFOLLOW); {
	case err != nil:
		return err
	case objectOf(&v.st) != i.object:
		return syscall.ENOENT
	}
	return n.removeVictim(name, v, i)
}

// removeVictim takes away a name that was just seen to lead to the victim; i.change is held.
func (n *node) removeVictim(name string, v *victim, i *inode) error {
	g := n.tree.guard
	plain := func() error { return retry(func() error { return unix.Unlinkat(n.fd, name, 0) }) }
	ours := g.leftOf(&v.st).ours
	part := g.part(i.object, ours)
	if ours && part == nil {
		if err := plain(); err != nil {
			return err
		}
		g.gone(i, v, n, name, false)
		return nil
	}
	// Whoever may not remove it must not get it moved or copied either.
	if err := unix.Faccessat(n.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return err
	}
	kept := versions.Victim{Path: n.pathOf(name), FD: v.fd, Reason: versions.Deleted}
	moved, err := g.keeper.Move(kept)
	if err != nil {
		return err
	}
	if moved {
		g.endPart(i.object) // with its mark it is what the part rests on
		g.gone(i, v, n, name, true)
		return nil
	}
	if err := g.keepWhole(part, kept); err != nil {
		return err
	}
	if !v.stillAt(n, name) {
		return syscall.EAGAIN
	}
	if err := plain(); err != nil {
		return err
	}
	g.gone(i, v, n, name, false)
	return nil
}

// keepWhole keeps a victim by itself: what is left of its part, or all of it, and again what others write to it meanwhile.
func (g *guard) keepWhole(part *versions.Part, v versions.Victim) error {
	for range keepTries {
		var before, after unix.Stat_t
		if err := unix.Fstat(v.FD, &before); err != nil {
			return err
		}
		var err error
		if part != nil {
			err, part = g.complete(objectOf(&before), true), nil
		} else {
			err = g.keeper.Keep(v)
		}
		if err != nil {
			return err
		}
		if err := unix.Fstat(v.FD, &after); err != nil {
			return err
		}
		if unwritten(&before, &after) {
			return nil
		}
	}
	return syscall.EAGAIN
}

// removeDirectory notes a directory that is removed, for its mode and times.
func (n *node) removeDirectory(name string) error {
	v, err := n.victim(name)
	if err == nil {
		defer v.close()
	}
	if removeErr := retry(func() error { return unix.Unlinkat(n.fd, name, unix.AT_REMOVEDIR) }); removeErr != nil || err != nil {
		return removeErr
	}
	if n.tree.guard.madeDirectory(&v.st) {
		return nil
	}
	// The directory is gone whatever comes of the note, and it had no content.
	_ = n.tree.guard.keeper.Note(versions.Victim{Path: n.pathOf(name), FD: v.fd, Reason: versions.Deleted})
	return nil
}

// renameTries is how often a rename begins anew because the host changed one of the names meanwhile.
const renameTries = 16

// renameName renames after what the new name leads to was kept where needed. The new name is never absent meanwhile.
func (n *node) renameName(name string, to *node, newName string, reason versions.Reason) error {
	for range renameTries {
		if err := n.renameOnce(name, to, newName, reason); err != errNamesChanged {
			return err
		}
	}
	return syscall.EAGAIN
}

// errNamesChanged: another object has one of the names by now.
const errNamesChanged = syscall.Errno(0xFFFF)

func (n *node) renameOnce(name string, to *node, newName string, reason versions.Reason) error {
	g := n.tree.guard
	plain := func() error {
		return retry(func() error { return unix.Renameat(n.fd, name, to.fd, newName) })
	}
	source, err := n.victim(name)
	if err != nil {
		return plain() // ENOENT and the like
	}
	defer source.close()
	if kindOf(source.st.Mode) == directory {
		err = g.completeBeneath(n.pathOf(name))
	} else {
		err = g.completeHeld(objectOf(&source.st))
	}
	if err != nil {
		return err
	}
	replaced, err := to.victim(newName)
	if err == unix.ENOENT {
		err := retry(func() error { return unix.Renameat2(n.fd, name, to.fd, newName, unix.RENAME_NOREPLACE) })
		switch err {
		case nil:
			g.renamed(source, n, name, to, newName)
		case unix.EEXIST:
			return errNamesChanged
		case unix.EINVAL: // into itself, or a filesystem that knows no flags; the kernel tells which
			if err = plain(); err == nil {
				g.renamed(source, n, name, to, newName)
			}
		}
		return err
	}
	if err != nil {
		return plain()
	}
	defer replaced.close()
	if objectOf(&source.st) == objectOf(&replaced.st) {
		return plain() // two names of one file: both stay
	}
	if !replaced.hasContent() || kindOf(source.st.Mode) == directory {
		// A directory can replace an empty directory only, and nothing else can replace one.
		if err := plain(); err != nil {
			return err
		}
		if kindOf(replaced.st.Mode) == directory && !g.madeDirectory(&replaced.st) {
			_ = g.keeper.Note(versions.Victim{Path: to.pathOf(newName), FD: replaced.fd, Reason: reason})
		}
		g.renamed(source, n, name, to, newName)
		return nil
	}
	i := g.hold(objectOf(&replaced.st))
	defer g.release(i)
	i.change.Lock()
	defer i.change.Unlock()
	if err := unix.Fstat(replaced.fd, &replaced.st); err != nil {
		return err
	}
	ours := g.leftOf(&replaced.st).ours
	part := g.part(i.object, ours)
	if ours && part == nil {
		if !replaced.stillAt(to, newName) {
			return errNamesChanged
		}
		if err := plain(); err != nil {
			return err
		}
		g.gone(i, replaced, to, newName, false)
		g.renamed(source, n, name, to, newName)
		return nil
	}
	kept := versions.Victim{Path: to.pathOf(newName), FD: replaced.fd, Reason: reason}
	// The two change places, so that the new name always leads to one of them, and the victim is taken from the old.
	exchange := func() error {
		return retry(func() error { return unix.Renameat2(n.fd, name, to.fd, newName, unix.RENAME_EXCHANGE) })
	}
	switch err := exchange(); err {
	case nil:
	case unix.EINVAL, unix.ENOSYS, unix.EPERM:
		if err := g.keepWhole(part, kept); err != nil {
			return err
		}
		if !replaced.stillAt(to, newName) {
			return errNamesChanged
		}
		if err := plain(); err != nil {
			return err
		}
		g.gone(i, replaced, to, newName, false)
		g.renamed(source, n, name, to, newName)
		return nil
	default:
		return err
	}
	if !replaced.stillAt(n, name) || !source.stillAt(to, newName) {
		if err := exchange(); err != nil {
			return err
		}
		return errNamesChanged
	}
	kept.At = n.pathOf(name)
	moved, err := g.keeper.Move(kept)
	if err == nil && !moved {
		if err = g.keepWhole(part, kept); err == nil && replaced.stillAt(n, name) {
			err = retry(func() error { return unix.Unlinkat(n.fd, name, 0) })
		}
	}
	if err != nil {
		_ = exchange() // should that fail too, both files are there, under each other's name
		return err
	}
	g.endPart(i.object)
	g.gone(i, replaced, to, newName, moved)
	g.renamed(source, n, name, to, newName)
	return nil
}

// renamed takes along what is known of a file that has another name now, as renaming changes its times.
func (g *guard) renamed(source *victim, from *node, name string, to *node, newName string) {
	left := g.leftOf(&source.st)
	var st unix.Stat_t
	if (left.ours || left.inside > 1) && unix.Fstat(source.fd, &st) == nil && st.Size == source.st.Size && st.Mtim == source.st.Mtim {
		g.remember(&st, left.ours, left.inside)
	}
	g.mu.Lock()
	var moved []*node
	if i := g.inodes[objectOf(&source.st)]; i != nil {
		for n := range i.nodes {
			if n.isAt(from, name) && n.tryHold() {
				moved = append(moved, n)
			}
		}
	}
	g.mu.Unlock()
	for _, n := range moved {
		n.settle(to, newName)
		n.Drop()
	}
}

// settle makes another place the node's own.
func (n *node) settle(to *node, name string) {
	to.Hold()
	n.place.Lock()
	old := n.parent
	n.parent, n.name, n.lost = to, name, false
	n.place.Unlock()
	old.Drop()
}

// linked notes a hard link that this server made.
func (g *guard) linked(i *inode, fd int, before *unix.Stat_t) {
	left := g.leftOf(before)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		g.forget(i.object)
		return
	}
	inside := left.inside
	if before.Nlink <= left.inside && st.Nlink == before.Nlink+1 {
		inside = st.Nlink
	}
	g.remember(&st, left.ours && unwritten(before, &st), inside)
}

// futimens sets the times of an open file; x/sys has only the call that takes a path.
func futimens(fd int, times *[2]unix.Timespec) error {
	return retry(func() error {
		if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0); errno != 0 {
			return errno
		}
		return nil
	})
}
