package ninep

import (
	"strings"
	"sync/atomic"
	"syscall"

	"cloche/share/internal/wire"
)

// maxXattr is XATTR_SIZE_MAX: the longest value that Linux keeps.
const maxXattr = 64 << 10

// maxValues bounds what all attributes that a session reads and writes at once may hold.
const maxValues = 16 << 20

// value is an attribute's share of that.
type value struct {
	of    *atomic.Int64
	bytes int64
}

func (s *session) reserve(bytes int) (*value, error) {
	v := &value{&s.values, int64(bytes)}
	if v.of.Add(v.bytes) > maxValues {
		v.of.Add(-v.bytes)
		return nil, syscall.ENOMEM
	}
	return v, nil
}

// xattr is the state of a fid that stands for an extended attribute: one being read, or one being written, which
// takes effect at clunk.
type xattr struct {
	value   []byte
	name    string // set when written
	size    int
	flags   uint32
	writing bool
}

func (x *xattr) read(room []byte, offset uint64) (int, error) {
	if x.writing {
		return 0, syscall.EBADF
	}
	if offset >= uint64(len(x.value)) {
		return 0, nil
	}
	return copy(room, x.value[offset:]), nil
}

// write takes the value in order; anything else is not what a client does.
func (x *xattr) write(data []byte, offset uint64) (int, error) {
	if !x.writing {
		return 0, syscall.EBADF
	}
	if offset != uint64(len(x.value)) || len(x.value)+len(data) > x.size {
		return 0, syscall.EINVAL
	}
	x.value = append(x.value, data...)
	return len(data), nil
}

// userNamespace: only these attributes are the user's; security., trusted. and system. would act on the host.
const userNamespace = "user."

func (s *session) xattrWalk(t *wire.Txattrwalk) (wire.Message, error) {
	if t.Name != "" && !strings.HasPrefix(t.Name, userNamespace) {
		return nil, syscall.ENODATA
	}
	if len(t.Name) > maxName || strings.IndexByte(t.Name, 0) >= 0 {
		return nil, syscall.ERANGE
	}
	return withNode(s, t.Fid, func(n Node) (wire.Message, error) {
		var value []byte
		var err error
		if t.Name == "" {
			value, err = n.ListXattr()
		} else {
			value, err = n.GetXattr(t.Name)
		}
		if err != nil {
			return nil, err
		}
		reserved, err := s.reserve(len(value))
		if err != nil {
			return nil, err
		}
		n.Hold()
		f := newFid(n)
		f.xattr, f.value = &xattr{value: value}, reserved
		return &wire.Rxattrwalk{Size: uint64(len(value))}, s.fids.put(t.NewFid, f)
	})
}

func (s *session) xattrCreate(t *wire.Txattrcreate) (wire.Message, error) {
	if !strings.HasPrefix(t.Name, userNamespace) {
		return nil, syscall.EOPNOTSUPP
	}
	if t.Name == userNamespace {
		return nil, syscall.EINVAL // the host has none of that name: a layer's could never be applied
	}
	if len(t.Name) > maxName || strings.IndexByte(t.Name, 0) >= 0 {
		return nil, syscall.ERANGE
	}
	if t.Size > maxXattr {
		return nil, syscall.E2BIG
	}
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer f.release()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil || f.xattr != nil {
		return nil, syscall.EBADF
	}
	if f.value, err = s.reserve(int(t.Size)); err != nil {
		return nil, err
	}
	// The read-only mode is the node's to know: it refuses here what it would refuse at clunk.
	f.xattr = &xattr{name: t.Name, size: int(t.Size), flags: t.Flags, writing: true}
	return &wire.Rxattrcreate{}, nil
}

// finishXattr sets the attribute that a fid was made to write. A size of 0 removes it, as Linux's client asks so.
func finishXattr(f *fid) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.xattr
	if x == nil || !x.writing {
		return nil
	}
	if len(x.value) != x.size {
		return syscall.EINVAL
	}
	return f.node.SetXattr(x.name, x.value, x.flags)
}
