//go:build linux

package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	logFile      = "layer.log"
	snapshotFile = "layer.snapshot"
	snapshotNew  = "layer.snapshot~"
	contentDir   = "content"

	// MaxNodes bounds what a guest can make a layer hold; the next name is refused with ENOSPC.
	MaxNodes = 2_000_000
	// compactFactor: the log is folded into a snapshot when it has that many records for each node, and at least compactRecords.
	compactFactor  = 4
	compactRecords = 50_000
	// MaxTexts bounds the bytes of names, paths, link texts and attributes of all nodes together, which are held in memory.
	MaxTexts = 256 << 20
	// The log is also folded when it has compactFactor bytes for each that a snapshot would have, and at least compactBytes: a
	// guest may change one node with many attributes again and again.
	compactBytes = 64 << 20
	nodeBytes    = 64 // of a record, without texts
)

// Layer is one task's changes to one folder. All methods may run beside each other; a reader sees whole records only.
type Layer struct {
	dir     int // owned
	content int // owned

	mu       sync.RWMutex
	nodes    map[ID]*Node
	children map[ID]map[string]ID
	qids     map[object]uint64
	// named says which node, and remembered which applied object, has a qid.
	named      map[uint64]ID
	remembered map[uint64]object
	// stands are the nodes that stand in the place of something of the folder's: what the task made there, or that it deleted or moved
	// it, by the path that their Base has.
	stands map[string]ID
	// objects are the nodes that are something of the folder's themselves, by the path that it has there.
	objects  map[string]ID
	log      *os.File
	form     form // of the log
	logBytes int64
	records  int
	texts    int64 // see MaxTexts
	// noCompact is the number of records before which a compaction that failed is not tried again.
	noCompact   int
	seq         uint64
	nextID      ID
	nextContent uint64
	made        bool // a content file since the last Sync
	// dropped are contents that no node names any more. Until the log is durable a power failure could bring the node back, so
	// they go only after it.
	dropped      []uint64
	droppedBytes int64
	sweeping     bool           // a Sync runs beside, for the dropped ones
	sweeps       sync.WaitGroup // Close waits for it

	spare spare

	room room

	syncing sync.Mutex // held by Sync throughout, guards synced
	synced  uint64     // the last record that is surely on the disk
	failed  error
	// fresh are the nodes whose Seq has moved since somebody last looked at them, see Looked.
	fresh   map[ID]struct{}
	changed func(seq uint64)
}

