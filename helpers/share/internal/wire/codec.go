package wire

import (
	"encoding/binary"
	"errors"
)

const (
	// HeaderBytes is size[4] type[1] tag[2].
	HeaderBytes = 7
	// MaxWalk is MAXWELEM of 9P: names in one walk.
	MaxWalk = 16
	// MaxText bounds every string: PATH_MAX, as the longest is the text of a symbolic link.
	MaxText = 4096
	// NoTag is the tag of Tversion.
	NoTag = 0xFFFF
	// NoFid stands for "no fid" in Tattach.
	NoFid = 0xFFFFFFFF
)

var (
	// ErrMalformed: a field does not fit its frame. The stream cannot be trusted any more.
	ErrMalformed = errors.New("wire: a frame is malformed")
	// ErrUnknown: a whole frame of a type that is not a request of 9P2000.L.
	ErrUnknown = errors.New("wire: a frame has an unknown type")
)

// Message is one T or R message of 9P2000.L.
type Message interface {
	Type() Type
	fields(*codec)
}

// codec walks over a message's fields, in one of two directions.
type codec struct {
	buf     []byte // reading: the frame's body; writing: the frame so far
	at      int    // reading: the next byte
	writing bool
	bad     bool // a field did not fit; all later fields are skipped
}

func (c *codec) take(n int) []byte {
	if c.bad || n > len(c.buf)-c.at {
		c.bad = true
		return nil
	}
	c.at += n
	return c.buf[c.at-n : c.at]
}

