package ninep

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"cloche/share/internal/wire"
)

// session is one connection from first byte to last.
type session struct {
	server *Server
	stream Stream
	fids   fidTable

	in    frames // belongs to whoever leads
	slots chan struct{}
	busy  atomic.Uint64 // number of the request that the leader handles itself; 0 while it reads
	turn  uint64        // the last such number; belongs to whoever leads
	watch standby

	buffers  bufferPool
	locks    lockWaits
	laters   laterWaits
	values   atomic.Int64 // bytes of attributes that fids hold
	versions sync.RWMutex // held for reading by each request; a Tversion holds it for writing
	ready    atomic.Bool  // a version has been agreed
	msize    atomic.Uint32
	attached sync.Once

	flight struct {
		sync.Mutex
		requests map[uint16]*request
	}

	write   sync.Mutex // one reply at a time
	running sync.WaitGroup
	failure struct {
		sync.Once
		err error
	}
	ended chan struct{}
}

// request is one T message being worked on.
type request struct {
	tag     uint16
	message wire.Message
	buffer  []byte // holds the frame, later the reply
	flushes []*request
	parked  bool // waits for a lock, or for another turn; guarded by flight, as flushes is
	taken   *fid // of a Tremove: out of the table, with its reference
}

func newSession(server *Server, stream Stream) *session {
	limit := server.FidLimit
	if limit == 0 {
		limit = DefaultFids
	}
	s := &session{server: server, stream: stream, slots: make(chan struct{}, maxInFlight), ended: make(chan struct{})}
	s.fids = fidTable{fids: map[uint32]*fid{}, limit: limit, count: &server.Stats.Fids}
	s.flight.requests = map[uint16]*request{}
	s.msize.Store(minMSize)
	s.in = frames{stream: stream}
	s.locks.session, s.laters.session = s, s
	s.watch = standby{session: s, wake: make(chan struct{}, 1)}
	return s
}

func (s *session) run() error {
	s.running.Add(1)
	go s.watch.run()
	go s.lead()
	<-s.ended
	s.stream.Close()
	s.laters.close()
	s.running.Wait()
	s.locks.close()
	s.fids.clear()
	return s.failure.err
}

// end stops the session; the first reason counts.
func (s *session) end(err error) {
	s.failure.Do(func() {
		s.failure.err = err
		close(s.ended)
		s.stream.Close()
	})
}

// lead reads frames until the stream ends or the standby takes the lead away. The caller counted it in running.
func (s *session) lead() {
	defer s.running.Done()
	for {
		s.slots <- struct{}{} // back-pressure: with maxInFlight requests at work nothing more is read
		r, more, err := s.next()
		if err != nil {
			s.end(err)
			return
		}
		if _, isVersion := r.message.(*wire.Tversion); isVersion {
			s.work(r) // changes msize, so nothing is read before it is done, however long that takes
			continue
		}
		if more {
			s.running.Add(1)
			go func() {
				defer s.running.Done()
				s.work(r)
			}()
			continue
		}
		s.turn++
		turn := s.turn
		s.busy.Store(turn)
		s.watch.notice()
		s.work(r)
		if !s.busy.CompareAndSwap(turn, 0) {
			return
		}
	}
}

// next reads and decodes one request. more says that another one is already waiting.
func (s *session) next() (r *request, more bool, err error) {
	msize := s.msize.Load() // changes only by Tversion, which whoever leads handles before reading on
	frame, more, err := s.in.next(s.buffers.get(int(msize)), msize)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errEnded
		}
		return nil, false, err
	}
	s.server.Stats.Requests.Add(1)
	tag, message, err := wire.Decode(frame)
	if errors.Is(err, wire.ErrMalformed) {
		return nil, false, err
	}
	r = &request{tag: tag, message: message, buffer: frame}
	// Tversion should carry NoTag, yet Go's p9 client sends another; nothing hangs on it.
	if _, isVersion := message.(*wire.Tversion); !isVersion && tag == wire.NoTag {
		return nil, false, wire.ErrMalformed
	}
	s.flight.Lock()
	defer s.flight.Unlock()
	if s.flight.requests[tag] != nil {
		return nil, false, errTagInUse
	}
	s.flight.requests[tag] = r
	return r, more, nil
}

