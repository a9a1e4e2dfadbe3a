// Package ninetest is a 9P client for tests: it sends whatever a hostile guest could send, one message at a time
// or many at once.
package ninetest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"syscall"

	"cloche/share/internal/wire"
)

// Client speaks over a stream. Do may be called from many goroutines.
type Client struct {
	stream io.ReadWriteCloser

	mu      sync.Mutex
	next    uint16
	waiting map[uint16]chan wire.Message
	failed  error
	write   sync.Mutex
}

// New starts a client; nothing is sent yet.
func New(stream io.ReadWriteCloser) *Client {
	c := &Client{stream: stream, waiting: map[uint16]chan wire.Message{}}
	go c.receive()
	return c
}

// Close ends the connection.
func (c *Client) Close() { _ = c.stream.Close() }

func (c *Client) receive() {
	reader := bufio.NewReader(c.stream)
	for {
		var head [4]byte
		_, err := io.ReadFull(reader, head[:])
		var frame []byte
		if err == nil {
			frame = make([]byte, binary.LittleEndian.Uint32(head[:]))
			copy(frame, head[:])
			_, err = io.ReadFull(reader, frame[4:])
		}
		var tag uint16
		var m wire.Message
		if err == nil {
			tag, m, err = wire.Decode(frame)
		}
		c.mu.Lock()
		if err != nil {
			c.failed = err
			for _, w := range c.waiting {
				close(w)
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		w := c.waiting[tag]
		delete(c.waiting, tag)
		c.mu.Unlock()
		if w != nil {
			w <- m
		}
	}
}

// Start sends a request and gives its tag and where its reply will come; the channel is closed when the
// connection ends.
func (c *Client) Start(m wire.Message) (uint16, <-chan wire.Message) {
	reply := make(chan wire.Message, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		close(reply)
		return 0, reply
	}
	tag := uint16(wire.NoTag)
	if _, ok := m.(*wire.Tversion); !ok {
		for {
			tag = c.next
			c.next = (c.next + 1) % wire.NoTag
			if c.waiting[tag] == nil {
				break
			}
		}
	}
	c.waiting[tag] = reply
	c.mu.Unlock()
	frame, err := wire.Encode(nil, tag, m)
	if err != nil {
		panic(err)
	}
	_ = c.Raw(frame)
	return tag, reply
}

// Raw sends bytes as they are.
func (c *Client) Raw(b []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	_, err := c.stream.Write(b)
	return err
}

// Do sends a request and waits. An Rlerror becomes a syscall.Errno; a lost connection is io.ErrClosedPipe.
func (c *Client) Do(m wire.Message) (wire.Message, error) {
	_, reply := c.Start(m)
	r, ok := <-reply
	if !ok {
		return nil, io.ErrClosedPipe
	}
	if e, isError := r.(*wire.Rlerror); isError {
		return nil, syscall.Errno(e.Errno)
	}
	if r.Type() != m.Type()+1 {
		return nil, fmt.Errorf("%T was answered by %T", m, r)
	}
	return r, nil
}

// Ask is Do with the reply's type.
func Ask[R wire.Message](c *Client, m wire.Message) (R, error) {
	r, err := c.Do(m)
	if err != nil {
		var none R
		return none, err
	}
	return r.(R), nil
}

// MSize is what Attach asks for.
const MSize = 512<<10 + 24

// Attach agrees on a version and attaches fid to the root.
func (c *Client) Attach(fid uint32) error {
	if _, err := c.Do(&wire.Tversion{MSize: MSize, Version: "9P2000.L"}); err != nil {
		return err
	}
	_, err := c.Do(&wire.Tattach{Fid: fid, AuthFid: wire.NoFid, UID: 1000})
	return err
}

// Walk makes newFid of names from fid; a walk that ends early is ENOENT.
func (c *Client) Walk(fid, newFid uint32, names ...string) error {
	r, err := Ask[*wire.Rwalk](c, &wire.Twalk{Fid: fid, NewFid: newFid, Names: names})
	if err == nil && len(r.QIDs) != len(names) {
		return syscall.ENOENT
	}
	return err
}
