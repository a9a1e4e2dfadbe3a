//go:build linux

// null9p serves a folder over 9P2000.L from memory: it copies the folder at its start and never touches a filesystem
// again. So what a guest measures through it is the client, the transport and one process switch: the floor under every
// share server. It is a measuring tool: one connection, no permissions, no bounds, no locks.
//
//	null9p FOLDER SOCKET
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"time"
)

const (
	maxSize = 1 << 20
	ownerID = 1000
)

type node struct {
	ino      uint64
	mode     uint32 // with the type's bits
	data     []byte
	target   string
	children map[string]*node
	names    []string // sorted when listed; nil when stale
	parent   *node
	mtime    time.Time
	version  uint64
}

var nextIno uint64 = 1

func newNode(mode uint32, parent *node) *node {
	nextIno++
	n := &node{ino: nextIno, mode: mode, parent: parent, mtime: time.Now()}
	if n.isDir() {
		n.children = map[string]*node{}
	}
	return n
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

func (n *node) put(name string, child *node) {
	n.children[name] = child
	child.parent = n
	n.names, n.mtime = nil, time.Now()
}

func (n *node) drop(name string) {
	delete(n.children, name)
	n.names, n.mtime = nil, time.Now()
}

func (n *node) list() []string {
	if n.names == nil {
		n.names = make([]string, 0, len(n.children))
		for name := range n.children {
			n.names = append(n.names, name)
		}
		sort.Strings(n.names)
	}
	return n.names
}

func load(path string, parent *node) (*node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	n := newNode(stat.Mode, parent)
	n.mtime = info.ModTime()
	switch {
	case info.IsDir():
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			child, err := load(filepath.Join(path, entry.Name()), n)
			if err != nil {
				return nil, err
			}
			n.children[entry.Name()] = child
		}
	case info.Mode().IsRegular():
		n.data, err = os.ReadFile(path)
	case info.Mode()&os.ModeSymlink != 0:
		n.target, err = os.Readlink(path)
	}
	return n, err
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "null9p FOLDER SOCKET")
		os.Exit(2)
	}
	root, err := load(os.Args[1], nil)
	if err == nil {
		root.parent = root
		var listener net.Listener
		if listener, err = net.Listen("unix", os.Args[2]); err == nil {
			for {
				conn, e := listener.Accept()
				if e != nil {
					err = e
					break
				}
				(&session{root: root, fids: map[uint32]*fid{}}).serve(conn)
			}
		}
	}
	fmt.Fprintln(os.Stderr, "null9p:", err)
	os.Exit(1)
}

type fid struct {
	node *node
	name string // in its parent, as it was walked to
}

type session struct {
	root *node
	fids map[uint32]*fid
	in   []byte // what is left of the request
	out  []byte // the reply; 7 bytes of header first
}

func (s *session) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, maxSize)
	buffer := make([]byte, maxSize+64)
	s.out = make([]byte, 0, maxSize+64)
	for {
		if _, err := io.ReadFull(reader, buffer[:7]); err != nil {
			return
		}
		size := binary.LittleEndian.Uint32(buffer)
		if size < 7 || int(size) > len(buffer) {
			return
		}
		if _, err := io.ReadFull(reader, buffer[7:size]); err != nil {
			return
		}
		kind, tag := buffer[4], binary.LittleEndian.Uint16(buffer[5:])
		s.in, s.out = buffer[7:size], s.out[:7]
		reply := kind + 1
		if errno := s.handle(kind); errno != 0 {
			s.out, reply = s.out[:7], 7
			s.u32(uint32(errno))
		}
		binary.LittleEndian.PutUint32(s.out, uint32(len(s.out)))
		s.out[4] = reply
		binary.LittleEndian.PutUint16(s.out[5:], tag)
		if _, err := conn.Write(s.out); err != nil {
			return
		}
	}
}

func (s *session) g8() uint8 { v := s.in[0]; s.in = s.in[1:]; return v }
func (s *session) g16() uint16 {
	v := binary.LittleEndian.Uint16(s.in)
	s.in = s.in[2:]
	return v
}
func (s *session) g32() uint32 {
	v := binary.LittleEndian.Uint32(s.in)
	s.in = s.in[4:]
	return v
}
func (s *session) g64() uint64 {
	v := binary.LittleEndian.Uint64(s.in)
	s.in = s.in[8:]
	return v
}
func (s *session) gs() string {
	n := s.g16()
	v := string(s.in[:n])
	s.in = s.in[n:]
	return v
}
func (s *session) u8(v uint8)   { s.out = append(s.out, v) }
func (s *session) u16(v uint16) { s.out = binary.LittleEndian.AppendUint16(s.out, v) }
func (s *session) u32(v uint32) { s.out = binary.LittleEndian.AppendUint32(s.out, v) }
func (s *session) u64(v uint64) { s.out = binary.LittleEndian.AppendUint64(s.out, v) }
func (s *session) str(v string) { s.u16(uint16(len(v))); s.out = append(s.out, v...) }