var (
	errTagInUse  = errors.New("the client used a tag twice")
	errNoVersion = errors.New("the client sent a request before Tversion")
)

// work answers one request.
func (s *session) work(r *request) {
	if t, ok := r.message.(*wire.Tversion); ok {
		s.versions.Lock()
		s.locks.clear()
		s.laters.clear()
		s.reply(r, s.version(t))
		s.versions.Unlock()
	} else if t, ok := r.message.(*wire.Tflush); ok {
		s.flush(r, t)
	} else if !s.ready.Load() {
		s.end(errNoVersion)
		<-s.slots
	} else {
		s.versions.RLock()
		s.handle(r)
		s.versions.RUnlock()
	}
}

// version starts the session afresh, as 9P has it: all fids are gone, whatever was in flight is done.
func (s *session) version(t *wire.Tversion) wire.Message {
	s.ready.Store(false)
	s.fids.clear()
	if t.MSize < minMSize || !speaks(t.Version) {
		return &wire.Rversion{MSize: min(t.MSize, maxMSize), Version: "unknown"}
	}
	msize := min(t.MSize, maxMSize)
	s.msize.Store(msize)
	s.ready.Store(true)
	return &wire.Rversion{MSize: msize, Version: dialect}
}

// flush is answered when the request it names has been, as the client may use that tag again after it. One that waits
// for a lock or for another turn is cancelled.
func (s *session) flush(r *request, t *wire.Tflush) {
	s.flight.Lock()
	old := s.flight.requests[t.OldTag]
	if old != nil && old != r {
		old.flushes = append(old.flushes, r)
		parked := old.parked
		s.flight.Unlock()
		if parked {
			s.locks.flush(old)
			s.laters.flush(old)
		}
		return
	}
	s.flight.Unlock()
	s.reply(r, &wire.Rflush{})
}

// reply sends m for r.
func (s *session) reply(r *request, m wire.Message) {
	frame, err := wire.Encode(r.buffer, r.tag, m)
	if err != nil {
		frame, _ = wire.Encode(r.buffer, r.tag, &wire.Rlerror{Errno: uint32(errEIO)})
	}
	s.send(r, frame)
}

// send ends r. Its tag is free before the reply leaves, as the client may use it again at once; its slot and buffer
// only after, so that a client that reads no replies is read no more requests. A flush that waits keeps its slot too.
func (s *session) send(r *request, frame []byte) {
	flushes := s.deliver(r, frame)
	s.buffers.put(r.buffer)
	<-s.slots
	s.answerFlushes(flushes)
}

// finish ends a request that has neither buffer nor slot any more; with no frame it is not answered.
func (s *session) finish(r *request, frame []byte) { s.answerFlushes(s.deliver(r, frame)) }

// deliver gives the flushes that waited for r.
func (s *session) deliver(r *request, frame []byte) []*request {
	s.flight.Lock()
	delete(s.flight.requests, r.tag)
	flushes := r.flushes
	s.flight.Unlock()
	if frame == nil {
		return flushes
	}
	s.write.Lock()
	err := s.stream.WriteAll(frame)
	s.write.Unlock()
	if err != nil {
		s.end(errEnded)
	}
	return flushes
}

func (s *session) answerFlushes(flushes []*request) {
	for _, f := range flushes {
		s.reply(f, &wire.Rflush{})
	}
}

// speaks holds a version string against 9P's rule: what follows a further dot is an extension, which a server that
// does not know it leaves off in its answer.
func speaks(version string) bool {
	return version == dialect || strings.HasPrefix(version, dialect+".")
}

const dialect = "9P2000.L"
