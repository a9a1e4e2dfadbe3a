//go:build linux

package hostfs_test

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// F07: `ro` refuses each message that would change something, with EROFS, and serves the rest.
func TestReadOnlyRefusesEachChange(t *testing.T) {
	for _, readOnly := range []bool{true, false} {
		t.Run(map[bool]string{true: "ro", false: "rw as control"}[readOnly], func(t *testing.T) {
			s := newShare(t, readOnly)
			s.put("f", "content")
			s.put("g", "content")
			must(t, os.Mkdir(s.host("d"), 0o755))
			must(t, s.Walk(rootFid, 2, "f"))
			must(t, s.Walk(rootFid, 3, "d"))
			changes := []struct {
				what string
				m    wire.Message
			}{
				{"mkdir", &wire.Tmkdir{Dir: rootFid, Name: "x1", Mode: 0o755}},
				{"mknod", &wire.Tmknod{Fid: rootFid, Name: "x2", Mode: 0o100644}},
				{"symlink", &wire.Tsymlink{Fid: rootFid, Name: "x3", Target: "f"}},
				{"link", &wire.Tlink{Dir: rootFid, Fid: 2, Name: "x4"}},
				{"rename at", &wire.Trenameat{OldDir: rootFid, OldName: "f", NewDir: rootFid, NewName: "f2"}},
				{"rename back", &wire.Trenameat{OldDir: rootFid, OldName: "f2", NewDir: rootFid, NewName: "f"}},
				{"rename", &wire.Trename{Fid: 2, Dir: 3, Name: "f"}},
				{"unlink", &wire.Tunlinkat{Dir: rootFid, Name: "g"}},
				{"rmdir", &wire.Tunlinkat{Dir: rootFid, Name: "x1", Flags: 0x200}},
				{"chmod", &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}}},
				{"truncate", &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 3}}},
				{"utime", &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMtime}}},
				{"chown", &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetUID, UID: 1000}}},
			}
			check := func(what string, err error) {
				t.Helper()
				if readOnly {
					refused(t, what, err, syscall.EROFS)
				} else if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			for _, c := range changes {
				_, err := s.Do(c.m)
				check(c.what, err)
			}
			fid := uint32(20)
			path := []string{"d", "f"}
			if readOnly {
				path = []string{"f"}
			}
			for _, flags := range []uint32{1, 2, 0o1000, 0o1001, 0o2001} {
				must(t, s.Walk(rootFid, fid, path...))
				_, err := s.Do(&wire.Tlopen{Fid: fid, Flags: flags})
				check("open for writing", err)
				s.clunk(fid)
			}
			must(t, s.Walk(rootFid, fid))
			_, err := s.Do(&wire.Tlcreate{Fid: fid, Name: "new", Flags: 2, Mode: 0o644})
			check("create", err)
			s.clunk(fid)
			must(t, s.Walk(rootFid, fid, path...))
			_, err = s.Do(&wire.Txattrcreate{Fid: fid, Name: "user.a", Size: 1})
			must(t, err)
			_, err = s.Do(&wire.Twrite{Fid: fid, Data: []byte("x")})
			must(t, err)
			_, err = s.Do(&wire.Tclunk{Fid: fid})
			check("set xattr", err)
			must(t, s.Walk(rootFid, fid, path...))
			_, err = s.Do(&wire.Tremove{Fid: fid})
			check("remove", err)
			if readOnly {
				got, err := s.readAll(2)
				if err != nil || got != "content" {
					t.Errorf("reading: %q, %v", got, err)
				}
				_, err = s.Do(&wire.Twrite{Fid: 2, Data: []byte("x")})
				refused(t, "write", err, syscall.EBADF)
				entries, err := os.ReadDir(s.root)
				if err != nil || len(entries) != 3 {
					t.Errorf("the folder changed: %v, %v", entries, err)
				}
			}
		})
	}
}

func TestAnOpenFileOutlivesItsName(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "content")
	must(t, s.Walk(rootFid, 2, "f"))
	_, err := s.Do(&wire.Tlopen{Fid: 2, Flags: 2})
	must(t, err)
	must(t, s.Walk(rootFid, 3, "f"))
	_, err = s.Do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
	must(t, err)
	r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 2, Count: 100})
	if err != nil || string(r.Data) != "content" {
		t.Errorf("%q, %v", r, err)
	}
	attr, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: 3})
	if err != nil || attr.Attr.Nlink != 0 {
		t.Errorf("getattr: %+v, %v", attr, err)
	}
	// A fid that was not open yet still is that file.
	if got, err := s.readAll(3); err != nil || got != "content" {
		t.Errorf("opened after: %q, %v", got, err)
	}
}