// Open reads the layer in a directory, which it owns from then on; an empty directory is a new layer. rootQID is the
// folder's own, kept for a layer that is new.
func Open(dir int, root Base, rootQID uint64) (*Layer, error) {
	l := &Layer{dir: dir, content: -1, nodes: map[ID]*Node{}, children: map[ID]map[string]ID{}, qids: map[object]uint64{}, fresh: map[ID]struct{}{}, named: map[uint64]ID{}, remembered: map[uint64]object{}, stands: map[string]ID{}, objects: map[string]ID{}, spare: spare{sole: map[uint64]bool{}}, nextID: RootID + 1, nextContent: 1}
	if err := l.open(root, rootQID); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Empty gives a layer that keeps nothing: it has the root alone and refuses every change with EROFS.
func Empty(root Base, rootQID uint64) *Layer {
	root.Path = ""
	l := &Layer{dir: -1, content: -1, nodes: map[ID]*Node{}, children: map[ID]map[string]ID{}, qids: map[object]uint64{}, fresh: map[ID]struct{}{}, named: map[uint64]ID{}, remembered: map[uint64]object{}, stands: map[string]ID{}, objects: map[string]ID{}, spare: spare{sole: map[uint64]bool{}}, nextID: RootID + 1, nextContent: 1}
	l.nodes[RootID] = &Node{ID: RootID, Kind: Directory, QID: rootQID, Base: &root}
	l.failed = syscall.EROFS
	return l
}

func (l *Layer) open(root Base, rootQID uint64) error {
	if err := unix.Mkdirat(l.dir, contentDir, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("the layer's contents: %w", err)
	}
	// O_PATH will do for a caller's descriptor, and not for making the directory durable.
	dir, err := unix.Openat(l.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the layer's directory: %w", err)
	}
	unix.Close(l.dir)
	l.dir = dir
	if l.content, err = unix.Openat(l.dir, contentDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("the layer's contents: %w", err)
	}
	if err := l.readSnapshot(); err != nil {
		return err
	}
	if err := l.readLog(); err != nil {
		return err
	}
	if err := l.verify(); err != nil {
		return err
	}
	if err := l.renewForm(); err != nil {
		return err
	}
	if l.nodes[RootID] == nil {
		b := root
		b.Path = ""
		if err := l.Change(Put(&Node{ID: RootID, Kind: Directory, QID: rootQID, Base: &b})); err != nil {
			return err
		}
	}
	return l.removeOrphans()
}

func (l *Layer) openFile(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(l.dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (l *Layer) readSnapshot() error {
	f, err := l.openFile(snapshotFile, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	end, _, err := readRecords(snapshotFile, data, func(r *record) error { return l.replay(r) })
	if err == nil && end != int64(len(data)) {
		// It was written whole before it got its name, so nothing can have interrupted it.
		err = &CorruptError{File: snapshotFile, Offset: end, What: "it ends in the middle of a record"}
	}
	return err
}

func (l *Layer) readLog() error {
	f, err := l.openFile(logFile, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND)
	if err != nil {
		return err
	}
	l.log = f
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		if err := unix.Fsync(l.dir); err != nil { // the log's own name
			return err
		}
	}
	end := int64(0)
	if len(data) > 0 {
		before := l.seq
		if end, l.form, err = readRecords(logFile, data, func(r *record) error {
			if r.seq <= before {
				return nil // the snapshot has it: the process ended between the snapshot and the new log
			}
			l.records++
			return l.replay(r)
		}); err != nil {
			return err
		}
	}
	if end < int64(len(data)) {
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	l.logBytes = end
	if end == 0 {
		return l.beginLog()
	}
	return nil
}

// beginLog gives an empty log a form of its own.
func (l *Layer) beginLog() error {
	l.form = newForm()
	if _, err := l.log.WriteString(l.form.header()); err != nil {
		return err
	}
	l.logBytes, l.records = int64(headerBytes), 0
	return nil
}

// renewForm writes a layer of an older version anew. One that cannot be stays as it is.
func (l *Layer) renewForm() error {
	if l.form.mark != nil || l.compact() != nil {
		return nil
	}
	if err := l.log.Truncate(0); err != nil {
		return err
	}
	return l.beginLog() // should this fail, the next Open does it: the snapshot has everything
}

// replay checks a record against the graph and takes it in.
func (l *Layer) replay(r *record) error {
	if r.seq <= l.seq {
		return fmt.Errorf("record %d comes after %d", r.seq, l.seq)
	}
	if err := l.check(r.ops); err != nil {
		return err
	}
	l.take(r)
	return nil
}

// verify looks at the graph as a whole: every node below a directory's, and none below itself.
func (l *Layer) verify() error {
	reached := map[ID]bool{RootID: true}
	stack := []ID{RootID}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, id := range l.children[at] {
			if !reached[id] {
				reached[id] = true
				stack = append(stack, id)
			}
		}
	}
	for id, n := range l.nodes {
		parent := l.nodes[n.Parent]
		if id != RootID && (!reached[id] || parent == nil || !parent.mayHold()) {
			return &CorruptError{File: logFile, Offset: l.logBytes, What: fmt.Sprintf("node %d is in no directory", id)}
		}
	}
	return nil
}

// check refuses steps that no graph could take: what a record of the log cannot hold, too.
func (l *Layer) check(ops []op) error {
	removed := map[ID]bool{}
	for _, o := range ops {
		if o.qid != nil {
			continue
		}
		if o.put == nil {
			if o.remove == RootID || l.nodes[o.remove] == nil || removed[o.remove] {
				return fmt.Errorf("node %d cannot be removed", o.remove)
			}
			removed[o.remove] = true
			continue
		}
		n := o.put
		switch {
		case n.ID == 0, n.ID != RootID && (n.Name == "" || n.Parent == 0), n.ID == n.Parent:
			return fmt.Errorf("node %d has no place", n.ID)
		case n.ID == RootID && (n.Parent != 0 || n.Name != "" || n.Kind != Directory || n.Whiteout):
			return errors.New("the root is no directory")
		case !n.fitsRecord():
			return fmt.Errorf("node %d does not fit into a record", n.ID)
		}
	}
	return nil
}

// holdsTogether refuses a change after which the next Open would take the graph for damaged: a node in no directory or in itself, two nodes
// at one name. Callers may be wrong about what they change; what is in the log already must stay readable.
func (l *Layer) holdsTogether(ops []op) error {
	put, removed := map[ID]*Node{}, map[ID]bool{} // one step for each node, see lasting
	left := map[ID]bool{}                         // what lies below may be left without a directory
	for _, o := range ops {
		switch {
		case o.qid != nil:
		case o.put != nil:
			put[o.put.ID] = o.put
		default:
			removed[o.remove] = true
		}
	}
	node := func(id ID) *Node {
		if n := put[id]; n != nil {
			return n
		}
		if removed[id] {
			return nil
		}
		return l.nodes[id]
	}
	type place struct {
		dir  ID
		name string
	}
	places := map[place]ID{}
	for id, n := range put {
		if id == RootID {
			continue
		}
		if parent := node(n.Parent); parent == nil || !parent.mayHold() {
			return fmt.Errorf("node %d would be in no directory", id)
		}
		at := place{n.Parent, n.Name}
		other, taken := places[at]
		if !taken {
			if other = l.children[n.Parent][n.Name]; other != id {
				there := node(other)
				taken = there != nil && there.Parent == n.Parent && there.Name == n.Name
			}
		}
		if taken {
			return fmt.Errorf("nodes %d and %d would have one name", other, id)
		}
		places[at] = id
		old := l.nodes[id]
		if !n.mayHold() && old != nil && old.mayHold() {
			left[id] = true
		}
		if old != nil && old.Parent == n.Parent {
			continue
		}
		// Up to the root, or from a new node to the first that is not one: a way that leads back leads over what was moved, or over new
		// nodes alone.
		steps := 0
		for at := node(n.Parent); at != nil && at.ID != RootID && !(old == nil && l.nodes[at.ID] != nil); at = node(at.Parent) {
			if steps++; at.ID == id || steps > len(l.nodes)+len(put) {
				return fmt.Errorf("node %d would be in itself", id)
			}
		}
	}
	for _, gone := range []map[ID]bool{removed, left} {
		for id := range gone {
			for _, child := range l.children[id] {
				if n := node(child); n != nil && n.Parent == id {
					return fmt.Errorf("node %d would be in no directory", child)
				}
			}
		}
	}
	return nil
}

func (l *Layer) take(r *record) {
	l.seq = r.seq
	for _, o := range r.ops {
		if o.qid != nil {
			l.qids[o.qid.object] = o.qid.qid
			l.remembered[o.qid.qid] = o.qid.object
			continue
		}
		if o.put == nil {
			n := l.nodes[o.remove]
			l.texts -= n.texts()
			delete(l.nodes, o.remove)
			delete(l.fresh, o.remove)
			delete(l.children, o.remove)
			l.unname(n)
			continue
		}
		n := o.put
		n.Placed = n.Seq
		if old := l.nodes[n.ID]; old != nil {
			l.texts -= old.texts()
			l.unname(old)
			if old.Parent == n.Parent && old.Name == n.Name {
				n.Placed = old.Placed
			}
		}
		l.texts += n.texts()
		l.nodes[n.ID] = n
		if !n.Whiteout {
			l.named[n.QID] = n.ID
		}
		switch {
		case n.standsInstead():
			l.stands[n.Base.Path] = n.ID
		case n.Base != nil:
			l.objects[n.Base.Path] = n.ID
		}
		if n.ID != RootID {
			names := l.children[n.Parent]
			if names == nil {
				names = map[string]ID{}
				l.children[n.Parent] = names
			}
			names[n.Name] = n.ID
		}
		l.nextID = max(l.nextID, n.ID+1)
		if n.QID>>61 == 2 { // bit 62 alone: a number that NewID gave for a qid (view), never given twice either
			l.nextID = max(l.nextID, ID(n.QID&(1<<61-1))+1)
		}
		l.nextContent = max(l.nextContent, n.Content+1)
		if n.Base != nil {
			l.nextContent = max(l.nextContent, n.Base.Content+1)
		}
	}
}

// unname takes a node off its directory and its number, unless another one has them by now.
func (l *Layer) unname(n *Node) {
	if l.named[n.QID] == n.ID {
		delete(l.named, n.QID)
	}
	if n.Base != nil {
		for _, index := range []map[string]ID{l.stands, l.objects} {
			if index[n.Base.Path] == n.ID {
				delete(index, n.Base.Path)
			}
		}
	}
	if names := l.children[n.Parent]; names != nil && names[n.Name] == n.ID {
		delete(names, n.Name)
		if len(names) == 0 {
			delete(l.children, n.Parent)
		}
	}
}

// Op is one step of a change.
type Op op

// Put makes or replaces a node.
func Put(n *Node) Op { return Op{put: n} }

// Remove takes a node away; what is below it must be taken away in the same change.
func Remove(id ID) Op { return Op{remove: id} }

// Remember keeps the qid of an applied node for the object that the folder has of it since.
func Remember(device, inode, qid uint64) Op { return Op{qid: &objectQID{object{device, inode}, qid}} }

// QIDTaken tells whether a qid belongs to a node, or to another applied object than this one.
func (l *Layer) QIDTaken(qid, device, inode uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, taken := l.named[qid]; taken {
		return true
	}
	of, taken := l.remembered[qid]
	return taken && of != object{device, inode}
}

// QIDOf gives what was remembered for an object; false when nothing was.
func (l *Layer) QIDOf(device, inode uint64) (uint64, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	qid, known := l.qids[object{device, inode}]
	return qid, known
}

// Remembers tells whether any qid is remembered, which is rare.
func (l *Layer) Remembers() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.qids) > 0
}

// Looked says that the nodes' contents are about to be looked at: the next write to one of them moves its Seq again.
func (l *Layer) Looked(ids ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.fresh, id)
	}
}

