//go:build linux

package view

import (
	"sort"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// listing is an open directory. First come the folder's names with the folder's own cookies, less what is deleted or hidden; then
// the names that the layer alone has, by number. So a cookie keeps its meaning whatever the guest changes meanwhile.
//
// A host's cookie may be any number below 1<<63 (ext4's are hashes), so that ours cannot be told from it by its value alone: who
// reads on from the last cookie goes on in the part that gave it. Only a jump to an older one is judged by its value.
type listing struct {
	tree *Tree
	low  ninep.File // nil: the folder has nothing of it
	// own are the names of the second part, gathered when it begins.
	own []wire.Dirent
	// last is the cookie of the last entry given, inOwn whether the second part gave it.
	last     uint64
	inOwn    bool
	gathered bool
	bytes    int64
}

const (
	// ownCookie marks cookies of the second part.
	ownCookie = 1 << 62
	// entryBytes is what a held entry takes beyond its name.
	entryBytes = 64
	// nameBytes is what a name takes that another holds.
	nameBytes = 16
)

func (n *node) openDir(s state) (*file, error) {
	f := &file{node: n, listing: &listing{tree: n.tree}}
	if s.low != nil && !n.tree.opaque(s.id) && !n.local {
		low, err := s.low.Open(0)
		if err != nil {
			return nil, err
		}
		f.listing.low = low
	}
	n.Hold()
	return f, nil
}

func (l *listing) close() {
	if l.low != nil {
		l.low.Close()
	}
	l.tree.listed.Add(-l.bytes)
}

func (f *file) ReadDir(b []byte, offset uint64) ([]byte, error) {
	l := f.listing
	if l == nil {
		return nil, syscall.ENOTDIR
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	got, err := f.readAt(b, offset)
	if err == nil && len(got) > len(b) {
		for rest, ok := got[len(b):], true; len(rest) > 0; {
			if l.last, _, rest, ok = wire.NextDirent(rest); !ok {
				return nil, syscall.EIO
			}
		}
	}
	return got, err
}

func (f *file) readAt(b []byte, offset uint64) ([]byte, error) {
	l := f.listing
	own := l.inOwn && offset == l.last
	if offset != 0 && offset != l.last {
		own = offset >= ownCookie && offset-ownCookie <= uint64(len(l.own)) && (l.gathered || l.low == nil)
	}
	if offset == 0 {
		own, l.gathered = false, false
	}
	if !own {
		if l.low != nil {
			got, err := f.readLower(b, offset)
			l.inOwn = false
			if err != nil || len(got) > len(b) {
				return got, err
			}
		} else if offset < 2 {
			if got := f.dots(b, offset); len(got) > len(b) {
				l.inOwn = false
				return got, nil
			}
		}
		offset = ownCookie
	}
	if !l.gathered {
		if err := f.gather(); err != nil {
			return nil, err
		}
	}
	l.inOwn = true
	for i := offset - ownCookie; i < uint64(len(l.own)); i++ {
		d := &l.own[i]
		if len(b)+wire.DirentBytes+len(d.Name) > cap(b) {
			break
		}
		b = wire.AppendDirent(b, d.QID, ownCookie+i+1, d.Type, []byte(d.Name))
	}
	return b, nil
}

// dots are the two names that every directory has, where the folder's own listing does not bring them.
func (f *file) dots(b []byte, offset uint64) []byte {
	up := f.node.Parent().(*node)
	defer up.Drop()
	for i, d := range []struct {
		name string
		qid  wire.QID
	}{{".", f.node.qid}, {"..", up.qid}} {
		if uint64(i) >= offset && len(b)+wire.DirentBytes+len(d.name) <= cap(b) {
			b = wire.AppendDirent(b, d.qid, uint64(i)+1, unix.DT_DIR, []byte(d.name))
		}
	}
	return b
}

// readLower gives the folder's names that show; nothing added means that they have ended.
func (f *file) readLower(b []byte, offset uint64) ([]byte, error) {
	n, t := f.node, f.node.tree
	id := n.now().id
	if (id == 0 || !t.layer.HasChildren(id)) && len(t.local) == 0 && !t.layer.Remembers() {
		// Nothing to put in or to change: the folder's own answer, unless a name in it is hidden.
		got, err := f.listing.low.ReadDir(b, offset)
		if err != nil || !t.anyHidden(got[len(b):]) {
			return got, err
		}
	}
	scratch := make([]byte, 0, cap(b)-len(b))
	for {
		got, err := f.listing.low.ReadDir(scratch, offset)
		if err != nil {
			return nil, err
		}
		entries, err := wire.Dirents(got)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return b, nil
		}
		before := len(b)
		for _, d := range entries {
			offset = d.Offset
			switch {
			case d.Name == ".":
				d.QID = n.qid
			case d.Name == "..":
				up := n.Parent()
				d.QID = up.QID()
				up.Drop()
			case t.hidden(d.Name) || t.isLocal(n, d.Name):
				continue
			default:
				if e := t.child(id, d.Name); e != nil && !(e.Passing() && d.Type != unix.DT_DIR && !t.holds(e.ID)) {
					if e.Whiteout {
						continue
					}
					d.QID, d.Type = wire.QID{Type: qidType(e.Kind), Path: e.QID}, direntType(e.Kind)
				} else if qid, applied := t.layer.QIDOf(t.device, d.QID.Path); applied { // a qid of the root's device is the inode
					d.QID.Path = qid
				}
			}
			b = wire.AppendDirent(b, d.QID, d.Offset, d.Type, []byte(d.Name))
		}
		if len(b) > before {
			return b, nil
		}
	}
}

func (t *Tree) anyHidden(list []byte) bool {
	if t.options.Hidden == nil {
		return false
	}
	for len(list) > 0 {
		_, name, rest, ok := wire.NextDirent(list)
		if !ok || t.options.Hidden(string(name)) {
			return true
		}
		list = rest
	}
	return false
}

func direntType(k layer.Kind) uint8 {
	switch k {
	case layer.Directory:
		return unix.DT_DIR
	case layer.Link:
		return unix.DT_LNK
	}
	return unix.DT_REG
}

// gather notes the names that the folder does not have: all of them, or none and an error.
func (f *file) gather() error {
	t, l := f.node.tree, f.listing
	drop := func() {
		t.listed.Add(-l.bytes)
		l.own, l.bytes, l.gathered = l.own[:0], 0, false
	}
	drop()
	if err := f.gatherOwn(); err != nil {
		drop()
		return err
	}
	l.gathered = true
	return nil
}

func (f *file) gatherOwn() error {
	n, t, l := f.node, f.node.tree, f.listing
	s := n.now()
	add := func(name string, qid wire.QID, kind uint8) error {
		size := int64(len(name)) + entryBytes
		if t.listed.Add(size) > maxListed {
			t.listed.Add(-size)
			return syscall.ENOMEM
		}
		l.bytes += size
		l.own = append(l.own, wire.Dirent{QID: qid, Type: kind, Name: name})
		return nil
	}
	if s.id != 0 {
		// The names alone, counted like what is held: many listings may begin at once, and copies of all nodes of each would be a
		// gigabyte for a guest to ask for.
		names := int64(t.layer.CountChildren(s.id)) * nameBytes
		defer t.listed.Add(-names)
		if t.listed.Add(names) > maxListed {
			return syscall.ENOMEM
		}
		for _, name := range t.layer.Names(s.id) {
			e := t.layer.Child(s.id, name)
			if e == nil {
				continue
			}
			if e.Whiteout || t.hidden(e.Name) || t.isLocal(n, e.Name) || l.low != nil && s.low != nil && has(s.low, e.Name) {
				continue
			}
			if e.Passing() {
				shown, err := n.walk(e.Name)
				if err != nil {
					continue // the folder's directory is gone, and nothing of the task's is in it
				}
				shown.Drop()
			}
			if err := add(e.Name, wire.QID{Type: qidType(e.Kind), Path: e.QID}, direntType(e.Kind)); err != nil {
				return err
			}
		}
	}
	for _, name := range t.localNames(n) {
		if err := add(name, wire.QID{Type: wire.QTDir, Path: placeQID(n.qid.Path, name)}, unix.DT_DIR); err != nil {
			return err
		}
	}
	return nil
}

func has(dir ninep.Node, name string) bool {
	low, err := dir.Walk(name)
	if err != nil {
		return false
	}
	low.Drop()
	return true
}

// localNames are the places for the guest's own disk in a directory.
func (t *Tree) localNames(dir *node) []string {
	if len(t.local) == 0 || dir.local {
		return nil
	}
	path := ""
	for _, part := range dir.path() {
		path = layer.Join(path, part)
	}
	var names []string
	for local := range t.local {
		parts := layer.Components(local)
		above := ""
		for _, part := range parts[:len(parts)-1] {
			above = layer.Join(above, part)
		}
		if above == path {
			names = append(names, parts[len(parts)-1])
		}
	}
	sort.Strings(names)
	return names
}
