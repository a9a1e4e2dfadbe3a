package main

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// The user's folders: the kernel's 9P client on a stream to the share server of the folder.

const mountMsize = 524_288

// mountOptions: `trans=fd` on the connected stream. `access=any`: one attach for the whole guest, as the server shows every file as the
// user's and knows no others. `cache=mmap`: see README, "Folders".
func mountOptions(fd int) string {
	n := itoa(fd)
	return "trans=fd,rfdno=" + n + ",wfdno=" + n + ",version=9p2000.L,msize=" + itoa(mountMsize) + ",access=any,cache=mmap,locktimeout=1"
}

type shareTable struct {
	mu     sync.Mutex
	mounts map[string]*share // by guest path; nil while being mounted
	covers map[string]uint64 // by guest path: the mount ids of what lies under the folders
	watch  sync.Once
}

// share is a mounted folder. Its mount id finds it again when the user has renamed a folder above it.
type share struct {
	mountID uint64
	stream  shareStream
}

// shareStream is one more descriptor of the stream that the kernel's client speaks on. When a share server dies in the
// middle of work, the end of its socket does not always come through the vsock device, and what waits for an answer would
// wait for ever, not to be killed: `end` makes the kernel's client give up, so that all of it fails with EIO.
type shareStream struct {
	mu   sync.Mutex
	fd   int  // -1 when it is let go
	ours bool // it is the agent that unmounts, and will end the stream
}

func (s *shareStream) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ours = true
}

func (s *shareStream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // ENOTCONN: it has ended by itself
		unix.Close(s.fd)
		s.fd = -1
	}
}

// letGo leaves the stream to the kernel alone, as the user has unmounted the folder.
func (s *shareStream) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 && !s.ours {
		unix.Close(s.fd)
		s.fd = -1
	}
}

func newShareTable() *shareTable {
	return &shareTable{mounts: map[string]*share{}, covers: map[string]uint64{}}
}

type mountParams struct {
	Port      int64  `json:"port"`
	GuestPath string `json:"guestPath"`
	Mode      string `json:"mode"`

	LocalFolders *localParams `json:"localFolders,omitempty"`
	local        *localFolders
}

type mountResult struct {
	GuestPath string `json:"guestPath"`
}

func parseMount(raw json.RawMessage) (p mountParams, err error) {
	if err = contract.Params(raw, &p); err != nil {
		return p, err
	}
	if err = checkInt("port", p.Port, firstPort, lastPort); err != nil {
		return p, err
	}
	if p.Mode != "ro" && p.Mode != "rw" {
		return p, contract.BadParams("mode is neither ro nor rw")
	}
	if p.local, err = p.LocalFolders.parse(); err != nil {
		return p, err
	}
	_, err = splitGuestPath(p.GuestPath, "")
	return p, err
}

func (a *agent) handleMount(raw json.RawMessage) (any, error) {
	p, err := parseMount(raw)
	if err != nil {
		return nil, err
	}
	if err := a.waitConfigured(); err != nil {
		return nil, err
	}
	parts, err := splitGuestPath(p.GuestPath, a.user.home())
	if err != nil {
		return nil, err
	}
	if !a.shares.claim(p.GuestPath) {
		return nil, contract.Errorf("agent.path", "a folder is mounted at %q already", p.GuestPath)
	}
	_, wasCovered := a.shares.coverAt(p.GuestPath)
	mounted, err := a.mountShare(uint32(p.Port), p.GuestPath, parts, p.Mode, p.local)
	if err != nil {
		if !wasCovered { // one that was is there to stay until the folder comes again or is taken out
			if err := a.shares.uncover(p.GuestPath); err != nil {
				logf("%s stays unwritable: %v", p.GuestPath, err)
			}
		}
		a.shares.release(p.GuestPath)
		return nil, nativeError("agent.mount", "the folder cannot be mounted at "+strconv.Quote(p.GuestPath), err)
	}
	a.shares.hold(p.GuestPath, mounted)
	return mountResult{p.GuestPath}, nil
}

