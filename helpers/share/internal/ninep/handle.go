package ninep

import (
	"errors"
	"strings"
	"syscall"

	"cloche/share/internal/wire"
)

const (
	errEIO = syscall.EIO
	// maxName is NAME_MAX: the longest name of one component.
	maxName = 255
)

// handle answers one request after the version is agreed.
func (s *session) handle(r *request) {
	switch t := r.message.(type) {
	case *wire.Tread:
		s.read(r, t)
		return
	case *wire.Treaddir:
		s.readDir(r, t)
		return
	case *wire.Tlock:
		s.lock(r, t)
		return
	}
	m, err := s.answer(r)
	if later, is := asLater(err); is && s.laters.park(r, later) {
		return
	}
	if r.taken != nil {
		s.letGo(r.taken)
	}
	if err != nil {
		m = &wire.Rlerror{Errno: number(err)}
	}
	s.reply(r, m)
}

// number gives the errno that the client sees. Whatever is not an errno is ours to fix and EIO for the guest.
func number(err error) uint32 {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return uint32(e)
	}
	return uint32(errEIO)
}

// answer does what all but the above ask.
func (s *session) answer(r *request) (wire.Message, error) {
	switch t := r.message.(type) {
	case *wire.Tattach:
		return s.attach(t)
	case *wire.Twalk:
		return s.walk(t)
	case *wire.Tgetattr:
		return withNode(s, t.Fid, func(n Node) (wire.Message, error) {
			attr, err := n.Attr()
			return &wire.Rgetattr{Valid: wire.AttrBasic, Attr: attr}, err
		})
	case *wire.Tclunk:
		f, err := s.fids.take(t.Fid)
		if err != nil {
			return nil, err
		}
		err = finishXattr(f)
		s.letGo(f)
		return &wire.Rclunk{}, err
	case *wire.Twrite:
		return s.writeAt(t)
	case *wire.Tlopen:
		return s.open(t)
	case *wire.Tlcreate:
		return s.create(t)
	case *wire.Tsetattr:
		return s.setAttr(t)
	case *wire.Tstatfs:
		return withNode(s, t.Fid, func(Node) (wire.Message, error) {
			stat, err := s.server.Tree.StatFS()
			return &wire.Rstatfs{Stat: stat}, err
		})
	case *wire.Treadlink:
		return withNode(s, t.Fid, func(n Node) (wire.Message, error) {
			target, err := n.Readlink()
			return &wire.Rreadlink{Target: target}, err
		})
	case *wire.Tfsync:
		return withFile(s, t.Fid, func(f File) (wire.Message, error) {
			return &wire.Rfsync{}, f.Sync(t.DataOnly != 0)
		})
	case *wire.Tgetlock:
		return withFile(s, t.Fid, func(f File) (wire.Message, error) {
			l, err := f.GetLock(t.Lock)
			return &wire.Rgetlock{Lock: l}, err
		})
	case *wire.Txattrwalk:
		return s.xattrWalk(t)
	case *wire.Txattrcreate:
		return s.xattrCreate(t)
	}
	return s.change(r)
}

// withNode runs do on a fid's node.
func withNode(s *session, number uint32, do func(Node) (wire.Message, error)) (wire.Message, error) {
	f, err := s.fids.get(number)
	if err != nil {
		return nil, err
	}
	defer f.release()
	n, err := f.handle()
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	return do(n)
}

// withFile runs do on a fid's open file.
func withFile(s *session, number uint32, do func(File) (wire.Message, error)) (wire.Message, error) {
	f, err := s.fids.get(number)
	if err != nil {
		return nil, err
	}
	defer f.release()
	file, err := f.opened()
	if err != nil {
		return nil, err
	}
	return do(file)
}

// checkName refuses what is not the name of one component.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return syscall.EINVAL
	case len(name) > maxName:
		return syscall.ENAMETOOLONG
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return syscall.EINVAL
	}
	return nil
}

func (s *session) attach(t *wire.Tattach) (wire.Message, error) {
	if t.AuthFid != wire.NoFid {
		return nil, syscall.EINVAL // we know no authentication: the stream itself is the permission
	}
	root := s.server.Tree.Root()
	qid := root.QID()
	if err := s.fids.put(t.Fid, newFid(root)); err != nil {
		return nil, err
	}
	s.attached.Do(func() {
		if s.server.Attached != nil {
			s.server.Attached()
		}
	})
	return &wire.Rattach{QID: qid}, nil
}

// walk goes from a fid by names. As 9P has it, a walk that fails at the first name is an error, one that fails
// later answers the part that went well and makes no fid.
func (s *session) walk(t *wire.Twalk) (wire.Message, error) {
	from, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer from.release()
	at, err := from.handle()
	if err != nil {
		return nil, err
	}
	qids := make([]wire.QID, 0, len(t.Names))
	for i, name := range t.Names {
		next, err := step(at, name)
		at.Drop()
		if err != nil {
			if i == 0 {
				return nil, err
			}
			return &wire.Rwalk{QIDs: qids}, nil
		}
		at = next
		qids = append(qids, at.QID())
	}
	if t.NewFid == t.Fid {
		from.mu.Lock()
		defer from.mu.Unlock()
		if from.file != nil || from.xattr != nil {
			at.Drop()
			return nil, syscall.EBUSY
		}
		from.node, at = at, from.node
		at.Drop()
	} else if err := s.fids.put(t.NewFid, newFid(at)); err != nil {
		return nil, err
	}
	return &wire.Rwalk{QIDs: qids}, nil
}

// step walks one component. ".." follows the handle's own parent and stays at the root, whatever the host's
// directories look like by now.
func step(at Node, name string) (Node, error) {
	if name == ".." {
		return at.Parent(), nil
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	return at.Walk(name)
}

func (s *session) open(t *wire.Tlopen) (wire.Message, error) {
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer f.release()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.xattr != nil || f.file != nil {
		return nil, syscall.EBADF
	}
	file, err := f.node.Open(t.Flags)
	if err != nil {
		return nil, err
	}
	f.file = file
	return &wire.Rlopen{QID: f.node.QID()}, nil
}

// create makes a file in the directory fid, which then stands for the open file.
func (s *session) create(t *wire.Tlcreate) (wire.Message, error) {
	if err := checkName(t.Name); err != nil {
		return nil, err
	}
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer f.release()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.xattr != nil || f.file != nil {
		return nil, syscall.EBADF
	}
	node, file, err := f.node.Create(t.Name, t.Flags, t.Mode)
	if err != nil {
		return nil, err
	}
	f.node.Drop()
	f.node, f.file = node, file
	return &wire.Rlcreate{QID: node.QID()}, nil
}

func (s *session) setAttr(t *wire.Tsetattr) (wire.Message, error) {
	if t.Attr.Valid&^wire.SetAllKnown != 0 {
		return nil, syscall.EINVAL
	}
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer f.release()
	n, err := f.handle()
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	file, _ := f.opened()
	return &wire.Rsetattr{}, n.SetAttr(t.Attr, file)
}

// letGo gives back a fid that was taken out of the table, and with it its locks.
func (s *session) letGo(f *fid) {
	locked := f.locked.Load()
	if locked {
		s.locks.clunked(f)
	}
	f.release()
	if locked {
		s.locks.released()
	}
}
