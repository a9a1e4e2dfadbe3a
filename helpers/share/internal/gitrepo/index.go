package gitrepo

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// indexEntry is one line of the index (gitformat-index).
type indexEntry struct {
	stat     [40]byte // as it stands in the file; the mode in it is not looked at
	mode     uint32
	id       ID
	flags    uint16 // assume-valid, extended, stage; the name's length is made anew
	extended uint16
	path     string
}

const (
	assumeValid  = 0x8000
	hasExtended  = 0x4000
	stageMask    = 0x3000
	intentToAdd  = 0x2000 // of the extended flags
	skipWorktree = 0x4000
	statBytes    = 40
	modeAt       = 24
)

// key is what makes two entries the same to a user: everything but what was cached of the file and what is to be
// left alone in the folder.
func (e *indexEntry) key() string {
	var b []byte
	b = binary.BigEndian.AppendUint32(b, e.mode)
	b = append(b, byte(e.flags&stageMask>>12), byte(e.extended&intentToAdd>>13))
	return string(append(b, e.id...))
}

func (e *indexEntry) stage() int { return int(e.flags & stageMask >> 12) }

type index struct {
	entries []indexEntry
}

// parseIndex reads versions 2 to 4. An extension that git must understand to read on (a split or sparse index) is
// refused; the others are caches and are left out.
func (f *format) parseIndex(w *work, b []byte) (*index, error) {
	ix := &index{}
	if len(b) == 0 {
		return ix, nil
	}
	if err := w.spend(int64(len(b))); err != nil {
		return nil, err
	}
	if len(b) < 12+f.size || string(b[:4]) != "DIRC" {
		return nil, malformed("the index's header is not one")
	}
	version, count := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if version < 2 || version > 4 {
		return nil, malformed("the index is of version %d", version)
	}
	if count > maxEntries {
		return nil, tooMuch("the index has more than %d entries", maxEntries)
	}
	body, sum := b[:len(b)-f.size], ID(b[len(b)-f.size:])
	h := f.new()
	h.Write(body)
	if !sum.isZero() && ID(h.Sum(nil)) != sum { // zero: index.skipHash
		return nil, malformed("the index does not have its own checksum")
	}
	rest := body[12:]
	before := ""
	for range count {
		start := rest
		if len(rest) < statBytes+f.size+2 {
			return nil, malformed("the index is cut short")
		}
		var e indexEntry
		copy(e.stat[:], rest)
		e.mode = binary.BigEndian.Uint32(rest[modeAt:])
		e.id = ID(rest[statBytes : statBytes+f.size])
		e.flags = binary.BigEndian.Uint16(rest[statBytes+f.size:])
		rest = rest[statBytes+f.size+2:]
		if e.flags&hasExtended != 0 {
			if version == 2 || len(rest) < 2 {
				return nil, malformed("the index has an entry with flags of another version")
			}
			e.extended = binary.BigEndian.Uint16(rest)
			rest = rest[2:]
		}
		kept := ""
		if version == 4 {
			strip, tail, ok := offsetVarint(rest)
			if !ok || strip > uint64(len(before)) {
				return nil, malformed("the index has a path that is cut short")
			}
			kept, rest = before[:len(before)-int(strip)], tail
		}
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(kept)+end > 4096 || len(kept)+end == 0 {
			return nil, malformed("the index has a path that is none")
		}
		e.path = kept + string(rest[:end])
		rest = rest[end+1:]
		if version < 4 {
			// Padded with 1 to 8 NULs to a multiple of 8.
			used := len(start) - len(rest)
			padding := (8 - used%8) % 8
			if len(rest) < padding {
				return nil, malformed("the index is cut short")
			}
			rest = rest[padding:]
		}
		if last := len(ix.entries) - 1; last >= 0 {
			l := &ix.entries[last]
			if l.path > e.path || l.path == e.path && l.stage() >= e.stage() {
				return nil, malformed("the index is not in order")
			}
		}
		before = e.path
		ix.entries = append(ix.entries, e)
	}
	for len(rest) > 0 {
		if len(rest) < 8 {
			return nil, malformed("the index is cut short")
		}
		name, size := rest[:4], binary.BigEndian.Uint32(rest[4:])
		if name[0] < 'A' || name[0] > 'Z' {
			return nil, malformed("the index is split or sparse, which is not taken apart here")
		}
		if int64(size) > int64(len(rest)-8) {
			return nil, malformed("the index is cut short")
		}
		rest = rest[8+size:]
	}
	return ix, nil
}

// offsetVarint is the number that packs use for offsets and index version 4 for prefixes.
func offsetVarint(b []byte) (uint64, []byte, bool) {
	var n uint64
	for i := 0; i < len(b) && i < 8; i++ {
		n = n<<7 | uint64(b[i]&0x7f)
		if b[i]&0x80 == 0 {
			return n, b[i+1:], true
		}
		n++
	}
	return 0, nil, false
}