// Wrote moves a node's Seq after its content was written, unless it has moved since somebody last looked.
func (l *Layer) Wrote(id ID) error {
	l.mu.RLock()
	_, fresh := l.fresh[id]
	n := l.nodes[id]
	l.mu.RUnlock()
	if fresh || n == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n = l.nodes[id]; n == nil {
		return nil
	}
	return l.change([]Op{Put(n.clone())})
}

// NewID gives an id for a node to be.
func (l *Layer) NewID() ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.nextID
	l.nextID++
	return id
}

// OnChange is told of each new sequence number, from within the change; it must not call the layer.
func (l *Layer) OnChange(f func(seq uint64)) {
	l.mu.Lock()
	l.changed = f
	l.mu.Unlock()
}

// Change does all steps or none: one record. The nodes belong to the layer from then on.
func (l *Layer) Change(steps ...Op) error { return l.ChangeIf(nil, steps...) }

// ChangeIf is Change under a condition that is looked at while nobody else changes anything.
func (l *Layer) ChangeIf(still func(get func(ID) *Node) error, steps ...Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if still != nil {
		if err := still(func(id ID) *Node { return l.nodes[id] }); err != nil {
			return err
		}
	}
	if err := l.fits(lasting(steps)); err != nil && l.failed == nil {
		return err
	}
	return l.change(steps)
}

