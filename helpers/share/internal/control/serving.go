//go:build linux

package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/activity"
	"cloche/share/internal/confine"
	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/stream"
	"cloche/share/internal/versions"
)

// serving accepts the guest's connections, serves one after the other, and answers stats.
type serving struct {
	folder *served
	server *ninep.Server // nil when the folder could not be opened, which serve's answer says
	listen int
	peer   *contract.Peer

	answered atomic.Bool // serve has been answered
	refusals refusals

	turn struct {
		sync.Mutex
		taken bool // a connection is served
		next  *int // the newest of those that came meanwhile
	}
}

func (s *serving) stats(raw json.RawMessage) (any, error) {
	if err := contract.Params(raw, &struct{}{}); err != nil {
		return nil, err
	}
	if s.server == nil {
		return nil, contract.Errorf("protocol.order", "Nothing is served.")
	}
	c := &s.server.Stats
	result := statsResult{
		Connections: c.Connections.Load(), Fids: c.Fids.Load(), Requests: c.Requests.Load(),
		BytesRead: c.BytesRead.Load(), BytesWritten: c.BytesWritten.Load(),
	}
	if s.folder.layer != nil {
		bytes, err := s.folder.layer.Bytes()
		if err != nil {
			return nil, contract.Errorf("share.layer", "The layer cannot be looked through: %v.", err)
		}
		result.LayerBytes = &bytes
	}
	if s.folder.kept != nil {
		bytes, err := s.folder.kept.store.Used()
		if err != nil {
			return nil, storeError(err)
		}
		result.StoreBytes = &bytes
	}
	return result, nil
}

// sealed is where tests try to get out.
var sealed = func(*handoff) {}

// serveStage is the serving process: confined when it begins, sealed before it reads a byte of the guest.
func serveStage() error {
	runtime.LockOSThread() // the parent-death signal belongs to this thread
	memory := os.NewFile(confine.HandoffFD, "handoff")
	h, err := readHandoff(memory)
	if err != nil {
		return err
	}
	memory.Close()
	if err := confine.DieWithParent(h.Parent); err != nil {
		return err
	}
	for _, fd := range []int{confine.ListenFD, confine.RootFD, confine.ProcFD} {
		unix.CloseOnExec(fd)
	}
	// Go's poller takes its descriptors at the first timer; had the guest used them all up by then, it would end the process.
	time.AfterFunc(0, func() {})
	fids := fidLimit(ninep.DefaultFids) // the filter has no call that tells
	measures := append(h.Measures, confine.Seal(h.Plan.ReadOnly))
	sealed(h)
	s := &serving{listen: confine.ListenFD}
	s.refusals.tell = func(r roomRefused) { _ = s.peer.Notify("roomRefused", r) }
	f, problem := openServed(h, s.noRoom, s.versionRefused)
	var watched *activity.Tree
	var work *worked
	if problem == nil && f.layer != nil && f.kept != nil {
		work, problem = openChanges(h, f)
	}
	s.folder = f
	if problem == nil {
		watched = activity.Watch(f.tree, s.told, s.failed)
		s.server = &ninep.Server{Tree: watched, FidLimit: fids}
	}
	handlers := all(folderMethods, s.nothingKept)
	handlers["hello"], handlers["identify"], handlers["stats"], handlers["secrets"] = answerHello, s.outOfOrder, s.stats, s.secrets
	handlers["serve"] = func(raw json.RawMessage) (any, error) {
		if !s.answered.CompareAndSwap(false, true) {
			return s.outOfOrder(raw)
		}
		if problem != nil {
			return nil, problem
		}
		if f.kept != nil {
			measures = append(measures, f.kept.measures...)
		}
		return serveResult{Identity: h.Identity, Confinement: measures, LocalFolders: innerPaths(f.local)}, nil
	}
	if f != nil && f.kept != nil {
		handlers["history"], handlers["restore"], handlers["room"] = f.kept.history, f.kept.restore, f.kept.answerRoom
	}
	if work != nil {
		handlers["changes"], handlers["diff"], handlers["apply"], handlers["discard"] = work.changes, work.diff, work.apply, work.discard
		handlers["applies"], handlers["undo"] = work.applies, work.undo
		tellChanged(f.layer, s.changed)
	}
	if watched != nil {
		handlers["recorded"] = func(raw json.RawMessage) (any, error) {
			p, err := parseRecorded(raw)
			if err != nil {
				return nil, err
			}
			watched.Recorded(uint64(p.Batch))
			return nil, nil
		}
		// An answer tells of no less than what came before it: the keeper that asks before it ends the process misses nothing.
		for method, handler := range handlers {
			handlers[method] = func(raw json.RawMessage) (any, error) {
				watched.Flush()
				s.refusals.flush()
				return handler(raw)
			}
		}
	}
	s.peer = contract.NewPeer(io.MultiReader(bytes.NewReader(h.Line), os.Stdin), os.Stdout, handlers)
	failed := make(chan error, 2)
	if h.Serving.Listen != "" && problem == nil {
		go func() { failed <- s.accept() }()
	}
	go func() {
		err := s.peer.Serve()
		if err == nil {
			os.Exit(0) // end of stdin: at once, whatever the guest is doing
		}
		failed <- err
	}()
	fmt.Fprintln(os.Stderr, "cloche-share:", <-failed)
	os.Exit(1)
	return nil
}

