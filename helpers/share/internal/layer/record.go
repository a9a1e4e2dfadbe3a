package layer

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
	"strings"
)

// The log's form. Both files begin with a header line; records follow without gaps:
//
//	header   "cloche-layer 2 ", the mark in 16 hex digits, " ", their CRC-32C in 8, "\n"
//	record   u32 length of payload, u32 CRC-32C of payload, mark, payload
//	payload  uvarint seq, uvarint time (ms since 1970), uvarint count of operations, operations
//	more     4, the last operation of a record whose change goes on in the next one, under the same seq
//	put      1, the node's fields in the order of Node
//	remove   2, uvarint id
//	qid      3, uvarint device, inode, qid: what an applied node was for the guest, by the object it became
//
// The mark is 8 random bytes that no guest learns. A guest chooses names, link texts and attributes, which may look like records themselves: only
// what has the mark is one, wherever it is found. Version 1 ("cloche-layer 1\n") has no mark; a layer of it is read, and written anew by Open.
//
// Numbers are uvarints (times zig-zag varints), strings have their length before them, a Base or a map that is absent is 0.
const (
	oldHeader    = "cloche-layer 1\n"
	headerBegins = "cloche-layer 2 "
	markBytes    = 8
	headerBytes  = len(headerBegins) + 2*markBytes + 1 + 8 + 1
	// maxRecord bounds a payload. A longer change is several records, which count only when the last one is there.
	maxRecord   = 1 << 20
	frameBytes  = 8
	opPut       = 1
	opRemove    = 2
	opQID       = 3
	opMore      = 4
	maxLinkText = 4096
	maxName     = 255
)

// form is how a file's records are told. The zero value is version 1.
type form struct{ mark []byte }

// newForm is one that nobody can guess.
func newForm() form {
	f := form{make([]byte, markBytes)}
	_, _ = rand.Read(f.mark)
	return f
}

func (f form) header() string {
	if f.mark == nil {
		return oldHeader
	}
	mark := hex.EncodeToString(f.mark)
	return fmt.Sprintf("%s%s %08x\n", headerBegins, mark, crc32.Checksum([]byte(mark), castagnoli))
}

func (f form) frameBytes() int { return frameBytes + len(f.mark) }

// formOf reads a file's header. whole: all of it is there, else it was being written.
func formOf(file string, data []byte) (f form, whole bool, err error) {
	if bytes.HasPrefix(data, []byte(oldHeader)) {
		return f, true, nil
	}
	if len(data) >= headerBytes && bytes.HasPrefix(data, []byte(headerBegins)) {
		f.mark = make([]byte, markBytes)
		if _, err := hex.Decode(f.mark, data[len(headerBegins):len(headerBegins)+2*markBytes]); err == nil && string(data[:headerBytes]) == f.header() {
			return f, true, nil
		}
		return f, false, &CorruptError{File: file, What: "a header that does not match its checksum"}
	}
	begins := data[:min(len(data), len(headerBegins))]
	if len(data) < headerBytes && (strings.HasPrefix(headerBegins, string(begins)) || strings.HasPrefix(oldHeader, string(data))) {
		return f, false, nil
	}
	return f, false, &CorruptError{File: file, What: "no header of a layer, or a layer of a newer version"}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// op is one step of a record.
type op struct {
	put    *Node
	remove ID
	qid    *objectQID
}

type object struct{ device, inode uint64 }

type objectQID struct {
	object
	qid uint64
}

type record struct {
	seq    uint64
	timeMs int64
	ops    []op
	more   bool // the change goes on in the next record
}

// size is what an operation takes in a record, estimated: less than twice as much is right.
func (o op) size() int64 {
	const numbers, qidBytes = 256, 40
	if o.put != nil {
		return numbers + o.put.texts()
	}
	return qidBytes
}

// parts cuts operations so that each part is surely within a record.
func parts(ops []op) [][]op {
	const perRecord = maxRecord / 4
	var all [][]op
	begin, bytes := 0, int64(0)
	for i, o := range ops {
		more := o.size()
		if i > begin && bytes+more > perRecord {
			all, begin, bytes = append(all, ops[begin:i]), i, 0
		}
		bytes += more
	}
	return append(all, ops[begin:])
}

type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) text(s string) { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) bool(v bool) {
	if v {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) base(b *Base) {
	e.bool(b != nil)
	if b == nil {
		return
	}
	e.text(b.Path)
	e.uint(uint64(b.Kind))
	e.uint(b.Device)
	e.uint(b.Inode)
	e.uint(uint64(b.Mode))
	e.int(b.Size)
	e.int(b.MtimeNs)
	e.int(b.CtimeNs)
	e.uint(b.Content)
}

func (e *encoder) node(n *Node) {
	e.uint(uint64(n.ID))
	e.uint(uint64(n.Parent))
	e.text(n.Name)
	e.uint(uint64(n.Kind))
	e.uint(n.QID)
	e.bool(n.Made)
	e.bool(n.Whiteout)
	e.bool(n.Moved)
	e.base(n.Base)
	e.base(n.Over)
	e.uint(n.Content)
	e.bool(n.Opaque)
	e.uint(uint64(n.Mode))
	e.bool(n.ModeSet)
	e.int(n.MtimeNs)
	e.bool(n.MtimeSet)
	e.text(n.Target)
	e.uint(uint64(len(n.Xattrs)))
	names := make([]string, 0, len(n.Xattrs))
	for name := range n.Xattrs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		value := n.Xattrs[name]
		e.text(name)
		e.bool(value != nil)
		e.text(string(value))
	}
	e.uint(n.Seq)
}

