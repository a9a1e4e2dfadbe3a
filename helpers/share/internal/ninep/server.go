package ninep

import (
	"errors"
	"io"
	"sync/atomic"
)

const (
	// maxMSize is the largest frame we agree to. Beyond 512 KiB transfers gain nothing (bench/), and a session may
	// hold maxInFlight buffers of this size.
	maxMSize = 512<<10 + 4096
	// minMSize leaves room for every reply but data: the longest is Rreadlink with PATH_MAX bytes.
	minMSize = 8 << 10
	// maxInFlight is how many requests of one session are worked on at once. More stay in the stream.
	maxInFlight = 64
	// DefaultFids is how many fids a session may hold, if descriptors allow.
	DefaultFids = 65536
)

// Stream is the connection. Close may run beside Read and Write and must end both.
type Stream interface {
	io.Reader
	// ReadFull fills b or fails.
	ReadFull(b []byte) error
	// WriteAll writes all of b or fails.
	WriteAll(b []byte) error
	Close()
}

// Stats counts what the server did. Fids are those held now, all else is a total.
type Stats struct {
	Connections, Fids, Requests, BytesRead, BytesWritten atomic.Int64
}

// Server serves one tree.
type Server struct {
	Tree  Tree
	Stats Stats
	// FidLimit bounds a session's fids.
	FidLimit int
	// Attached is told once per session, when the client has attached. May be nil.
	Attached func()
}

// errEnded is how a session ends in the normal way.
var errEnded = errors.New("the client closed the connection")

// ServeStream serves until the client ends or breaks the protocol and says which. It closes the stream and gives
// back everything that the client held.
func (s *Server) ServeStream(stream Stream) error {
	s.Stats.Connections.Add(1)
	session := newSession(s, stream)
	return session.run()
}