// Decide is Change for what the layer's user decides: the bounds of what a guest may add are not theirs.
func (l *Layer) Decide(steps ...Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change(steps)
}

// change is done under mu.
func (l *Layer) change(steps []Op) error {
	if l.failed != nil {
		return l.failed
	}
	steps = lasting(steps)
	r := record{seq: l.seq + 1, timeMs: time.Now().UnixMilli(), ops: make([]op, len(steps))}
	for i, step := range steps {
		r.ops[i] = op(step)
		if step.put != nil {
			step.put.Seq = r.seq
		}
	}
	err := l.check(r.ops)
	if err == nil {
		err = l.holdsTogether(r.ops)
	}
	if err != nil {
		return fmt.Errorf("a change of the layer that cannot be: %w", err)
	}
	if err := l.append(&r); err != nil {
		return err
	}
	l.take(&r)
	for _, o := range r.ops {
		if o.put != nil {
			l.fresh[o.put.ID] = struct{}{}
		}
	}
	if l.changed != nil {
		l.changed(l.seq)
	}
	many := l.records >= compactRecords && l.records >= compactFactor*len(l.nodes)
	long := l.logBytes >= compactBytes && l.logBytes >= compactFactor*(l.texts+nodeBytes*int64(len(l.nodes)+len(l.qids)))
	if (many || long) && l.records >= l.noCompact {
		if l.compact() != nil {
			// The change is made and the log has it: an error here would make the caller take back what is kept.
			l.noCompact = l.records + compactRecords/10
		}
	}
	return nil
}