// waitConfigured lets the host send its requests one after the other without waiting for answers.
func (a *agent) waitConfigured() error {
	if err := a.root.wait(); err != nil {
		return err
	}
	select {
	case <-a.configured:
		return nil
	case <-time.After(10 * time.Second):
		return contract.Errorf("protocol.order", "configure comes first")
	}
}

func (a *agent) mountShare(port uint32, guestPath string, parts []string, mode string, local *localFolders) (_ *share, err error) {
	rootFd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(rootFd)
	bare, err := openGuestPath(rootFd, parts, int(a.user.UID), int(a.user.GID))
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil, contract.Errorf("agent.path", "a part of %q is a link or a file, and no folder", "/"+strings.Join(parts, "/"))
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/" + strings.Join(parts, "/"), Err: err}
	}
	defer unix.Close(bare)
	point, err := a.shares.cover(guestPath, bare, a.user)
	if err != nil {
		return nil, err
	}
	defer unix.Close(point)

	stream, err := dialHost(port)
	if err != nil {
		return nil, err
	}
	fd, err := blockingFd(stream)
	stream.Close()
	if err != nil {
		return nil, err
	}
	mounted := &share{stream: shareStream{fd: fd}} // the mount holds its own reference
	defer func() {
		if err != nil {
			mounted.stream.end()
		}
	}()

	// What the host refuses is refused there; the flags only tell programs in their own words.
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME)
	if mode == "ro" {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("cloche", "/proc/self/fd/"+itoa(point), "9p", flags, mountOptions(fd)); err != nil {
		return nil, os.NewSyscallError("mount 9p", err)
	}
	if mounted.mountID, err = a.seeShare(rootFd, parts, local); err != nil {
		return nil, err
	}
	return mounted, nil
}