// encode gives the record as it stands in the log.
func (r *record) encode(f form) ([]byte, error) {
	e := encoder{b: make([]byte, f.frameBytes(), 256)}
	e.uint(r.seq)
	e.uint(uint64(r.timeMs))
	count := len(r.ops)
	if r.more {
		count++
	}
	e.uint(uint64(count))
	for _, o := range r.ops {
		switch {
		case o.put != nil:
			e.uint(opPut)
			e.node(o.put)
		case o.qid != nil:
			e.uint(opQID)
			e.uint(o.qid.device)
			e.uint(o.qid.inode)
			e.uint(o.qid.qid)
		default:
			e.uint(opRemove)
			e.uint(uint64(o.remove))
		}
	}
	if r.more {
		e.uint(opMore)
	}
	payload := e.b[f.frameBytes():]
	if len(payload) > maxRecord {
		return nil, errTooLarge
	}
	binary.LittleEndian.PutUint32(e.b, uint32(len(payload)))
	binary.LittleEndian.PutUint32(e.b[4:], crc32.Checksum(payload, castagnoli))
	copy(e.b[frameBytes:], f.mark)
	return e.b, nil
}

var errTooLarge = errors.New("a record of the layer would be too large")

// decoder reads a payload; the first thing that does not fit makes all that follows zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(max int) string {
	n := d.uint()
	if n > uint64(len(d.b)) || n > uint64(max) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) bool() bool {
	switch d.uint() {
	case 0:
		return false
	case 1:
		return true
	}
	d.bad = true
	return false
}

func (d *decoder) kind() Kind {
	k := Kind(d.uint())
	if k < File || k > Link {
		d.bad = true
	}
	return k
}

func (d *decoder) base() *Base {
	if !d.bool() {
		return nil
	}
	b := &Base{Path: d.text(maxRecord)}
	b.Kind = d.kind()
	b.Device, b.Inode, b.Mode = d.uint(), d.uint(), uint32(d.uint())
	b.Size, b.MtimeNs, b.CtimeNs, b.Content = d.int(), d.int(), d.int(), d.uint()
	return b
}

func (d *decoder) node() *Node {
	n := &Node{ID: ID(d.uint()), Parent: ID(d.uint()), Name: d.text(maxName)}
	n.Kind = d.kind()
	n.QID = d.uint()
	n.Made = d.bool()
	n.Whiteout = d.bool()
	n.Moved = d.bool()
	n.Base, n.Over = d.base(), d.base()
	n.Content = d.uint()
	n.Opaque = d.bool()
	n.Mode = uint32(d.uint())
	n.ModeSet = d.bool()
	n.MtimeNs = d.int()
	n.MtimeSet = d.bool()
	n.Target = d.text(maxLinkText)
	if count := d.uint(); count > 0 {
		if count > uint64(len(d.b)) {
			d.bad = true
			return n
		}
		n.Xattrs = make(map[string][]byte, count)
		for range count {
			name, there, value := d.text(maxName), d.bool(), d.text(maxRecord)
			if there {
				n.Xattrs[name] = []byte(value)
			} else {
				n.Xattrs[name] = nil
			}
		}
	}
	n.Seq = d.uint()
	return n
}

