package ninep

import (
	"errors"
	"sync"

	"cloche/share/internal/wire"
)

// firstRead is how much is asked of the stream before a frame's size is known. What lies beyond the frame is
// copied once, so it is kept well below the size of a data frame.
const firstRead = 32 << 10

var errFrameSize = errors.New("the client sent a frame outside the agreed size")

// frames cuts a stream into frames.
type frames struct {
	stream Stream
	carry  []byte // bytes after the last frame
}

// next reads one frame into buffer, whose capacity is at least max. more says that bytes of another are here.
func (f *frames) next(buffer []byte, max uint32) (frame []byte, more bool, err error) {
	buffer = buffer[:cap(buffer)]
	n := copy(buffer, f.carry)
	for n < wire.HeaderBytes {
		got, err := f.stream.Read(buffer[n:min(firstRead, len(buffer))])
		if err != nil {
			return nil, false, err
		}
		n += got
	}
	size := int(wire.Size(buffer))
	if size < wire.HeaderBytes || size > int(max) {
		return nil, false, errFrameSize
	}
	if n < size {
		f.carry = f.carry[:0]
		return buffer[:size], false, f.stream.ReadFull(buffer[n:size])
	}
	f.carry = append(f.carry[:0], buffer[size:n]...)
	return buffer[:size], n > size, nil
}

// bufferPool keeps the buffers of a session, at most maxInFlight+1 as each is held by one request. The last one
// given back is the first one taken: its pages are in the processor's cache.
type bufferPool struct {
	mu   sync.Mutex
	free [][]byte
}

func (p *bufferPool) get(size int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.free); n > 0; n = len(p.free) {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		if cap(b) >= size { // an older session's size may have been smaller
			return b
		}
	}
	return make([]byte, max(size, firstRead)) // frames.carry must fit into any buffer
}

func (p *bufferPool) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, b)
}