// told hands the keeper what the guest did; it waits as long as the keeper does not read.
func (s *serving) told(batch uint64, entries []activity.Entry) {
	notice := activityNotice{Batch: batch, Entries: make([]activityEntry, len(entries))}
	for i, e := range entries {
		notice.Entries[i] = activityEntry{What: e.What, Path: innerPath(e.Path), Count: e.Count, Reason: contract.Tail(e.Reason, 256)}
		if e.What == activity.Renamed {
			to := innerPath(e.To)
			notice.Entries[i].To = &to
		}
		if e.Bytes > 0 {
			notice.Entries[i].Bytes = &e.Bytes
		}
	}
	_ = s.peer.Notify("activity", notice)
}

// changed tells the keeper that the list of changes is another one.
func (s *serving) changed(revision uint64) {
	_ = s.peer.Notify("changed", changedNotice{Revision: revision})
}

// noRoom tells the keeper that a write waits for its answer.
func (s *serving) noRoom(r versions.Room) {
	_ = s.peer.Notify("room", roomNotice{NeededBytes: r.NeededBytes, LimitBytes: r.LimitBytes, UsedBytes: r.UsedBytes, Path: innerPath(r.Path)})
}

// versionRefused tells the keeper that a write failed for want of room for versions.
func (s *serving) versionRefused(r versions.Room, why string) {
	s.refusals.add(roomRefused{What: "versions", Why: why, Path: innerPath(r.Path), NeededBytes: r.NeededBytes, LimitBytes: r.LimitBytes, UsedBytes: r.UsedBytes})
}

// failed tells the keeper of a write that the layer had no room for.
func (s *serving) failed(err error, path string) {
	var full *layer.Full
	if errors.As(err, &full) {
		s.refusals.add(roomRefused{What: "changes", Why: full.Why, Path: cutPath(path), NeededBytes: full.Needed, LimitBytes: full.Limit, UsedBytes: full.Used})
	}
}

func (s *serving) outOfOrder(json.RawMessage) (any, error) {
	return nil, contract.Errorf("protocol.order", "This process serves its folder already and can reach no other.")
}

// nothingKept answers for what a folder without layer and store has none of.
func (s *serving) nothingKept(json.RawMessage) (any, error) {
	return nil, contract.Errorf("protocol.order", "This folder is served without a layer and a store, so there is nothing to list, apply or restore.")
}

// accept takes each connection at once, whatever becomes of it, until the listening socket fails, which it does only with the process.
// One that nobody took would fill the listen queue, and the guest's vsock device stands still with all of its streams while that is full.
func (s *serving) accept() error {
	spare := openSpare()
	for {
		fd, _, err := unix.Accept4(s.listen, unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.admit(fd)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EMFILE) && spare >= 0:
			// What the guest has open took every descriptor: this connection gets the one that was kept for it, to be closed by.
			unix.Close(spare)
			if fd, _, err := unix.Accept4(s.listen, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
				unix.Close(fd)
			}
			spare = openSpare()
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
			time.Sleep(acceptAgain)
			spare = openSpare()
		default:
			return err
		}
	}
}

// acceptAgain is how long connections wait while there is no descriptor or memory to take them with.
const acceptAgain = 10 * time.Millisecond

// openSpare gives a descriptor that stands for nothing, or -1.
func openSpare() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return -1
	}
	return fd
}

// admit serves a connection, one at a time. Of those that come meanwhile the newest is kept, as it may be the remount whose predecessor
// is about to end, and the one before it is closed.
func (s *serving) admit(fd int) {
	s.turn.Lock()
	defer s.turn.Unlock()
	switch {
	case !s.turn.taken:
		s.turn.taken = true
		go s.serve(fd)
	case s.turn.next != nil:
		unix.Close(*s.turn.next)
		fallthrough
	default:
		s.turn.next = &fd
	}
}

// serve serves a connection, and then the one that came last meanwhile.
func (s *serving) serve(fd int) {
	for {
		s.one(stream.New(fd))
		s.turn.Lock()
		next := s.turn.next
		s.turn.next, s.turn.taken = nil, next != nil
		s.turn.Unlock()
		if next == nil {
			return
		}
		fd = *next
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
