//go:build linux

package hostfs_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// closes expects the server to end the connection.
func (s *share) closes(what string) {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.t.Logf("%s: %v", what, err)
	case <-time.After(3 * time.Second):
		s.t.Errorf("%s: the connection is still open", what)
	}
	s.connect() // and the server is usable again
}

func TestAMalformedFrameEndsTheConnectionAndNothingElse(t *testing.T) {
	s := newShare(t, false)
	frame := func(size uint32, kind byte, tag uint16, body ...byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, size)
		b = append(b, kind)
		return append(binary.LittleEndian.AppendUint16(b, tag), body...)
	}
	for what, bytes := range map[string][]byte{
		"size 0": frame(0, 120, 1), "size 6": frame(6, 120, 1), "size over msize": frame(1<<30, 118, 1), "size 2^32-1": frame(^uint32(0), 118, 1),
		"cut clunk": frame(9, 120, 1, 0, 0), "padded clunk": frame(12, 120, 1, 0, 0, 0, 0, 0),
		"write with a count past its frame": frame(23, 118, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 127),
		"walk of 17 names":                  append(frame(7+4+4+2+17*3, 110, 1, 1, 0, 0, 0, 2, 0, 0, 0, 17, 0), []byte(fmt.Sprintf("%051d", 0))...),
		"request without a tag":             frame(11, 120, 0xFFFF, 0, 0, 0, 0),
	} {
		must(t, s.Raw(bytes))
		s.closes(what)
	}
	// Unknown but whole: answered, and the connection lives.
	must(t, s.Raw(frame(7, 200, 77)))
	_, err := s.Do(&wire.Tgetattr{Fid: rootFid})
	must(t, err)
	_, err = s.Do(&wire.Tauth{Fid: 5, User: "u"})
	refused(t, "auth", err, syscall.EOPNOTSUPP)
	_, err = s.Do(&wire.Rwalk{})
	refused(t, "a reply as a request", err, syscall.EOPNOTSUPP)
}

func TestFidsAreBounded(t *testing.T) {
	s := newShare(t, false)
	s.Close()
	s.serve(false, 100)
	for fid := uint32(2); fid <= 100; fid++ {
		must(t, s.Walk(rootFid, fid))
	}
	refused(t, "one more", s.Walk(rootFid, 101), syscall.ENFILE)
	s.clunk(50)
	must(t, s.Walk(rootFid, 101))
	refused(t, "a fid in use", s.Walk(rootFid, 101), syscall.EBADF)
	refused(t, "no fid", s.Walk(rootFid, wire.NoFid), syscall.EINVAL, syscall.ENFILE)
	_, err := s.Do(&wire.Tclunk{Fid: 4000})
	refused(t, "a fid that is not", err, syscall.EBADF)
	// Tversion gives everything back.
	must(t, s.Attach(rootFid))
	if n := s.server.Stats.Fids.Load(); n != 1 {
		t.Errorf("%d fids after Tversion", n)
	}
}

func TestATagInUseEndsTheConnection(t *testing.T) {
	s := newShare(t, false)
	var many []byte
	for range 200 {
		f, _ := wire.Encode(nil, 5, &wire.Tgetattr{Fid: rootFid})
		many = append(many, f...)
	}
	must(t, s.Raw(many))
	s.closes("200 requests with one tag at once")
}

func TestManyRequestsAtOnceAreAllAnswered(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "0123456789")
	must(t, s.Walk(rootFid, 2, "f"))
	_, err := s.Do(&wire.Tlopen{Fid: 2})
	must(t, err)
	var group sync.WaitGroup
	for g := range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range 500 {
				at := uint64((g + i) % 10)
				r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 2, Offset: at, Count: 1})
				if err != nil || string(r.Data) != fmt.Sprint(at) {
					t.Errorf("%v, %v", r, err)
					return
				}
				fid := uint32(100 + g)
				if err := s.Walk(rootFid, fid, "f"); err != nil {
					t.Error(err)
				}
				if _, err := s.Do(&wire.Tclunk{Fid: fid}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
}

func TestAClientThatReadsNothingIsReadNoMore(t *testing.T) {
	s := newShare(t, false)
	s.put("f", string(make([]byte, 1<<20)))
	must(t, s.Walk(rootFid, 2, "f"))
	_, err := s.Do(&wire.Tlopen{Fid: 2})
	must(t, err)
	// A second connection, whose replies nobody reads.
	r, w := io.Pipe()
	_ = r
	done := make(chan error, 1)
	stalled := &deaf{in: r, closed: make(chan struct{})}
	go func() { done <- s.server.ServeStream(stalled) }()
	sent := make(chan int)
	go func() {
		n := 0
		send := func(tag uint16, m wire.Message) bool {
			f, _ := wire.Encode(nil, tag, m)
			_, err := w.Write(f)
			n++
			return err == nil
		}
		send(wire.NoTag, &wire.Tversion{MSize: 64 << 10, Version: "9P2000.L"})
		for tag := uint16(0); tag < 5000; tag++ {
			if !send(tag, &wire.Tgetattr{Fid: 1}) {
				break
			}
		}
		sent <- n
	}()
	select {
	case n := <-sent:
		t.Fatalf("%d requests were taken from a client that reads no replies", n)
	case <-time.After(300 * time.Millisecond):
	}
	stalled.Close()
	w.Close()
	if n := <-sent; n > 200+firstReadFrames {
		t.Errorf("%d requests were taken", n)
	}
	<-done
}

// firstReadFrames is how many Tgetattr fit what the server reads at once.
const firstReadFrames = 32 << 10 / 19

// deaf is a stream whose writes wait for ever.
type deaf struct {
	in     io.Reader
	once   sync.Once
	closed chan struct{}
}

func (d *deaf) Read(b []byte) (int, error) { return d.in.Read(b) }
func (d *deaf) ReadFull(b []byte) error    { _, err := io.ReadFull(d.in, b); return err }
func (d *deaf) WriteAll([]byte) error      { <-d.closed; return io.ErrClosedPipe }
func (d *deaf) Close()                     { d.once.Do(func() { close(d.closed) }) }
