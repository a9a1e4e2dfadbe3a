//go:build linux

package control

import (
	"encoding/json"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/ninep"
	"cloche/share/internal/stream"
)

// serving accepts the guest's connections, one after the other, and answers stats.
type serving struct {
	server *ninep.Server
	listen int
	peer   *contract.Peer
}

func (s *serving) stats(raw json.RawMessage) (any, error) {
	if err := contract.Params(raw, &struct{}{}); err != nil {
		return nil, err
	}
	c := &s.server.Stats
	return statsResult{
		Connections: c.Connections.Load(), Fids: c.Fids.Load(), Requests: c.Requests.Load(),
		BytesRead: c.BytesRead.Load(), BytesWritten: c.BytesWritten.Load(),
	}, nil
}

// accept serves until the listening socket fails, which it does only with the process.
func (s *serving) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listen, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return err
		}
		s.one(stream.New(fd))
	}
}

func (s *serving) one(conn *stream.Conn) {
	var once sync.Once
	told := false
	s.server.Attached = func() {
		once.Do(func() {
			told = true
			_ = s.peer.Notify("attached", struct{}{})
		})
	}
	err := s.server.ServeStream(conn)
	conn.Free()
	if told {
		_ = s.peer.Notify("detached", detached{Reason: contract.Tail(err.Error(), 512)})
	}
}
