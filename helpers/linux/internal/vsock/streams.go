package vsock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"cloche/helper/internal/plan"
)

// Streams are one machine's ways in and out. OpenPort and ClosePort may be repeated; Stop ends all and removes every
// file that was made.
type Streams interface {
	OpenPort(port uint32) error
	ClosePort(port uint32) error
	Stop()
}

// Links are the Streams of a machine whose vsock is carried by vhost-device-vsock.
type Links struct {
	streams string
	paths   plan.Paths

	lock sync.Mutex
	open map[uint32]bool
}

// NewLinks makes the device's folder and the way in.
func NewLinks(streams string, paths plan.Paths) (*Links, error) {
	if err := os.Mkdir(paths.Device, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(paths.DeviceStreams, streams); err != nil {
		_ = os.Remove(paths.Device)
		return nil, err
	}
	return &Links{streams: streams, paths: paths, open: map[uint32]bool{}}, nil
}

// OpenPort lets the guest reach <streams>_<port>.
func (l *Links) OpenPort(port uint32) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.open[port] {
		return nil
	}
	if err := os.Symlink(portPath(l.streams, port), portPath(l.paths.DeviceStreams, port)); err != nil {
		return err
	}
	l.open[port] = true
	return nil
}

// ClosePort refuses the guest's next connections; those that stand go on.
func (l *Links) ClosePort(port uint32) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	if !l.open[port] {
		return nil
	}
	delete(l.open, port)
	if err := os.Remove(portPath(l.paths.DeviceStreams, port)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Stop removes the links and the device's folder. The device itself must have ended.
func (l *Links) Stop() {
	_ = os.Remove(l.streams)
	_ = os.RemoveAll(l.paths.Device)
}

func portPath(base string, port uint32) string { return fmt.Sprintf("%s_%d", base, port) }