func decodeRecord(payload []byte) (*record, error) {
	d := decoder{b: payload}
	r := &record{seq: d.uint(), timeMs: int64(d.uint())}
	count := d.uint()
	if count > uint64(len(payload)) {
		return nil, errors.New("a count that cannot be")
	}
	for range count {
		if r.more {
			return nil, errors.New("something behind the end of a part")
		}
		switch kind := d.uint(); kind {
		case opMore:
			r.more = true
		case opPut:
			r.ops = append(r.ops, op{put: d.node()})
		case opRemove:
			r.ops = append(r.ops, op{remove: ID(d.uint())})
		case opQID:
			r.ops = append(r.ops, op{qid: &objectQID{object{d.uint(), d.uint()}, d.uint()}})
		default:
			return nil, fmt.Errorf("an unknown operation %d", kind)
		}
		if d.bad {
			return nil, errors.New("a field that does not fit")
		}
	}
	if d.bad || len(d.b) > 0 {
		return nil, errors.New("bytes that do not fit")
	}
	return r, nil
}

// CorruptError is damage that no interrupted write explains; the layer's files are left as they are.
type CorruptError struct {
	File   string
	Offset int64
	What   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.File, e.Offset, e.What)
}

// framed gives the payload of the record that data begins with; nil and why when it begins with none.
func (f form) framed(data []byte) (payload []byte, why string) {
	begin := f.frameBytes()
	if len(data) < begin {
		return nil, "less than a record"
	}
	length := int64(binary.LittleEndian.Uint32(data))
	switch {
	case length == 0 || length > maxRecord || length > int64(len(data)-begin):
		return nil, "a record of a length that cannot be"
	case !bytes.Equal(data[frameBytes:begin], f.mark):
		return nil, "a record without the log's mark"
	}
	payload = data[begin : int64(begin)+length]
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(data[4:]) {
		return nil, "a record that does not match its checksum"
	}
	return payload, ""
}

// readRecords calls use for each whole change and gives the offset behind the last one; 0 when not even the header is whole. A torn tail ends
// the reading, and a change of several records of which the last is missing is one; damage before the tail is a CorruptError.
func readRecords(file string, data []byte, use func(*record) error) (end int64, f form, err error) {
	f, whole, err := formOf(file, data)
	if err != nil || !whole {
		return 0, f, err
	}
	end, err = f.readRecords(file, data, use)
	return end, f, err
}

func (f form) readRecords(file string, data []byte, use func(*record) error) (int64, error) {
	at := int64(len(f.header()))
	whole := at
	var begun *record // a change whose last part is to come
	for rest := data[at:]; len(rest) > 0; rest = data[at:] {
		payload, why := f.framed(rest)
		if payload == nil {
			// Only what reaches to the end can be an interrupted write; zeros are blocks that never reached the disk. A whole
			// record behind it proves that the damage is another one, and cutting it off would lose that record.
			if allZero(rest) || !f.holdsRecord(rest[1:]) {
				return whole, nil
			}
			return at, &CorruptError{File: file, Offset: at, What: why}
		}
		r, err := decodeRecord(payload)
		if err != nil {
			return at, &CorruptError{File: file, Offset: at, What: err.Error()}
		}
		if begun != nil {
			if r.seq != begun.seq {
				return at, &CorruptError{File: file, Offset: at, What: "a change without its end"}
			}
			r.ops = append(begun.ops, r.ops...)
			begun = nil
		}
		at += int64(f.frameBytes() + len(payload))
		if r.more {
			begun = r
			continue
		}
		if err := use(r); err != nil {
			return whole, &CorruptError{File: file, Offset: whole, What: err.Error()}
		}
		whole = at
	}
	return whole, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// holdsRecord looks for a whole record at any place.
func (f form) holdsRecord(b []byte) bool {
	// Without a mark any bytes may be taken for one: what cannot be looked through in this many is left as it is.
	left := int64(256 << 20)
	for ; len(b) > f.frameBytes(); b = b[1:] {
		if f.mark != nil {
			next := bytes.Index(b[frameBytes:], f.mark)
			if next < 0 {
				return false
			}
			b = b[next:]
		}
		if payload, _ := f.framed(b); payload != nil {
			if _, err := decodeRecord(payload); err == nil {
				return true
			}
		}
		if f.mark == nil {
			if length := int64(binary.LittleEndian.Uint32(b)); length <= min(maxRecord, int64(len(b))) {
				left -= length
			}
			if left < 0 {
				return true
			}
		}
	}
	return false
}