func (c *codec) u8(v *uint8) {
	if c.writing {
		c.buf = append(c.buf, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *codec) u16(v *uint16) {
	if c.writing {
		c.buf = binary.LittleEndian.AppendUint16(c.buf, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (c *codec) u32(v *uint32) {
	if c.writing {
		c.buf = binary.LittleEndian.AppendUint32(c.buf, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func (c *codec) u64(v *uint64) {
	if c.writing {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.LittleEndian.Uint64(b)
	}
}

func (c *codec) text(v *string) {
	n := uint16(len(*v))
	if c.writing && len(*v) > MaxText {
		c.bad = true
		return
	}
	c.u16(&n)
	switch {
	case c.writing:
		c.buf = append(c.buf, *v...)
	case n > MaxText:
		c.bad = true
	default:
		*v = string(c.take(int(n)))
	}
}

// data is count[4] and that many bytes; when reading it points into the frame.
func (c *codec) data(v *[]byte) {
	n := uint32(len(*v))
	c.u32(&n)
	switch {
	case c.writing:
		c.buf = append(c.buf, *v...)
	case uint64(n) > uint64(len(c.buf)-c.at):
		c.bad = true
	default:
		*v = c.take(int(n))
	}
}

func (c *codec) qid(v *QID) {
	c.u8(&v.Type)
	c.u32(&v.Version)
	c.u64(&v.Path)
}

func (c *codec) time(v *Time) {
	c.u64(&v.Sec)
	c.u64(&v.Nsec)
}

// names is count[2] and that many strings, at most MaxWalk.
func (c *codec) names(v *[]string) {
	n := uint16(len(*v))
	c.u16(&n)
	if n > MaxWalk {
		c.bad = true
		return
	}
	if !c.writing && n > 0 {
		*v = make([]string, n)
	}
	for i := 0; i < int(n) && !c.bad; i++ {
		c.text(&(*v)[i])
	}
}

func (c *codec) qids(v *[]QID) {
	n := uint16(len(*v))
	c.u16(&n)
	if n > MaxWalk {
		c.bad = true
		return
	}
	if !c.writing && n > 0 {
		*v = make([]QID, n)
	}
	for i := 0; i < int(n) && !c.bad; i++ {
		c.qid(&(*v)[i])
	}
}

// Size reads a frame's size field; the caller holds it against its limits.
func Size(frame []byte) uint32 { return binary.LittleEndian.Uint32(frame) }

// Header reads type and tag of a frame of at least HeaderBytes.
func Header(frame []byte) (Type, uint16) {
	return Type(frame[4]), binary.LittleEndian.Uint16(frame[5:])
}

// Decode reads one whole frame. Twrite's data points into it; everything else is copied.
func Decode(frame []byte) (tag uint16, m Message, err error) {
	if len(frame) < HeaderBytes || uint64(Size(frame)) != uint64(len(frame)) {
		return 0, nil, ErrMalformed
	}
	kind, tag := Header(frame)
	m = kind.blank()
	if m == nil {
		return tag, nil, ErrUnknown
	}
	c := codec{buf: frame[HeaderBytes:]}
	m.fields(&c)
	if c.bad || c.at != len(c.buf) {
		return tag, nil, ErrMalformed
	}
	return tag, m, nil
}

// Encode writes m as a frame over buf, whose capacity it uses. It fails with ErrMalformed on text over MaxText or
// a walk over MaxWalk.
func Encode(buf []byte, tag uint16, m Message) ([]byte, error) {
	c := codec{buf: append(buf[:0], 0, 0, 0, 0, byte(m.Type()), byte(tag), byte(tag>>8)), writing: true}
	m.fields(&c)
	if c.bad {
		return nil, ErrMalformed
	}
	binary.LittleEndian.PutUint32(c.buf, uint32(len(c.buf)))
	return c.buf, nil
}

// DataReplyBytes is what precedes the bytes of Rread and Rreaddir: the header and count[4].
const DataReplyBytes = HeaderBytes + 4

// SealData makes frame, whose bytes from DataReplyBytes on are already in place, a reply of the given type. It is
// Encode without the copy, for the two messages that carry file content to the guest.
func SealData(frame []byte, kind Type, tag uint16) {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	frame[4] = byte(kind)
	binary.LittleEndian.PutUint16(frame[5:], tag)
	binary.LittleEndian.PutUint32(frame[HeaderBytes:], uint32(len(frame)-DataReplyBytes))
}

// Dirent is one entry of Rreaddir's data.
type Dirent struct {
	QID    QID
	Offset uint64 // cookie of the entry after this one
	Type   uint8  // DT_* of Linux
	Name   string
}

// DirentBytes is an entry's size without its name.
const DirentBytes = 13 + 8 + 1 + 2

// AppendDirent adds an entry to buf.
func AppendDirent(buf []byte, q QID, offset uint64, kind uint8, name []byte) []byte {
	buf = append(buf, q.Type)
	buf = binary.LittleEndian.AppendUint32(buf, q.Version)
	buf = binary.LittleEndian.AppendUint64(buf, q.Path)
	buf = binary.LittleEndian.AppendUint64(buf, offset)
	buf = append(buf, kind)
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(name)))
	return append(buf, name...)
}

// NextDirent looks at the first entry of what AppendDirent made, and gives the entries behind it. The name is not copied.
func NextDirent(data []byte) (offset uint64, name, rest []byte, ok bool) {
	if len(data) < DirentBytes {
		return 0, nil, nil, false
	}
	offset = binary.LittleEndian.Uint64(data[13:])
	end := DirentBytes + int(binary.LittleEndian.Uint16(data[DirentBytes-2:]))
	if end > len(data) {
		return 0, nil, nil, false
	}
	return offset, data[DirentBytes:end], data[end:], true
}

// Dirents reads Rreaddir's data.
func Dirents(data []byte) ([]Dirent, error) {
	c := codec{buf: data}
	var entries []Dirent
	for c.at < len(c.buf) {
		var d Dirent
		c.qid(&d.QID)
		c.u64(&d.Offset)
		c.u8(&d.Type)
		c.text(&d.Name)
		if c.bad {
			return nil, ErrMalformed
		}
		entries = append(entries, d)
	}
	return entries, nil
}