// differences counts entries that are in one of both only.
func (ix *index) differences(other *index) int {
	count, i, k := 0, 0, 0
	for i < len(ix.entries) || k < len(other.entries) {
		switch {
		case k == len(other.entries) || i < len(ix.entries) && ix.entries[i].path < other.entries[k].path:
			count, i = count+1, i+1
		case i == len(ix.entries) || ix.entries[i].path > other.entries[k].path:
			count, k = count+1, k+1
		default:
			if ix.entries[i].key() != other.entries[k].key() {
				count++
			}
			i, k = i+1, k+1
		}
	}
	return count
}

// unsafe tells why the guest's entries may not be taken, empty when they may.
func (ix *index) unsafe() string {
	for i := range ix.entries {
		e := &ix.entries[i]
		if e.stage() != 0 {
			return "the task's index has files in conflict"
		}
		switch e.mode {
		case 0o100644, 0o100755, treeLink, treeSub:
		default:
			return "the task's index has an entry of a mode that does not exist"
		}
		start := 0
		for k := 0; k <= len(e.path); k++ {
			if k == len(e.path) || e.path[k] == '/' {
				if why := harmful(e.path[start:k], e.mode); why != "" {
					return "the task's index has " + why
				}
				start = k + 1
			}
		}
	}
	return ""
}

// take gives an index with the guest's entries as the host's git would have written them: where the host has the
// same entry, that one, with what git cached of the file and its flags; else one about which nothing is known of
// the file, so that git looks at the content. A guest thus can neither hide a change nor say one is there.
func (f *format) take(host, guest *index) []byte {
	known := make(map[string]*indexEntry, len(host.entries))
	for i := range host.entries {
		if e := &host.entries[i]; e.stage() == 0 {
			known[e.path] = e
		}
	}
	entries := make([]indexEntry, 0, len(guest.entries))
	for i := range guest.entries {
		g := &guest.entries[i]
		if h := known[g.path]; h != nil && h.key() == g.key() {
			entries = append(entries, *h)
			continue
		}
		e := indexEntry{mode: g.mode, id: g.id, path: g.path, extended: g.extended & intentToAdd}
		binary.BigEndian.PutUint32(e.stat[modeAt:], g.mode)
		entries = append(entries, e)
	}
	return f.writeIndex(entries)
}

// writeIndex writes version 2, or 3 where an entry has extended flags.
func (f *format) writeIndex(entries []indexEntry) []byte {
	version := uint32(2)
	for i := range entries {
		if entries[i].extended != 0 {
			version = 3
		}
	}
	out := append([]byte("DIRC"), 0, 0, 0, byte(version))
	out = binary.BigEndian.AppendUint32(out, uint32(len(entries)))
	for i := range entries {
		e := &entries[i]
		start := len(out)
		out = append(out, e.stat[:]...)
		out = append(out, e.id...)
		flags := e.flags&(assumeValid|stageMask) | uint16(min(len(e.path), 0xfff))
		if e.extended != 0 {
			flags |= hasExtended
		}
		out = binary.BigEndian.AppendUint16(out, flags)
		if e.extended != 0 {
			out = binary.BigEndian.AppendUint16(out, e.extended)
		}
		out = append(out, e.path...)
		out = append(out, make([]byte, 8-(len(out)-start)%8)...)
	}
	h := f.new()
	h.Write(out)
	return h.Sum(out)
}

// flatten gives a tree's files as an index has them, in its order.
func (r *Repository) flatten(read func(ID) (object, error), tree ID) (*index, error) {
	ix := &index{}
	if tree == "" {
		return ix, nil
	}
	var walk func(id ID, prefix string, depth int) error
	walk = func(id ID, prefix string, depth int) error {
		entries, err := r.readTree(read, id)
		if err != nil {
			return err
		}
		if depth > maxTreeDepth {
			return tooMuch("folders nested deeper than %d", maxTreeDepth)
		}
		for _, e := range entries {
			if e.isDir() {
				if err := walk(e.id, prefix+e.name+"/", depth+1); err != nil {
					return err
				}
				continue
			}
			if len(ix.entries) == maxEntries {
				return tooMuch("a tree with more than %d files", maxEntries)
			}
			ix.entries = append(ix.entries, indexEntry{mode: canonical(e.mode), id: e.id, path: prefix + e.name})
		}
		return nil
	}
	if err := walk(tree, "", 0); err != nil {
		return nil, err
	}
	sort.Slice(ix.entries, func(i, k int) bool { return ix.entries[i].path < ix.entries[k].path })
	return ix, nil
}

// canonical is the mode that git gives a file of an old tree's mode.
func canonical(mode uint32) uint32 {
	if mode&modeType != modeFile {
		return mode & modeType
	}
	if mode&0o100 != 0 {
		return 0o100755
	}
	return 0o100644
}