// lasting leaves each node its last step: one that stood at a name only between two steps would take it from the node that has it after
// them.
func lasting(steps []Op) []Op {
	if len(steps) < 2 {
		return steps
	}
	of := func(o Op) ID {
		switch {
		case o.qid != nil:
			return 0
		case o.put != nil:
			return o.put.ID
		}
		return o.remove
	}
	last := make(map[ID]int, len(steps))
	for i, o := range steps {
		last[of(o)] = i
	}
	kept := make([]Op, 0, len(steps))
	for i, o := range steps {
		if o.qid != nil || last[of(o)] == i {
			kept = append(kept, o)
		}
	}
	return kept
}

// Fits tells whether the layer may hold what a change would add; a Full when not.
func (l *Layer) Fits(steps ...Op) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.fits(steps)
}

func (l *Layer) fits(steps []Op) error {
	grows, texts := 0, int64(0)
	for _, step := range steps {
		if step.put != nil {
			texts += step.put.texts()
			if l.nodes[step.put.ID] == nil {
				grows++
			}
		}
	}
	if len(l.nodes)+grows > MaxNodes {
		return &Full{Why: Names, Needed: int64(grows), Limit: MaxNodes, Used: int64(len(l.nodes))}
	}
	if l.texts+texts > MaxTexts { // nearly: what the change takes away counts too
		for _, step := range steps {
			id := step.remove
			if step.put != nil {
				id = step.put.ID
			}
			if n := l.nodes[id]; n != nil {
				texts -= n.texts()
			}
		}
		if texts > 0 && l.texts+texts > MaxTexts {
			return &Full{Why: Names, Needed: texts, Limit: MaxTexts, Used: l.texts}
		}
	}
	return nil
}

func (l *Layer) append(r *record) error {
	written := int64(0)
	all := parts(r.ops)
	for i, ops := range all {
		part := record{seq: r.seq, timeMs: r.timeMs, ops: ops, more: i < len(all)-1}
		b, err := part.encode(l.form)
		if err == nil {
			_, err = l.log.Write(b)
		}
		if err != nil {
			// A part of the change may be in the file: taken back, so that the next one does not stand behind it.
			if undo := l.log.Truncate(l.logBytes); undo != nil {
				l.failed = fmt.Errorf("the layer's log can be neither written nor cut: %w", undo)
			}
			return unwrapErrno(err)
		}
		written += int64(len(b))
	}
	l.logBytes += written
	l.records += len(all)
	return nil
}

