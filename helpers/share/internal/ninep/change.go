package ninep

import (
	"syscall"

	"cloche/share/internal/wire"
)

// atRemoveDir is AT_REMOVEDIR, the one flag of Tunlinkat.
const atRemoveDir = 0x200

// File types of st_mode that Tmknod can name.
const (
	modeType    = 0o170000
	modeRegular = 0o100000
)

// change does what alters directories. Everything unknown ends here.
func (s *session) change(r *request) (wire.Message, error) {
	switch t := r.message.(type) {
	case *wire.Tmkdir:
		return named(s, t.Dir, t.Name, func(dir Node) (wire.Message, error) {
			qid, err := dir.Mkdir(t.Name, t.Mode)
			return &wire.Rmkdir{QID: qid}, err
		})
	case *wire.Tsymlink:
		return named(s, t.Fid, t.Name, func(dir Node) (wire.Message, error) {
			qid, err := dir.Symlink(t.Name, t.Target)
			return &wire.Rsymlink{QID: qid}, err
		})
	case *wire.Tmknod:
		return named(s, t.Fid, t.Name, func(dir Node) (wire.Message, error) {
			if kind := t.Mode & modeType; kind != modeRegular && kind != 0 {
				return nil, syscall.EPERM // no device, FIFO or socket reaches the host (F12)
			}
			qid, err := dir.Mknod(t.Name, t.Mode)
			return &wire.Rmknod{QID: qid}, err
		})
	case *wire.Tlink:
		return named(s, t.Dir, t.Name, func(dir Node) (wire.Message, error) {
			return withNode(s, t.Fid, func(target Node) (wire.Message, error) {
				return &wire.Rlink{}, dir.Link(t.Name, target)
			})
		})
	case *wire.Tunlinkat:
		return named(s, t.Dir, t.Name, func(dir Node) (wire.Message, error) {
			if t.Flags&^atRemoveDir != 0 {
				return nil, syscall.EINVAL
			}
			return &wire.Runlinkat{}, dir.Unlink(t.Name, t.Flags&atRemoveDir != 0)
		})
	case *wire.Trenameat:
		return named(s, t.OldDir, t.OldName, func(from Node) (wire.Message, error) {
			return named(s, t.NewDir, t.NewName, func(to Node) (wire.Message, error) {
				return &wire.Rrenameat{}, from.Rename(t.OldName, to, t.NewName)
			})
		})
	case *wire.Trename:
		return named(s, t.Dir, t.Name, func(to Node) (wire.Message, error) {
			return withNode(s, t.Fid, func(n Node) (wire.Message, error) {
				return &wire.Rrename{}, n.RenameTo(to, t.Name)
			})
		})
	case *wire.Tremove:
		if r.taken == nil {
			f, err := s.fids.take(t.Fid) // gone whatever comes of it, as 9P has it
			if err != nil {
				return nil, err
			}
			r.taken = f
		}
		n, err := r.taken.handle()
		if err != nil {
			return nil, err
		}
		defer n.Drop()
		return &wire.Rremove{}, n.Remove()
	}
	return nil, syscall.EOPNOTSUPP // Tauth too
}

// named runs do on the directory of a fid after the name has been checked.
func named(s *session, number uint32, name string, do func(Node) (wire.Message, error)) (wire.Message, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return withNode(s, number, do)
}