func TestAFidStaysWithItsFileThroughRenames(t *testing.T) {
	s := newShare(t, false)
	s.put("a", "A")
	s.put("b", "B")
	must(t, os.Mkdir(s.host("d"), 0o755))
	must(t, s.Walk(rootFid, 2, "a"))
	must(t, s.Walk(rootFid, 3, "d"))
	_, err := s.Do(&wire.Trenameat{OldDir: rootFid, OldName: "a", NewDir: 3, NewName: "moved"})
	must(t, err)
	must(t, os.Rename(s.host("b"), s.host("a"))) // another file takes the name
	_, err = s.Do(&wire.Tremove{Fid: 2})
	refused(t, "remove by a name that is another file's", err, syscall.ENOENT)
	if got, err := os.ReadFile(s.host("a")); err != nil || string(got) != "B" {
		t.Errorf("the other file: %q, %v", got, err)
	}
	must(t, s.Walk(3, 4, "moved"))
	_, err = s.Do(&wire.Trename{Fid: 4, Dir: rootFid, Name: "back"})
	must(t, err)
	if got, err := s.readAll(4); err != nil || got != "A" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = s.Do(&wire.Tremove{Fid: 4})
	must(t, err)
	if _, err := os.Lstat(s.host("back")); !os.IsNotExist(err) {
		t.Error("the file is still there after its removal")
	}
	_, err = s.Do(&wire.Tremove{Fid: rootFid})
	refused(t, "remove of the root", err, syscall.EBUSY)
}

func TestAQidIsStableAndItsFilesOwn(t *testing.T) {
	s := newShare(t, false)
	s.put("a", "A")
	s.put("b", "B")
	qid := func(name string) wire.QID {
		r, err := ninetest.Ask[*wire.Rwalk](s.Client, &wire.Twalk{Fid: rootFid, NewFid: 5, Names: []string{name}})
		must(t, err)
		s.clunk(5)
		return r.QIDs[0]
	}
	a, b := qid("a"), qid("b")
	_, err := s.Do(&wire.Trenameat{OldDir: rootFid, OldName: "a", NewDir: rootFid, NewName: "c"})
	must(t, err)
	must(t, os.WriteFile(s.host("c"), []byte("more"), 0o644))
	if c := qid("c"); c != a || a == b {
		t.Errorf("a %v, c %v, b %v", a, c, b)
	}
	must(t, s.Walk(rootFid, 2, "c"))
	_, err = s.Do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "again"})
	must(t, err)
	if q := qid("again"); q != a {
		t.Errorf("a hard link has qid %v, the file %v", q, a)
	}
}

func TestLargeSparseFiles(t *testing.T) {
	s := newShare(t, false)
	must(t, s.Walk(rootFid, 2))
	_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: "big", Flags: 2, Mode: 0o444}) // not writable by its mode, yet by this fid
	must(t, err)
	const far = 6 << 30
	_, err = s.Do(&wire.Twrite{Fid: 2, Offset: far, Data: []byte("end")})
	must(t, err)
	r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 2, Offset: far - 2, Count: 100})
	must(t, err)
	if !bytes.Equal(r.Data, []byte("\x00\x00end")) {
		t.Errorf("%q", r.Data)
	}
	_, err = s.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 5 << 30}})
	must(t, err)
	st, err := os.Stat(s.host("big"))
	must(t, err)
	if st.Size() != 5<<30 {
		t.Errorf("size %d", st.Size())
	}
	for _, offset := range []uint64{1 << 63, ^uint64(0), 1<<63 - 2} {
		_, err = s.Do(&wire.Twrite{Fid: 2, Offset: offset, Data: []byte("end")})
		refused(t, "write past the end of numbers", err, syscall.EFBIG)
		_, err = s.Do(&wire.Tread{Fid: 2, Offset: offset, Count: 10})
		refused(t, "read past the end of numbers", err, syscall.EINVAL)
	}
	_, err = s.Do(&wire.Tfsync{Fid: 2})
	must(t, err)
	_, err = s.Do(&wire.Tfsync{Fid: 2, DataOnly: 1})
	must(t, err)
}

func TestTimes(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "x")
	must(t, os.Symlink("f", s.host("l")))
	for fid, name := range map[uint32]string{2: "f", 3: "l"} {
		must(t, s.Walk(rootFid, fid, name))
		want := wire.Time{Sec: 1_000_000_000, Nsec: 123456789}
		_, err := s.Do(&wire.Tsetattr{Fid: fid, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: want}})
		must(t, err)
		attr, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: fid})
		must(t, err)
		if attr.Attr.Mtime != want {
			t.Errorf("%s: %v", name, attr.Attr.Mtime)
		}
		for _, nsec := range []uint64{1<<30 - 1, 1<<30 - 2, ^uint64(0)} { // UTIME_NOW, UTIME_OMIT, -1
			_, err = s.Do(&wire.Tsetattr{Fid: fid, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: wire.Time{Nsec: nsec}}})
			refused(t, "odd nanoseconds", err, syscall.EINVAL)
		}
		_, err = s.Do(&wire.Tsetattr{Fid: fid, Attr: wire.SetAttr{Valid: wire.SetMtime}})
		must(t, err)
		attr, err = ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: fid})
		must(t, err)
		if age := time.Since(time.Unix(int64(attr.Attr.Mtime.Sec), 0)); age > time.Minute {
			t.Errorf("%s: now is %v ago", name, age)
		}
	}
}

