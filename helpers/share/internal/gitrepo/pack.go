package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// pack is one pack with its index of version 2 (gitformat-pack). Both files stay open.
type pack struct {
	*work
	format  *format
	index   File
	data    File
	count   int64
	fanout  [256]uint32
	bigger  int64 // where the index has offsets that take 64 bits
	biggers int64 // how many
}

const (
	packHeader  = 12
	indexHeader = 8 + 4*256
)

func openPack(w *work, f *format, folder Dir, base string) (*pack, error) {
	index, err := folder.File(base + ".idx")
	if err != nil {
		return nil, err
	}
	p := &pack{work: w, format: f, index: index}
	if p.data, err = folder.File(base + ".pack"); err != nil {
		index.Close()
		return nil, err
	}
	if err := p.readHeaders(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pack) close() {
	p.index.Close()
	p.data.Close()
}

func (p *pack) readHeaders() error {
	head := make([]byte, indexHeader)
	if _, err := p.index.ReadAt(head, 0); err != nil {
		return malformed("an index of a pack is cut short")
	}
	if string(head[:8]) != "\xfftOc\x00\x00\x00\x02" {
		return malformed("an index of a pack is not of version 2")
	}
	var before uint32
	for i := range p.fanout {
		p.fanout[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if p.fanout[i] < before {
			return malformed("an index of a pack is not in order")
		}
		before = p.fanout[i]
	}
	p.count = int64(before)
	if p.count > maxPackObjects {
		return tooMuch("a pack with more than %d objects", maxPackObjects)
	}
	p.bigger = indexHeader + p.count*int64(p.format.size+8)
	p.biggers = (p.index.Size() - p.bigger - 2*int64(p.format.size)) / 8
	if p.index.Size() < p.bigger+2*int64(p.format.size) {
		return malformed("an index of a pack is cut short")
	}
	var packHead [packHeader]byte
	if _, err := p.data.ReadAt(packHead[:], 0); err != nil {
		return malformed("a pack is cut short")
	}
	version := binary.BigEndian.Uint32(packHead[4:])
	if string(packHead[:4]) != "PACK" || version != 2 && version != 3 || int64(binary.BigEndian.Uint32(packHead[8:])) != p.count {
		return malformed("a pack's header does not fit its index")
	}
	return nil
}

// find gives the offset of an object's entry, 0 when the index has no such id.
func (p *pack) find(id ID) (int64, error) {
	low, high := int64(0), int64(p.fanout[id[0]])
	if id[0] > 0 {
		low = int64(p.fanout[id[0]-1])
	}
	size := int64(p.format.size)
	name := make([]byte, size)
	for low < high {
		middle := (low + high) / 2
		if _, err := p.index.ReadAt(name, indexHeader+middle*size); err != nil {
			return 0, err
		}
		switch {
		case ID(name) == id:
			return p.offset(middle)
		case ID(name) < id:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, nil
}

func (p *pack) offset(n int64) (int64, error) {
	var b [8]byte
	if _, err := p.index.ReadAt(b[:4], indexHeader+p.count*int64(p.format.size+4)+4*n); err != nil {
		return 0, err
	}
	offset := int64(binary.BigEndian.Uint32(b[:4]))
	if offset&(1<<31) != 0 {
		n := offset &^ (1 << 31)
		if n >= p.biggers {
			return 0, malformed("an index of a pack names an offset that it does not have")
		}
		if _, err := p.index.ReadAt(b[:], p.bigger+8*n); err != nil {
			return 0, err
		}
		offset = int64(binary.BigEndian.Uint64(b[:]) & (1<<63 - 1))
	}
	if offset < packHeader || offset >= p.data.Size() {
		return 0, malformed("an index of a pack names an offset outside of it")
	}
	return offset, nil
}

// entry is the head of a pack's entry.
type entry struct {
	kind objectType
	size int64
	at   int64 // where its compressed bytes begin
	base int64 // a delta's base
}

func (p *pack) entry(offset int64) (entry, error) {
	var b [64]byte
	n, err := p.data.ReadAt(b[:], offset)
	if err != nil && err != io.EOF {
		return entry{}, err
	}
	head := b[:n]
	next := func() (c byte, ok bool) {
		if len(head) == 0 {
			return 0, false
		}
		c, head = head[0], head[1:]
		return c, true
	}
	c, ok := next()
	e := entry{kind: objectType(c >> 4 & 7), size: int64(c & 15)}
	for shift := 4; ok && c&0x80 != 0; shift += 7 {
		if shift > 53 {
			return entry{}, malformed("an entry of a pack has a size beyond all bounds")
		}
		c, ok = next()
		e.size |= int64(c&0x7f) << shift
	}
	switch {
	case !ok:
		return entry{}, malformed("a pack is cut short")
	case e.kind == ofsDelta:
		c, ok := next()
		back := int64(c & 0x7f)
		for ok && c&0x80 != 0 {
			if back > 1<<48 {
				return entry{}, malformed("a delta's base is out of bounds")
			}
			c, ok = next()
			back = (back+1)<<7 | int64(c&0x7f)
		}
		e.base = offset - back
		if !ok || back == 0 || e.base < packHeader {
			return entry{}, malformed("a delta's base is out of bounds")
		}
	case e.kind == refDelta:
		if len(head) < p.format.size {
			return entry{}, malformed("a pack is cut short")
		}
		// A pack on disk is whole: the base is in it too.
		if e.base, err = p.find(ID(head[:p.format.size])); err != nil {
			return entry{}, err
		}
		if e.base == 0 {
			return entry{}, malformed("a delta's base is not in its pack")
		}
		head = head[p.format.size:]
	case e.kind.String() == "":
		return entry{}, malformed("an entry of a pack is of no known type")
	}
	e.at = offset + int64(n-len(head))
	return e, nil
}

// inflate gives an entry's bytes as a stream of its size.
func (p *pack) inflate(e entry) (io.Reader, error) {
	if err := p.spend(e.size); err != nil {
		return nil, err
	}
	z, err := zlib.NewReader(bufio.NewReaderSize(io.NewSectionReader(p.data, e.at, p.data.Size()-e.at), 16<<10))
	if err != nil {
		return nil, malformed("an entry of a pack: %v", err)
	}
	return exactly(z, e.size), nil
}

// openPacked gives an object of a pack. The chain of deltas is walked down to what is no delta or is remembered, and
// then applied upwards, so neither the stack nor more than two results grow with its length.
func (s *store) openPacked(p *pack, offset int64) (objectType, int64, io.Reader, error) {
	type link struct {
		entry
		offset int64
	}
	var chain []link
	var base object
	for at := offset; ; {
		if known, ok := s.cache.get(cacheKey{pack: p, offset: at}); ok {
			base = known
			break
		}
		e, err := p.entry(at)
		if err != nil {
			return 0, 0, nil, err
		}
		if e.kind != ofsDelta && e.kind != refDelta {
			if e.size > maxBlob || e.size > maxObject && len(chain) > 0 {
				return 0, 0, nil, tooMuch("an object has more than %d bytes", int64(maxBlob))
			}
			r, err := p.inflate(e)
			if err != nil || len(chain) == 0 {
				return e.kind, e.size, r, err
			}
			data, err := readSized(r, e.size)
			if err != nil {
				return 0, 0, nil, malformed("an entry of a pack: %v", err)
			}
			base = object{e.kind, data}
			s.cache.put(cacheKey{pack: p, offset: at}, base)
			break
		}
		if len(chain) == maxDeltaChain {
			return 0, 0, nil, tooMuch("a chain of more than %d deltas", maxDeltaChain)
		}
		if e.size > maxObject {
			return 0, 0, nil, tooMuch("a delta has more than %d bytes", maxObject)
		}
		if err := s.spend(0); err != nil {
			return 0, 0, nil, err
		}
		chain = append(chain, link{e, at})
		at = e.base
	}
	for i := len(chain) - 1; i >= 0; i-- {
		r, err := p.inflate(chain[i].entry)
		if err != nil {
			return 0, 0, nil, err
		}
		delta, err := readSized(r, chain[i].size)
		if err != nil {
			return 0, 0, nil, malformed("an entry of a pack: %v", err)
		}
		if base.data, err = s.applyDelta(base.data, delta); err != nil {
			return 0, 0, nil, err
		}
		s.cache.put(cacheKey{pack: p, offset: chain[i].offset}, base)
	}
	return base.kind, int64(len(base.data)), bytes.NewReader(base.data), nil
}

// applyDelta follows gitformat-pack, "Deltified representation".
func (s *store) applyDelta(base, delta []byte) ([]byte, error) {
	from, delta, ok := deltaSize(delta)
	size, delta, ok2 := deltaSize(delta)
	if !ok || !ok2 || from != uint64(len(base)) {
		return nil, malformed("a delta does not fit its base")
	}
	if size > maxObject {
		return nil, tooMuch("an object made by a delta has more than %d bytes", maxObject)
	}
	if err := s.spend(int64(size)); err != nil {
		return nil, err
	}
	out := make([]byte, 0, min(size, 1<<20))
	for len(delta) > 0 {
		op := delta[0]
		delta = delta[1:]
		var piece []byte
		switch {
		case op == 0:
			return nil, malformed("a delta has an instruction that does not exist")
		case op&0x80 == 0:
			if int(op) > len(delta) {
				return nil, malformed("a delta is cut short")
			}
			piece, delta = delta[:op], delta[op:]
		default:
			var fields [7]uint64
			for i := range fields {
				if op>>i&1 == 0 {
					continue
				}
				if len(delta) == 0 {
					return nil, malformed("a delta is cut short")
				}
				fields[i], delta = uint64(delta[0]), delta[1:]
			}
			at := fields[0] | fields[1]<<8 | fields[2]<<16 | fields[3]<<24
			length := fields[4] | fields[5]<<8 | fields[6]<<16
			if length == 0 {
				length = 0x10000
			}
			if at+length > uint64(len(base)) {
				return nil, malformed("a delta copies from outside its base")
			}
			piece = base[at : at+length]
		}
		if uint64(len(out)+len(piece)) > size {
			return nil, malformed("a delta makes more than it says")
		}
		out = append(out, piece...)
	}
	if uint64(len(out)) != size {
		return nil, malformed("a delta makes less than it says")
	}
	return out, nil
}

func deltaSize(b []byte) (uint64, []byte, bool) {
	var size uint64
	for i := 0; i < len(b) && i < 8; i++ {
		size |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return size, b[i+1:], true
		}
	}
	return 0, nil, false
}
