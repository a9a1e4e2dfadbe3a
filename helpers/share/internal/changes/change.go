//go:build linux

package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
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

	parts []part // what it is made of, a single one for most
	git   []string
}

// part is one node of the layer with what it was found to be.
type part struct {
	node *layer.Node
	path string
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
			return fmt.Errorf("%w: what the task wrote at %q cannot be read: %v", errNotAppliable, c.parts[i].path, err)
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
type digest struct{ b []byte }

func (d *digest) add(values ...uint64) {
	for _, v := range values {
		d.b = binary.LittleEndian.AppendUint64(d.b, v)
	}
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
	d.add(uint64(p.node.ID), p.node.Seq, uint64(len(p.path)))
	d.b = append(d.b, p.path...)
	d.base(p.now)
	if p.file != nil {
		d.add(uint64(p.file.Size), uint64(p.file.Mtim.Nano()), uint64(p.file.Ctim.Nano()))
	}
}

func (d *digest) token() string {
	sum := sha256.Sum256(d.b)
	return hex.EncodeToString(sum[:16])
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