func TestUserAttributes(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "x")
	set := func(value string, flags uint32) error {
		must(t, s.Walk(rootFid, 5, "f"))
		_, err := s.Do(&wire.Txattrcreate{Fid: 5, Name: "user.cloche", Size: uint64(len(value)), Flags: flags})
		must(t, err)
		if value != "" {
			_, err = s.Do(&wire.Twrite{Fid: 5, Data: []byte(value)})
			must(t, err)
		}
		_, err = s.Do(&wire.Tclunk{Fid: 5})
		return err
	}
	get := func(name string) (string, error) {
		must(t, s.Walk(rootFid, 5, "f"))
		defer s.clunk(5, 6)
		r, err := ninetest.Ask[*wire.Rxattrwalk](s.Client, &wire.Txattrwalk{Fid: 5, NewFid: 6, Name: name})
		if err != nil {
			return "", err
		}
		data, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 6, Count: uint32(r.Size)})
		return string(data.Data), err
	}
	if err := set("value", 0); err == syscall.EOPNOTSUPP {
		t.Skip("IGNORED: this filesystem keeps no user attributes")
	} else {
		must(t, err)
	}
	if got, err := get("user.cloche"); err != nil || got != "value" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := get(""); err != nil || got != "user.cloche\x00" {
		t.Errorf("the list is %q, %v", got, err)
	}
	must(t, set("", unix.XATTR_REPLACE))
	_, err := get("user.cloche")
	refused(t, "get of a removed one", err, syscall.ENODATA)
	for _, name := range []string{"security.capability", "system.posix_acl_access", "trusted.x", "user", "cloche"} {
		_, err = get(name)
		refused(t, "get "+name, err, syscall.ENODATA)
		must(t, s.Walk(rootFid, 5, "f"))
		_, err = s.Do(&wire.Txattrcreate{Fid: 5, Name: name, Size: 1})
		refused(t, "set "+name, err, syscall.EOPNOTSUPP)
		s.clunk(5)
	}
}

func TestLocksHoldBetweenFidsAndAgainstTheHost(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "x")
	for _, fid := range []uint32{2, 3} {
		must(t, s.Walk(rootFid, fid, "f"))
		_, err := s.Do(&wire.Tlopen{Fid: fid, Flags: 2})
		must(t, err)
	}
	lock := func(fid uint32, kind uint8, start, length uint64) uint8 {
		t.Helper()
		r, err := ninetest.Ask[*wire.Rlock](s.Client, &wire.Tlock{Fid: fid, Kind: kind, Start: start, Length: length})
		must(t, err)
		return r.Status
	}
	if lock(2, wire.LockWrite, 0, 10) != wire.LockSuccess || lock(3, wire.LockWrite, 5, 10) != wire.LockBlocked || lock(3, wire.LockWrite, 10, 10) != wire.LockSuccess {
		t.Error("ranges do not hold between fids")
	}
	g, err := ninetest.Ask[*wire.Rgetlock](s.Client, &wire.Tgetlock{Fid: 3, Lock: wire.Lock{Type: wire.LockWrite}})
	if err != nil || g.Lock.Type != wire.LockWrite || g.Lock.Length != 10 {
		t.Errorf("getlock: %+v, %v", g, err)
	}
	s.clunk(2)
	if lock(3, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Error("a clunk does not unlock")
	}
	f, err := os.OpenFile(s.host("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	host := unix.Flock_t{Type: unix.F_WRLCK}
	refused(t, "the host's own lock", unix.FcntlFlock(f.Fd(), unix.F_SETLK, &host), syscall.EAGAIN)
	if lock(3, wire.LockUnlock, 0, 0) != wire.LockSuccess {
		t.Error("unlock")
	}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &host))
	// flock(1) opens for reading and asks for the exclusive lock.
	for _, fid := range []uint32{6, 7} {
		must(t, s.Walk(rootFid, fid))
		_, err := s.Do(&wire.Tlopen{Fid: fid})
		must(t, err)
	}
	if lock(6, wire.LockWrite, 0, 0) != wire.LockSuccess || lock(7, wire.LockWrite, 0, 0) != wire.LockBlocked || lock(6, wire.LockUnlock, 0, 0) != wire.LockSuccess || lock(7, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Error("flock of a read-only descriptor")
	}
}

func TestAppendsLandAtTheEnd(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "host")
	must(t, s.Walk(rootFid, 2, "f"))
	_, err := s.Do(&wire.Tlopen{Fid: 2, Flags: 0o2001})
	must(t, err)
	for range 2 {
		_, err = s.Do(&wire.Twrite{Fid: 2, Data: []byte("+")})
		must(t, err)
	}
	if got, _ := os.ReadFile(s.host("f")); string(got) != "host++" {
		t.Errorf("%q", got)
	}
}