// unwrapErrno gives the errno that the guest shall see.
func unwrapErrno(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// compact writes every node into a new snapshot and begins a new log. The old log's records are skipped by their numbers
// should the process end before the log is cut.
func (l *Layer) compact() error {
	f, err := l.openFile(snapshotNew, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return unwrapErrno(err)
	}
	defer f.Close()
	err = l.writeSnapshot(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Renameat(l.dir, snapshotNew, l.dir, snapshotFile)
	}
	if err == nil {
		err = unix.Fsync(l.dir)
	}
	if err != nil {
		_ = unix.Unlinkat(l.dir, snapshotNew, 0)
		return unwrapErrno(err)
	}
	begin := int64(len(l.form.header()))
	if err := l.log.Truncate(begin); err != nil {
		return unwrapErrno(err)
	}
	l.logBytes, l.records, l.noCompact = begin, 0, 0
	return nil
}

// writeSnapshot writes parents before their children, many nodes to a record; all but the last have numbers below seq.
func (l *Layer) writeSnapshot(f *os.File) error {
	ids := make([]ID, 0, len(l.nodes))
	for id := range l.nodes {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	form := l.form
	if form.mark == nil {
		form = newForm()
	}
	if _, err := f.WriteString(form.header()); err != nil {
		return err
	}
	ops := make([]op, 0, len(ids)+len(l.qids))
	for _, id := range ids {
		ops = append(ops, op{put: l.nodes[id]})
	}
	for of, qid := range l.qids {
		ops = append(ops, op{qid: &objectQID{of, qid}})
	}
	records := parts(ops)
	if uint64(len(records)) > l.seq {
		return fmt.Errorf("a layer of %d nodes and %d changes", len(ids), l.seq)
	}
	for i, ops := range records {
		r := record{seq: l.seq - uint64(len(records)-1-i), timeMs: time.Now().UnixMilli(), ops: ops}
		b, err := r.encode(form)
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// Sync makes every change so far durable. Nobody is held up meanwhile but other Syncs, which then find their work done.
func (l *Layer) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	seq, made, dropped, spent := l.seq, l.made, l.dropped, l.spare.spent
	l.made, l.dropped, l.spare.spent, l.droppedBytes = false, nil, nil, 0
	l.mu.Unlock()
	err := l.flush(seq, made)
	if err != nil {
		l.mu.Lock()
		l.made, l.dropped, l.spare.spent = l.made || made, append(l.dropped, dropped...), append(l.spare.spent, spent...)
		l.mu.Unlock()
		return err
	}
	for _, number := range dropped {
		_ = unix.Unlinkat(l.content, strconv.FormatUint(number, 10), 0) // one that stays is an orphan, see Open
	}
	for _, number := range spent {
		l.renew(number)
	}
	return nil
}

func (l *Layer) flush(seq uint64, made bool) error {
	if made {
		if err := unix.Fsync(l.content); err != nil {
			return err
		}
	}
	if seq == l.synced {
		return nil
	}
	if err := unix.Fdatasync(int(l.log.Fd())); err != nil {
		return err
	}
	l.synced = seq
	return nil
}

// Close gives the descriptors back. What was not synced is in the host's page cache all the same.
func (l *Layer) Close() {
	l.sweeps.Wait()
	if l.log != nil {
		l.log.Close()
		l.log = nil
	}
	if l.content >= 0 {
		unix.Close(l.content)
		l.content = -1
	}
	if l.dir >= 0 {
		unix.Close(l.dir)
		l.dir = -1
	}
}

// Seq is the number of the last change.
func (l *Layer) Seq() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.seq
}

// copy gives a node to a caller, with what follows from its place.
func (l *Layer) copy(n *Node) *Node {
	c := n.clone()
	c.Elsewhere = false
	if parent := l.nodes[n.Parent]; n.Base != nil && !n.Made && parent != nil {
		c.Elsewhere = parent.Opaque || parent.Base == nil || n.Base.Path != Join(parent.Base.Path, n.Name)
	}
	return c
}

// Has tells whether there is such a node.
func (l *Layer) Has(id ID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.nodes[id] != nil
}

// Get gives a copy of a node; nil when there is none.
func (l *Layer) Get(id ID) *Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := l.nodes[id]; n != nil {
		return l.copy(n)
	}
	return nil
}

// Child gives a copy of a directory's node of that name; nil when there is none.
func (l *Layer) Child(parent ID, name string) *Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := l.nodes[l.children[parent][name]]; n != nil {
		return l.copy(n)
	}
	return nil
}