func (s *session) qid(n *node) {
	kind := uint8(0)
	switch n.mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		kind = 0x80
	case syscall.S_IFLNK:
		kind = 0x02
	}
	s.u8(kind)
	s.u32(uint32(n.version))
	s.u64(n.ino)
}

// at takes a fid from the request.
func (s *session) at() (*fid, syscall.Errno) {
	if f := s.fids[s.g32()]; f != nil {
		return f, 0
	}
	return nil, syscall.EBADF
}

// dir takes a fid and a name from the request.
func (s *session) dir() (*node, string, syscall.Errno) {
	f, errno := s.at()
	if errno != 0 {
		return nil, "", errno
	}
	if !f.node.isDir() {
		return nil, "", syscall.ENOTDIR
	}
	return f.node, s.gs(), 0
}

func (s *session) make(mode uint32) (*node, syscall.Errno) {
	parent, name, errno := s.dir()
	if errno != 0 {
		return nil, errno
	}
	if parent.children[name] != nil {
		return nil, syscall.EEXIST
	}
	n := newNode(mode, parent)
	parent.put(name, n)
	return n, 0
}

func (s *session) handle(kind uint8) syscall.Errno {
	switch kind {
	case 100: // version
		size := min(s.g32(), maxSize)
		s.fids = map[uint32]*fid{}
		s.u32(size)
		s.str("9P2000.L")
	case 104: // attach
		id := s.g32()
		s.fids[id] = &fid{s.root, ""}
		s.qid(s.root)
	case 108: // flush: all before it is answered
	case 110:
		return s.walk()
	case 120: // clunk
		delete(s.fids, s.g32())
	case 8: // statfs
		for _, v := range []uint32{0x01021997, 4096} {
			s.u32(v)
		}
		for _, v := range []uint64{1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 20, 1} {
			s.u64(v)
		}
		s.u32(255)
	case 12: // lopen
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		if s.g32()&syscall.O_TRUNC != 0 {
			f.node.resize(0)
		}
		s.qid(f.node)
		s.u32(0)
	case 14: // lcreate
		id := binary.LittleEndian.Uint32(s.in)
		n, errno := s.make(syscall.S_IFREG)
		if errno != 0 {
			return errno
		}
		s.g32()
		n.mode |= s.g32() & 0o7777
		s.fids[id] = &fid{n, ""}
		s.qid(n)
		s.u32(0)
	case 16: // symlink
		n, errno := s.make(syscall.S_IFLNK | 0o777)
		if errno != 0 {
			return errno
		}
		n.target = s.gs()
		s.qid(n)
	case 72: // mkdir
		n, errno := s.make(syscall.S_IFDIR)
		if errno != 0 {
			return errno
		}
		n.mode |= s.g32() & 0o7777
		s.qid(n)
	case 70: // link
		parent, errno := s.at()
		if errno != 0 {
			return errno
		}
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		parent.node.put(s.gs(), f.node)
	case 20: // rename
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		to, name, errno := s.dir()
		if errno != 0 {
			return errno
		}
		f.node.parent.drop(f.name)
		to.put(name, f.node)
		f.name = name
	case 74: // renameat
		from, old, errno := s.dir()
		if errno != 0 {
			return errno
		}
		to, name, errno := s.dir()
		if errno != 0 {
			return errno
		}
		n := from.children[old]
		if n == nil {
			return syscall.ENOENT
		}
		from.drop(old)
		to.put(name, n)
	case 76: // unlinkat
		parent, name, errno := s.dir()
		if errno != 0 {
			return errno
		}
		return remove(parent, name)
	case 122: // remove
		id := binary.LittleEndian.Uint32(s.in)
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		delete(s.fids, id)
		return remove(f.node.parent, f.name)
	case 22: // readlink
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		s.str(f.node.target)
	case 24:
		return s.getattr()
	case 26:
		return s.setattr()
	case 30: // xattrwalk
		return syscall.ENODATA
	case 40:
		return s.readdir()
	case 50: // fsync
	case 52: // lock: granted
		s.u8(0)
	case 54: // getlock: nobody holds one
		s.g32()
		s.g8()
		start, length, proc, client := s.g64(), s.g64(), s.g32(), s.gs()
		s.u8(2)
		s.u64(start)
		s.u64(length)
		s.u32(proc)
		s.str(client)
	case 116: // read
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		offset, count := s.g64(), uint64(s.g32())
		from := min(offset, uint64(len(f.node.data)))
		part := f.node.data[from:min(from+count, uint64(len(f.node.data)))]
		s.u32(uint32(len(part)))
		s.out = append(s.out, part...)
	case 118: // write
		f, errno := s.at()
		if errno != 0 {
			return errno
		}
		offset, count := s.g64(), s.g32()
		if end := offset + uint64(count); end > uint64(len(f.node.data)) {
			f.node.resize(end)
		}
		copy(f.node.data[offset:], s.in[:count])
		f.node.mtime = time.Now()
		f.node.version++
		s.u32(count)
	default:
		return syscall.EOPNOTSUPP
	}
	return 0
}

