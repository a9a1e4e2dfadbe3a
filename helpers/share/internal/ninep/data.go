package ninep

import (
	"math"
	"syscall"

	"cloche/share/internal/wire"
)

// The two messages with bulk data build their reply in the request's buffer: one copy, the kernel's.

func (s *session) read(r *request, t *wire.Tread) {
	room, err := s.room(r, t.Count)
	if err != nil {
		s.reply(r, &wire.Rlerror{Errno: number(err)})
		return
	}
	f, err := s.fids.get(t.Fid)
	if err != nil {
		s.reply(r, &wire.Rlerror{Errno: number(err)})
		return
	}
	n, err := readFid(f, room, t.Offset)
	f.release()
	if err != nil {
		s.reply(r, &wire.Rlerror{Errno: number(err)})
		return
	}
	s.server.Stats.BytesRead.Add(int64(n))
	frame := r.buffer[:wire.DataReplyBytes+n]
	wire.SealData(frame, wire.TypeRread, r.tag)
	s.send(r, frame)
}

func readFid(f *fid, room []byte, offset uint64) (int, error) {
	f.mu.Lock()
	file, x := f.file, f.xattr
	f.mu.Unlock()
	if x != nil {
		return x.read(room, offset)
	}
	if file == nil {
		return 0, syscall.EBADF
	}
	if offset > math.MaxInt64-uint64(len(room)) {
		return 0, syscall.EINVAL
	}
	return file.ReadAt(room, int64(offset))
}

func (s *session) readDir(r *request, t *wire.Treaddir) {
	room, err := s.room(r, t.Count)
	if err == nil {
		var f *fid
		if f, err = s.fids.get(t.Fid); err == nil {
			var file File
			if file, err = f.opened(); err == nil {
				room, err = file.ReadDir(room[:0], t.Offset)
			}
			f.release()
		}
	}
	if err != nil {
		s.reply(r, &wire.Rlerror{Errno: number(err)})
		return
	}
	frame := r.buffer[:wire.DataReplyBytes+len(room)]
	wire.SealData(frame, wire.TypeRreaddir, r.tag)
	s.send(r, frame)
}

// room is where a data reply's bytes go: behind the reply's header, no more than fit the agreed frame.
func (s *session) room(r *request, count uint32) ([]byte, error) {
	most := s.msize.Load() - wire.DataReplyBytes
	count = min(count, most)
	r.buffer = r.buffer[:cap(r.buffer)]
	end := wire.DataReplyBytes + int(count)
	if end > len(r.buffer) {
		return nil, syscall.EINVAL // read before a larger msize was agreed
	}
	return r.buffer[wire.DataReplyBytes:end:end], nil
}

func (s *session) writeAt(t *wire.Twrite) (wire.Message, error) {
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, err
	}
	defer f.release()
	f.mu.Lock()
	file, x := f.file, f.xattr
	if x != nil {
		defer f.mu.Unlock()
		n, err := x.write(t.Data, t.Offset)
		return &wire.Rwrite{Count: uint32(n)}, err
	}
	f.mu.Unlock()
	if file == nil {
		return nil, syscall.EBADF
	}
	if t.Offset > math.MaxInt64-uint64(len(t.Data)) {
		return nil, syscall.EFBIG
	}
	n, err := file.WriteAt(t.Data, int64(t.Offset))
	if n > 0 {
		err = nil // a short write is told as such; the client's next one meets the reason
	}
	s.server.Stats.BytesWritten.Add(int64(n))
	return &wire.Rwrite{Count: uint32(n)}, err
}
