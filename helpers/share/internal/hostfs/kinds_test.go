//go:build linux

package hostfs_test

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// F12, F23: FIFOs, sockets and devices that are in the folder are seen and removed, never opened, and nothing waits.
func TestWhatIsNotAFileIsNeverOpened(t *testing.T) {
	s := newShare(t, false)
	must(t, unix.Mkfifo(s.host("fifo"), 0o666))
	l, err := net.Listen("unix", s.host("socket"))
	must(t, err)
	defer l.Close()
	names := []string{"fifo", "socket"}
	if err := unix.Mknod(s.host("device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err == nil {
		names = append(names, "device")
	} else {
		t.Log("IGNORED: devices need root:", err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			must(t, s.Walk(rootFid, 2, name))
			attr, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: 2})
			must(t, err)
			if attr.Attr.Rdev != 0 {
				t.Error("the device's number is told")
			}
			for _, flags := range []uint32{0, 1, 2, 0o4000, 0o1001} {
				_, err := s.Do(&wire.Tlopen{Fid: 2, Flags: flags})
				refused(t, "open", err, syscall.ENXIO)
			}
			_, err = s.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}})
			refused(t, "chmod", err, syscall.EACCES)
			_, err = s.Do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "again"})
			refused(t, "link", err, syscall.EACCES)
			must(t, s.Walk(rootFid, 3))
			_, err = s.Do(&wire.Tlcreate{Fid: 3, Name: name, Flags: 2, Mode: 0o644})
			refused(t, "create over", err, syscall.ENXIO)
			s.clunk(2, 3)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("took %v", took)
			}
			_, err = s.Do(&wire.Tunlinkat{Dir: rootFid, Name: name})
			must(t, err)
		})
	}
}

func TestTheGuestMakesNoDevices(t *testing.T) {
	s := newShare(t, false)
	for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFDIR, unix.S_IFLNK, 0o170000} {
		_, err := s.Do(&wire.Tmknod{Fid: rootFid, Name: "n", Mode: kind | 0o666, Major: 1, Minor: 3})
		refused(t, "mknod", err, syscall.EPERM)
	}
	_, err := s.Do(&wire.Tmknod{Fid: rootFid, Name: "n", Mode: unix.S_IFREG | 0o6755})
	must(t, err)
	st, err := os.Lstat(s.host("n"))
	must(t, err)
	if st.Mode() != 0o755 {
		t.Errorf("the file's mode is %v", st.Mode())
	}
}

func TestSetIDBitsNeverReachTheHost(t *testing.T) {
	s := newShare(t, false)
	must(t, s.Walk(rootFid, 2))
	_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: "f", Flags: 2, Mode: 0o7755})
	must(t, err)
	_, err = s.Do(&wire.Tmkdir{Dir: rootFid, Name: "d", Mode: 0o7777})
	must(t, err)
	must(t, s.Walk(rootFid, 3, "d"))
	check := func(when string) {
		t.Helper()
		for name, want := range map[string]uint32{"f": unix.S_IFREG | 0o755, "d": unix.S_IFDIR | 0o777} {
			var st unix.Stat_t
			must(t, unix.Lstat(s.host(name), &st))
			if st.Mode != want {
				t.Errorf("%s: %s has mode %o", when, name, st.Mode)
			}
		}
	}
	check("made")
	for fid, mode := range map[uint32]uint32{2: 0o7755, 3: 0o7777} {
		_, err = s.Do(&wire.Tsetattr{Fid: fid, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: mode}})
		must(t, err)
	}
	check("changed")
}

func TestEveryFileBelongsToTheGuestsUser(t *testing.T) {
	s := newShare(t, false)
	s.put("f", "x")
	var before unix.Stat_t
	must(t, unix.Stat(s.host("f"), &before))
	must(t, s.Walk(rootFid, 2, "f"))
	for _, uid := range []uint32{1000, 0, 12345} {
		_, err := s.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetUID | wire.SetGID, UID: uid, GID: uid}})
		must(t, err)
	}
	attr, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: 2})
	must(t, err)
	var after unix.Stat_t
	must(t, unix.Stat(s.host("f"), &after))
	if attr.Attr.UID != 1000 || attr.Attr.GID != 1000 || after.Uid != before.Uid || after.Gid != before.Gid {
		t.Errorf("shown %d:%d, on the host %d:%d", attr.Attr.UID, attr.Attr.GID, after.Uid, after.Gid)
	}
}

func TestOtherFilesystemsBelowTheRootAreRefused(t *testing.T) {
	s := newShare(t, false)
	must(t, os.Mkdir(s.host("mount"), 0o755))
	must(t, os.Mkdir(s.host("plain"), 0o755))
	if err := unix.Mount("tmpfs", s.host("mount"), "tmpfs", 0, ""); err != nil {
		t.Skip("IGNORED: mounting needs root:", err)
	}
	defer func() { _ = unix.Unmount(s.host("mount"), unix.MNT_DETACH) }()
	must(t, os.WriteFile(s.host("mount", "secret"), []byte("x"), 0o644))
	refused(t, "walk into a mount", s.Walk(rootFid, 2, "mount"), syscall.EACCES)
	refused(t, "walk through a mount", s.Walk(rootFid, 2, "mount", "secret"), syscall.EACCES)
	must(t, s.Walk(rootFid, 2, "plain")) // control
	// A bind mount of the same filesystem is another mount as well.
	must(t, unix.Mount(s.root, s.host("plain"), "", unix.MS_BIND, ""))
	defer func() { _ = unix.Unmount(s.host("plain"), unix.MNT_DETACH) }()
	refused(t, "walk into a bind mount", s.Walk(rootFid, 3, "plain"), syscall.EACCES)
}
