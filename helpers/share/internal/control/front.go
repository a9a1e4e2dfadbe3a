//go:build linux

package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/confine"
)

// lines hands out stdin line by line, the next one only after the last one was answered. So at `serve` everything
// after its line is still in stdin, for the serving process to read.
type lines struct {
	pending  []byte // of the current line
	last     []byte // the current line
	answered chan struct{}
	first    bool
}

func (l *lines) Read(b []byte) (int, error) {
	if len(l.pending) == 0 {
		if !l.first {
			<-l.answered
		}
		l.first = false
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, l.pending)
	l.pending = l.pending[n:]
	return n, nil
}

// next reads byte by byte: nothing may be read ahead. A line over the contract's limit is handed on as far as it
// was read; the peer refuses it.
func (l *lines) next() error {
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := os.Stdin.Read(one)
		if err != nil {
			if len(line) > 0 && errors.Is(err, io.EOF) {
				break // half a line: the peer says so
			}
			return err
		}
		line = append(line, one[:n]...)
		if one[0] == '\n' || len(line) > contract.MaxLineBytes {
			break
		}
	}
	l.pending, l.last = line, line
	return nil
}

// Write is stdout: each answer is one call.
func (l *lines) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	l.answered <- struct{}{}
	return n, err
}

// frontDoor is the first process.
type frontDoor struct {
	lines *lines
	start chan *starting // to the main thread, with which the child lives
}

// starting is a `serve` that has its folder and socket.
type starting struct {
	handoff handoff
	files   confine.Files
	path    string // of the socket; empty: nothing is served
	failed  chan error
}

// removeSocket takes away the socket's name; the serving process has no way to reach it.
func (s *starting) removeSocket() {
	if s.path != "" {
		_ = os.Remove(s.path)
	}
}

func front() error {
	runtime.LockOSThread() // the child's life hangs on this thread
	// Whatever else the keeper's process had open is not ours to keep.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err := confine.DieWithParent(unix.Getppid()); err != nil {
		return err
	}
	d := &frontDoor{lines: &lines{answered: make(chan struct{}, 1), first: true}, start: make(chan *starting)}
	handlers := all(folderMethods, func(json.RawMessage) (any, error) {
		return nil, contract.Errorf("protocol.order", "Nothing is served yet.")
	})
	handlers["hello"], handlers["identify"], handlers["serve"] = answerHello, answerIdentify, d.serve
	peer := contract.NewPeer(d.lines, d.lines, handlers)
	ended := make(chan error, 1)
	go func() { ended <- peer.Serve() }()
	for {
		select {
		case err := <-ended:
			return err
		case s := <-d.start:
			done, err := s.run()
			if done {
				return err
			}
			s.failed <- err
		}
	}
}

func answerIdentify(raw json.RawMessage) (any, error) {
	path, err := parseIdentify(raw)
	if err != nil {
		return nil, err
	}
	f, err := openFolder(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(f.fd)
	filesystem, readOnly, err := f.describe()
	if err != nil {
		return nil, err
	}
	return identifyResult{Identity: f.identity, Filesystem: filesystem, ReadOnly: readOnly}, nil
}

// serve answers only when it fails; otherwise the serving process does.
func (d *frontDoor) serve(raw json.RawMessage) (any, error) {
	p, path, err := parseServe(raw)
	if err != nil {
		return nil, err
	}
	f, err := openFolder(path)
	if err != nil {
		return nil, err
	}
	root := os.NewFile(uintptr(f.fd), "root")
	defer root.Close()
	if p.Identity != nil && !p.Identity.same(f.identity) {
		return nil, contract.Errorf("share.identity", "The folder is not the one that was granted.")
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return nil, folderError(err)
	}
	layer, store, layerPlace, storePlace, err := openKept(&p)
	if err != nil {
		return nil, err
	}
	for _, kept := range []*os.File{layer, store} {
		if kept != nil {
			defer kept.Close()
		}
	}
	var socket *os.File
	if p.Listen != "" {
		listening, err := listen(p.Listen)
		if err != nil {
			return nil, err
		}
		socket = os.NewFile(uintptr(listening), "socket")
		defer socket.Close()
	}
	s := &starting{
		handoff: handoff{
			Line: d.lines.last, Parent: unix.Getpid(), Identity: f.identity, UID: uint32(*p.Owner.UID), GID: uint32(*p.Owner.GID),
			Plan: confine.Plan{
				Place: confine.Place{Path: path, Device: st.Dev, Inode: st.Ino}, ReadOnly: p.Mode == "ro", Listen: socket != nil, Layer: layerPlace, Store: storePlace,
			},
			Serving: p, Places: asBytes(f.places(path)),
		},
		files: confine.Files{Listen: socket, Root: root, Layer: layer, Store: store}, path: p.Listen, failed: make(chan error),
	}
	d.start <- s
	err = <-s.failed
	s.removeSocket()
	return nil, contract.Errorf("share.confinement", "The serving process could not be started: %v.", err)
}

// run starts the serving process and waits for its end. done is false when it ended without having answered.
func (s *starting) run() (done bool, err error) {
	fd, err := unix.MemfdCreate("handoff", unix.MFD_CLOEXEC)
	if err != nil {
		return false, err
	}
	memory := os.NewFile(uintptr(fd), "handoff")
	defer memory.Close()
	s.files.Handoff = memory
	var b *brokered
	if s.files.Store != nil {
		if b, s.files.Broker, err = newBroker(s.files.Root, s.files.Store, *s.handoff.Serving.Writer, s.path); err != nil {
			return false, err
		}
		s.handoff.Plan.Broker = true
	}
	child, err := confine.Start([]string{"cloche-share", stageConfine}, s.files, func(n confine.Namespaces, why string) error {
		s.handoff.Plan.Namespaces, s.handoff.Plan.Why = n, why
		return s.handoff.write(memory)
	})
	if err != nil {
		return false, err
	}
	for _, f := range []*os.File{s.files.Listen, s.files.Layer, s.files.Broker} {
		if f != nil {
			f.Close()
		}
	}
	if b != nil {
		go b.serve() // with the folder and the store
	} else {
		s.files.Root.Close()
	}
	state, err := child.Wait()
	if err != nil {
		return false, err
	}
	if state.ExitCode() == statusNotServing {
		return false, errors.New("it gave up, see its log")
	}
	s.removeSocket()
	if !state.Success() {
		return true, fmt.Errorf("the serving process ended: %v", state)
	}
	return true, nil
}