// StandsAt gives a copy of the node that stands in the place of what the folder has at a path; nil when none does.
func (l *Layer) StandsAt(path string) *Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := l.nodes[l.stands[path]]; n != nil {
		return l.copy(n)
	}
	return nil
}

// Object is the node that is what the folder has at a path, wherever the task has it; 0 when the layer has none.
func (l *Layer) Object(path string) ID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.objects[path]
}

// Children gives copies of a directory's nodes, by name.
func (l *Layer) Children(parent ID) []*Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	nodes := make([]*Node, 0, len(l.children[parent]))
	for _, id := range l.children[parent] {
		nodes = append(nodes, l.copy(l.nodes[id]))
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
	return nodes
}

// Names gives the names of a directory's nodes, sorted: for whoever looks at many of them one after the other.
func (l *Layer) Names(parent ID) []string {
	l.mu.RLock()
	names := make([]string, 0, len(l.children[parent]))
	for name := range l.children[parent] {
		names = append(names, name)
	}
	l.mu.RUnlock()
	sort.Strings(names)
	return names
}

// CountChildren is how many nodes a directory has.
func (l *Layer) CountChildren(parent ID) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.children[parent])
}

// HasChildren tells whether a directory has any node.
func (l *Layer) HasChildren(parent ID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.children[parent]) > 0
}

// Path gives a node's place from the folder as the guest sees it; false for a node that is gone.
func (l *Layer) Path(id ID) (string, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.path(id)
}

func (l *Layer) path(id ID) (string, bool) {
	var parts []string
	for id != RootID {
		n := l.nodes[id]
		if n == nil || len(parts) > MaxNodes {
			return "", false
		}
		parts = append(parts, n.Name)
		id = n.Parent
	}
	path := ""
	for i := len(parts) - 1; i >= 0; i-- {
		path = Join(path, parts[i])
	}
	return path, true
}

// Walk calls use for every node but the root with its present path, parents before their children and by name, until use says
// false. It looks at one moment: seq is that moment's number. Placed is also that of the directories above. use must not call
// the layer.
func (l *Layer) Walk(use func(n *Node, path string) bool) (seq uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	type place struct {
		id     ID
		path   string
		placed uint64
	}
	stack := []place{{RootID, "", 0}}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if at.id != RootID {
			n := l.copy(l.nodes[at.id])
			at.placed = max(at.placed, n.Placed)
			n.Placed = at.placed
			if !use(n, at.path) {
				break
			}
		}
		names := make([]string, 0, len(l.children[at.id]))
		for name := range l.children[at.id] {
			names = append(names, name)
		}
		sort.Sort(sort.Reverse(sort.StringSlice(names)))
		for _, name := range names {
			stack = append(stack, place{l.children[at.id][name], Join(at.path, name), at.placed})
		}
	}
	return l.seq
}

// Each is Walk without the paths, which take their length for each node.
func (l *Layer) Each(use func(n *Node)) (seq uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	type place struct {
		id     ID
		placed uint64
	}
	stack := []place{{RootID, 0}}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if at.id != RootID {
			n := l.copy(l.nodes[at.id])
			at.placed = max(at.placed, n.Placed)
			n.Placed = at.placed
			use(n)
		}
		names := make([]string, 0, len(l.children[at.id]))
		for name := range l.children[at.id] {
			names = append(names, name)
		}
		sort.Sort(sort.Reverse(sort.StringSlice(names)))
		for _, name := range names {
			stack = append(stack, place{l.children[at.id][name], at.placed})
		}
	}
	return l.seq
}