func remove(parent *node, name string) syscall.Errno {
	n := parent.children[name]
	if n == nil {
		return syscall.ENOENT
	}
	if n.isDir() && len(n.children) > 0 {
		return syscall.ENOTEMPTY
	}
	parent.drop(name)
	return 0
}

func (n *node) resize(size uint64) {
	if size <= uint64(cap(n.data)) {
		old := len(n.data)
		n.data = n.data[:size]
		if int(size) > old {
			clear(n.data[old:])
		}
	} else {
		grown := make([]byte, size, max(size, 2*uint64(cap(n.data))))
		copy(grown, n.data)
		n.data = grown
	}
	n.mtime = time.Now()
	n.version++
}

func (s *session) walk() syscall.Errno {
	f, errno := s.at()
	if errno != 0 {
		return errno
	}
	to, count := s.g32(), int(s.g16())
	place := len(s.out)
	s.u16(0)
	at, name := f.node, f.name
	for i := range count {
		name = s.gs()
		next := at.children[name]
		switch name {
		case "..":
			next = at.parent
		case ".":
			next = at
		}
		if next == nil {
			if i == 0 {
				return syscall.ENOENT
			}
			return 0 // a part of the way: the new fid is not made
		}
		at = next
		s.qid(at)
		binary.LittleEndian.PutUint16(s.out[place:], uint16(i+1))
	}
	s.fids[to] = &fid{at, name}
	return 0
}

func (s *session) getattr() syscall.Errno {
	f, errno := s.at()
	if errno != 0 {
		return errno
	}
	n := f.node
	size := uint64(len(n.data))
	if n.mode&syscall.S_IFMT == syscall.S_IFLNK {
		size = uint64(len(n.target))
	}
	s.u64(0x7ff) // the basic ones
	s.qid(n)
	for _, v := range []uint32{n.mode, ownerID, ownerID} {
		s.u32(v)
	}
	second, nano := uint64(n.mtime.Unix()), uint64(n.mtime.Nanosecond())
	for _, v := range []uint64{1, 0, size, 4096, (size + 511) / 512, second, nano, second, nano, second, nano, 0, 0, 0, n.version} {
		s.u64(v)
	}
	return 0
}

func (s *session) setattr() syscall.Errno {
	f, errno := s.at()
	if errno != 0 {
		return errno
	}
	valid, mode := s.g32(), s.g32()
	s.g32()
	s.g32()
	size := s.g64()
	s.g64()
	s.g64()
	second, nano := s.g64(), s.g64()
	n := f.node
	if valid&1 != 0 {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	if valid&8 != 0 {
		n.resize(size)
	}
	if valid&0x20 != 0 { // mtime
		n.mtime = time.Now()
		if valid&0x100 != 0 {
			n.mtime = time.Unix(int64(second), int64(nano))
		}
	}
	return 0
}

func (s *session) readdir() syscall.Errno {
	f, errno := s.at()
	if errno != 0 {
		return errno
	}
	offset, count := int(s.g64()), int(s.g32())
	place := len(s.out)
	s.u32(0)
	names := f.node.list()
	for i := offset; i < len(names)+2; i++ {
		name, n := ".", f.node
		switch i {
		case 0:
		case 1:
			name, n = "..", f.node.parent
		default:
			name = names[i-2]
			n = f.node.children[name]
		}
		if len(s.out)-place-4+24+len(name) > count {
			break
		}
		s.qid(n)
		s.u64(uint64(i + 1))
		s.u8(uint8(n.mode >> 12))
		s.str(name)
	}
	binary.LittleEndian.PutUint32(s.out[place:], uint32(len(s.out)-place-4))
	return 0
}
