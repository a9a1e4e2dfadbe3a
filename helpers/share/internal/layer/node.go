package layer

import "strings"

// ID names a node; it is never used again in the same layer.
type ID uint64

// RootID is the folder itself.
const RootID ID = 1

// Kind is what a node is.
type Kind uint8

const (
	File Kind = iota + 1
	Directory
	Link
)

// Base is what of the folder a node was made from, as it was then.
type Base struct {
	// Path from the folder, components joined by '/'.
	Path          string
	Kind          Kind
	Device, Inode uint64
	// Mode has the permissions alone.
	Mode             uint32
	Size             int64
	MtimeNs, CtimeNs int64
	// Content holds the file's bytes as they were, for differences; 0 when they were too many to keep.
	Content uint64
}

// Same tells whether two looks found the same object with the same content. The device's number does not count: a host may give
// the same volume another one at each start.
func (b *Base) Same(other *Base) bool {
	return b.Kind == other.Kind && b.Inode == other.Inode && b.Size == other.Size &&
		b.MtimeNs == other.MtimeNs && (b.Kind == Directory || b.CtimeNs == other.CtimeNs)
}

// Node is one name of the layer. Values are copies: only Layer's methods change what is kept.
type Node struct {
	ID, Parent ID
	Name       string
	Kind       Kind
	// QID is the path number that the guest sees; it stays when the node is copied up, moved or applied.
	QID uint64
	// Made: the task made it, so that a Base is only what it stands in the place of; otherwise it is the Base's object itself,
	// wherever it is now.
	Made bool
	// Whiteout: the name is deleted; what was there is Base.
	Whiteout bool
	// Moved, of a whiteout: what was there has a node elsewhere, with the same Base.
	Moved bool
	// Elsewhere: the task moved it, so it is not where its Base is. It follows from the places and is not kept; what lies in a
	// directory that was moved is not elsewhere itself.
	Elsewhere bool
	// Base is nil for what the folder never had.
	Base *Base
	// Over is what of the folder stands at the place of a node that was moved there from elsewhere in the folder; nil: nothing.
	Over *Base
	// Content is the file's bytes; 0 while they are the Base's.
	Content uint64
	// Opaque, of a directory: nothing of the folder shows below it.
	Opaque bool
	// Mode counts when ModeSet; otherwise the Base's holds. Permissions alone.
	Mode    uint32
	ModeSet bool
	// MtimeNs counts when MtimeSet; otherwise the content file's, or the Base's.
	MtimeNs  int64
	MtimeSet bool
	// Target is a link's text.
	Target string
	// Xattrs are those that differ from the Base's; a nil value is one that was removed.
	Xattrs map[string][]byte
	// Seq is the number of the last record that changed the node.
	Seq uint64
	// Placed is the number of the record that gave it its name and directory, or a later one: it is not kept over an Open.
	Placed uint64
}

// Passing tells whether the node only leads to others: it is no change itself.
func (n *Node) Passing() bool {
	return n.Kind == Directory && !n.Whiteout && !n.Elsewhere && !n.Opaque && n.Base != nil && n.Over == nil && !n.ModeSet && !n.MtimeSet && len(n.Xattrs) == 0
}

// texts is what the node's names, paths, link text and attributes take in memory and in the log.
func (n *Node) texts() int64 {
	size := len(n.Name) + len(n.Target)
	for _, b := range []*Base{n.Base, n.Over} {
		if b != nil {
			size += len(b.Path)
		}
	}
	for name, value := range n.Xattrs {
		size += len(name) + len(value)
	}
	return int64(size)
}

// mayHold tells whether nodes may lie below: in a directory, or in what stands in the place of one of the folder's, whose
// files were deleted before.
func (n *Node) mayHold() bool {
	return n.Kind == Directory || n.Base != nil && n.Base.Kind == Directory
}

// fitsRecord tells whether a record can hold the node, as decoding sees it.
func (n *Node) fitsRecord() bool {
	isKind := func(k Kind) bool { return k >= File && k <= Link }
	for _, b := range []*Base{n.Base, n.Over} {
		if b != nil && !isKind(b.Kind) {
			return false
		}
	}
	for name := range n.Xattrs {
		if len(name) > maxName {
			return false
		}
	}
	return isKind(n.Kind) && len(n.Name) <= maxName && len(n.Target) <= maxLinkText
}

// standsInstead tells whether the node stands in the place of its Base, whether that was deleted, moved away or replaced.
func (n *Node) standsInstead() bool { return n.Base != nil && (n.Whiteout || n.Made) }

// clone copies what may be shared.
func (n *Node) clone() *Node {
	c := *n
	if n.Base != nil {
		b := *n.Base
		c.Base = &b
	}
	if n.Over != nil {
		b := *n.Over
		c.Over = &b
	}
	if n.Xattrs != nil {
		c.Xattrs = make(map[string][]byte, len(n.Xattrs))
		for name, value := range n.Xattrs {
			c.Xattrs[name] = value
		}
	}
	return &c
}

// Join makes a path of a directory's and a name.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// Components splits a path; the folder itself has none.
func Components(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}
