//go:build linux

package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/gitrepo"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
)

// Kinds and types of changes, as protocol.ts has them.
const (
	Modified    = "modified"
	Added       = "new"
	Deleted     = "deleted"
	MovedTo     = "moved"
	TypeChanged = "type-changed"
	Attributes  = "attributes"

	File       = "file"
	Directory  = "directory"
	Link       = "link"
	Repository = "repository"
	Database   = "database"
	Ignored    = "ignored"

	EscapingLink = "escaping-link"
	AbsoluteLink = "absolute-link"
	PathTooLong  = "path-too-long"

	ConflictChanged = "changed"
	ConflictGone    = "gone"
	ConflictExists  = "exists"
	ConflictType    = "type-changed"
)

// MaxPath is the longest path that is shown whole and applied, in bytes.
const MaxPath = 4096

// Change is one line of the list.
type Change struct {
	ID         string
	Path, From string
	Kind, Type string
	Size       int64
	Binary     bool
	Executable bool
	Protected  bool
	LinkTarget string
	Flags      []string
	Conflict   string
	Count      int
	Summary    *gitrepo.Summary
	Seq        uint64
	Token      string

	dir   *place // in which it is, and its name there; Path is what is shown, and empty in a listing
	name  string
	parts []part // what it is made of, a single one for most
	git   []string
}

// part is one node of the layer with what it was found to be.
type part struct {
	node *layer.Node
	dir  *place // in which it is
	self *place // what it is itself, of a directory
	path string // empty in a listing; see wake
	from string // where the folder has it, for what was moved
	kind string
	base *layer.Base  // what the folder is expected to have at path
	now  *layer.Base  // what the folder has where base was
	file *unix.Stat_t // of the content
	// stuck: why it can only be discarded; nil: it may be applied
	stuck error
	// unread: why what the task wrote cannot be read; nil: it can
	unread error
	// binary: its beginning is no text
	binary bool
	begins [beginning]byte
	// protected: programs on the host obey it
	protected bool
	// leaves: it is a link whose way goes through a link of the folder's, and out of it
	leaves bool
	// carries: it is a directory of the folder's that was moved up, with a link in it that leads out of the folder from there
	carries bool
}

// flag notes how a part is to be warned of, once.
func (c *Change) flag(flag string) {
	if flag != "" && !c.is(flag) {
		c.Flags = append(c.Flags, flag)
	}
}

// never tells why it cannot be applied whatever the folder is; nil: it can.
func (c *Change) never() error {
	for i := range c.parts {
		if err := c.parts[i].stuck; err != nil {
			return err
		}
		if err := c.parts[i].unread; err != nil {
			return fmt.Errorf("%w: what the task wrote at %q cannot be read: %v", errNotAppliable, c.where(), err)
		}
	}
	return nil
}

func (c *Change) is(flag string) bool {
	for _, f := range c.Flags {
		if f == flag {
			return true
		}
	}
	return false
}

// digest collects what a token is over.
type digest struct{ h hash.Hash }

func newDigest() *digest { return &digest{sha256.New()} }

func (d *digest) text(s string) { _, _ = io.WriteString(d.h, s) } // never fails (hash.Hash)

func (d *digest) add(values ...uint64) {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	_, _ = d.h.Write(b)
}

func (d *digest) base(b *layer.Base) {
	if b == nil {
		d.add(0)
		return
	}
	d.add(1, uint64(b.Kind), b.Inode, uint64(b.Mode)) // no device: see layer.Base.Same
	if b.Kind != layer.Directory {
		d.add(uint64(b.Size), uint64(b.MtimeNs), uint64(b.CtimeNs))
	}
}

func (d *digest) part(p *part) {
	path := endOf(p.path)
	d.add(uint64(p.node.ID), p.node.Seq, uint64(len(path)))
	d.text(path)
	d.base(p.now)
	if p.file != nil {
		d.add(uint64(p.file.Size), uint64(p.file.Mtim.Nano()), uint64(p.file.Ctim.Nano()))
	}
}

func (d *digest) token() string {
	return hex.EncodeToString(d.h.Sum(nil)[:16])
}

// linkFlag tells where a link's text may lead.
func linkFlag(path, target string) string {
	switch names.TextLeads(strings.Count(path, "/"), target) {
	case names.Absolute:
		return AbsoluteLink
	case names.Escaping:
		return EscapingLink
	}
	return ""
}