// Nodes is how many there are, the root among them.
func (l *Layer) Nodes() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.nodes)
}

// NewContent makes an empty content file, open for both. It belongs to nobody until a change names it.
func (l *Layer) NewContent() (uint64, *os.File, error) {
	number, file, is := l.takeSpare()
	if !is {
		l.mu.Lock()
		if l.content < 0 {
			l.mu.Unlock()
			return 0, nil, syscall.EROFS
		}
		number = l.nextContent
		l.nextContent++
		l.mu.Unlock()
		fd, err := unix.Openat(l.content, strconv.FormatUint(number, 10), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return 0, nil, err
		}
		file = os.NewFile(uintptr(fd), "content")
	}
	l.mu.Lock()
	l.made = true // not before: a Sync that came between would take its name for durable
	l.spare.sole[number] = true
	l.mu.Unlock()
	return number, file, nil
}

// OpenContent opens a content file for both.
func (l *Layer) OpenContent(number uint64) (*os.File, error) {
	if !l.shared(number) {
		return nil, syscall.ENOENT // given up, and about to be another one
	}
	return l.openNumber(number)
}

func (l *Layer) openNumber(number uint64) (*os.File, error) {
	fd, err := unix.Openat(l.content, strconv.FormatUint(number, 10), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "content"), nil
}

const (
	// maxDropped and maxDroppedBytes bound what contents without a node may take until the next Sync. At a quarter of either one
	// begins beside the guest's work.
	maxDropped      = 4096
	maxDroppedBytes = 64 << 20
)

// DropContent gives up content files that no node names any more; 0 is none. They are gone after the next Sync.
func (l *Layer) DropContent(numbers ...uint64) {
	l.mu.Lock()
	for _, number := range numbers {
		delete(l.spare.sole, number)
		var st unix.Stat_t
		if number == 0 || l.content < 0 || unix.Fstatat(l.content, strconv.FormatUint(number, 10), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		l.dropped = append(l.dropped, number)
		l.droppedBytes += st.Blocks * 512
	}
	l.sweep()
}

// sweep gives up what was dropped when there is much of it: beside the guest's work, or at once when there is too much. The caller
// holds mu, which is free afterwards.
func (l *Layer) sweep() {
	full := len(l.dropped) >= maxDropped || l.droppedBytes >= maxDroppedBytes
	sweep := !full && !l.sweeping &&
		(len(l.dropped) >= maxDropped/4 || l.droppedBytes >= maxDroppedBytes/4 || len(l.spare.spent) >= maxSpare/4)
	if sweep {
		l.sweeping = true
		l.sweeps.Add(1)
	}
	l.mu.Unlock()
	switch { // what a Sync cannot do now the next one does
	case full:
		_ = l.Sync()
	case sweep:
		go func() {
			defer l.sweeps.Done()
			_ = l.Sync()
			l.mu.Lock()
			l.sweeping = false
			l.mu.Unlock()
		}()
	}
}

// removeOrphans takes away contents that were made for a change that never came.
func (l *Layer) removeOrphans() error {
	used := map[string]bool{}
	for _, n := range l.nodes {
		used[strconv.FormatUint(n.Content, 10)] = true
		if n.Base != nil {
			used[strconv.FormatUint(n.Base.Content, 10)] = true
		}
	}
	fd, err := unix.Openat(l.content, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), contentDir)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if !used[name] {
				if err := unix.Unlinkat(l.content, name, 0); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Bytes is what the layer takes on the host's disk.
func (l *Layer) Bytes() (int64, error) {
	fd, err := unix.Openat(l.content, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	dir := os.NewFile(uintptr(fd), contentDir)
	defer dir.Close()
	l.mu.RLock()
	total := l.logBytes
	l.mu.RUnlock()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(l.content, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				total += st.Blocks * 512
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// SetMtime sets the time of an open content: utimensat without a path acts on the file itself.
func SetMtime(content *os.File, ns int64) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(ns)}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, content.Fd(), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