// seeShare reads the root's attributes through the mount: the claim "mounted" is made of what was seen.
func (a *agent) seeShare(rootFd int, parts []string, local *localFolders) (mountID uint64, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(rootFd, strings.Join(parts, "/"), &how)
	if err != nil {
		return 0, os.NewSyscallError("openat2", err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	const v9fsMagic = 0x01021997
	if fs.Type != v9fsMagic {
		return 0, errors.New("something else is mounted there")
	}
	a.mountLocal(fd, local)
	return st.Mnt_id, nil
}

type unmountParams struct {
	GuestPath string `json:"guestPath"`
	Again     bool   `json:"again,omitempty"`
	Dead      bool   `json:"dead,omitempty"`
}

func parseUnmount(raw json.RawMessage) (p unmountParams, err error) {
	if err = contract.Params(raw, &p); err != nil {
		return p, err
	}
	_, err = splitGuestPath(p.GuestPath, "")
	return p, err
}

func (a *agent) handleUnmount(raw json.RawMessage) (any, error) {
	p, err := parseUnmount(raw)
	if err != nil {
		return nil, err
	}
	s := a.shares.at(p.GuestPath)
	if s != nil {
		if err := s.unmount(p.Dead); err != nil {
			return nil, nativeError("agent.mount", "the folder cannot be unmounted", err)
		}
		a.shares.release(p.GuestPath)
	} else if _, covered := a.shares.coverAt(p.GuestPath); !covered || p.Again || a.shares.claimed(p.GuestPath) {
		return nil, contract.Errorf("agent.path", "no folder is mounted at %q", p.GuestPath)
	}
	if p.Again {
		return nil, nil
	}
	if err := a.shares.uncover(p.GuestPath); err != nil {
		return nil, nativeError("agent.mount", "the folder's place cannot be given back", err)
	}
	return nil, nil
}

// syncPatience bounds what a share server that no longer answers may cost; one that is dead fails at once.
const syncPatience = 5 * time.Second

// unmount writes back and detaches. A folder that is in use, has other mounts in it or whose server is silent is detached lazily:
// no new file opens in it, and those that are open fail with EIO, as the stream ends then. The stream of a server that is known to be
// dead is ended first: its own end need not have come through the vsock device.
func (s *share) unmount(dead bool) error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	at := findMount(string(info), s.mountID)
	if at == "" {
		s.stream.letGo()
		return nil // the user has unmounted it
	}
	s.stream.keep()
	defer s.stream.end()
	if dead {
		s.stream.end() // then the sync below fails at once, and all later requests with EIO
	}
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		err := s.sync(at)
		if dead {
			// Once more: what was on its way when the stream ended fails with the socket's error and does not tell the client that there
			// is no stream any more; the next request learns it, and it is not to be a program's.
			err = s.sync(at)
		}
		if err != nil {
			logf("%s could not be written back: %v", at, err)
		}
	}()
	select {
	case <-synced:
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != unix.EBUSY {
			return err
		}
	case <-time.After(syncPatience):
		logf("%s is not written back: its server does not answer", at)
	}
	return unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

func (s *share) sync(at string) error {
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// findMount gives the place of a mount by its id, from /proc/self/mountinfo, whose fourth field after the id is the place.
func findMount(mountinfo string, id uint64) string {
	want := strconv.FormatUint(id, 10) + " "
	for _, line := range strings.Split(mountinfo, "\n") {
		if !strings.HasPrefix(line, want) {
			continue
		}
		if f := strings.Fields(line); len(f) > 4 {
			return unescapeMount(f[4])
		}
	}
	return ""
}

// unescapeMount undoes the kernel's octal escapes of blank, tab, newline and backslash.
func unescapeMount(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// claim takes a place for one mount; false when it is taken.
func (t *shareTable) claim(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.mounts[path]; taken {
		return false
	}
	t.mounts[path] = nil
	return true
}

// claimed tells that a folder is mounted at a place or about to be.
func (t *shareTable) claimed(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, taken := t.mounts[path]
	return taken
}

func (t *shareTable) hold(path string, s *share) {
	t.mu.Lock()
	t.mounts[path] = s
	t.mu.Unlock()
	t.watch.Do(func() { go t.watchMounts() })
	go t.letGoOfUnmounted() // the user may have been quicker
}

// watchMounts lets go of folders as the user unmounts them.
func (t *shareTable) watchMounts() {
	// Not os.Open: Go's poller would watch the file too, and the kernel tells a change only to the first that asks about it.
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		logf("unmounted folders stay connected: %v", err)
		return
	}
	defer unix.Close(mounts)
	for {
		t.letGoOfUnmounted() // before the first wait too: what changed until the file was open is not told
		changed := []unix.PollFd{{Fd: int32(mounts), Events: unix.POLLPRI}}
		if _, err := unix.Poll(changed, -1); err != nil && err != unix.EINTR {
			logf("unmounted folders stay connected: %v", err)
			return
		}
	}
}

// letGoOfUnmounted leaves a folder that the user unmounted to the kernel alone: its stream ends with its last open file, as
// it would without the agent.
func (t *shareTable) letGoOfUnmounted() {
	held := t.all() // before the mounts are read: what is mounted later is none of those that are gone
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		logf("unmounted folders stay connected until the next change of mounts: %v", err)
		return
	}
	for _, s := range held {
		if findMount(string(info), s.mountID) == "" {
			s.stream.letGo()
		}
	}
}

func (t *shareTable) release(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mounts, path)
}

func (t *shareTable) at(path string) *share {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mounts[path]
}

// all gives the mounted folders, the deepest path first, which is the order to unmount them in.
func (t *shareTable) all() []*share {
	t.mu.Lock()
	defer t.mu.Unlock()
	paths := make([]string, 0, len(t.mounts))
	for path, s := range t.mounts {
		if s != nil {
			paths = append(paths, path)
		}
	}
	sortByLength(paths)
	list := make([]*share, len(paths))
	for i, path := range paths {
		list[i] = t.mounts[path]
	}
	return list
}
