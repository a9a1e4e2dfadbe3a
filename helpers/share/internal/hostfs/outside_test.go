//go:build linux

package hostfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// refused expects one of the given errnos.
func refused(t testing.TB, what string, err error, want ...syscall.Errno) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: got %v, want %v", what, err, want)
}

// readAll reads up to 4 KiB of a file by its fid.
func (s *share) readAll(fid uint32) (string, error) {
	if _, err := s.Do(&wire.Tlopen{Fid: fid}); err != nil {
		return "", err
	}
	r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: fid, Count: 4096})
	if err != nil {
		return "", err
	}
	return string(r.Data), nil
}

func (s *share) clunk(fids ...uint32) {
	for _, fid := range fids {
		_, _ = s.Do(&wire.Tclunk{Fid: fid})
	}
}

// F01, F02: no link is followed on the host, wherever it points.
func TestALinkIsNeverFollowedOnTheHost(t *testing.T) {
	s := newShare(t, false)
	s.put("inside", "inside")
	must(t, os.Mkdir(s.host("dir"), 0o755))
	outside := filepath.Dir(s.root)
	for name, target := range map[string]string{
		"absolute": s.canary, "relative": "../canary", "via-parent": "dir/../../canary", "chained": "absolute", "to-inside": "inside",
		"directory": outside, "directory-relative": "..", "self": "self", "proc": "/proc/self/root",
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.Symlink(target, s.host(name)))
			must(t, s.Walk(rootFid, 2, name))
			defer s.clunk(2)
			link, err := ninetest.Ask[*wire.Rreadlink](s.Client, &wire.Treadlink{Fid: 2})
			must(t, err)
			if link.Target != target {
				t.Errorf("the text is %q, want %q", link.Target, target)
			}
			_, err = s.Do(&wire.Tlopen{Fid: 2, Flags: 0})
			refused(t, "open for reading", err, syscall.ELOOP)
			_, err = s.Do(&wire.Tlopen{Fid: 2, Flags: 1 | 0o1000})
			refused(t, "open for writing", err, syscall.ELOOP)
			_, err = s.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize}})
			refused(t, "truncate", err, syscall.EINVAL)
			_, err = s.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}})
			refused(t, "chmod", err, syscall.EOPNOTSUPP)
			refused(t, "walk through", s.Walk(2, 3, "canary"), syscall.ENOTDIR)
			refused(t, "walk through in one go", s.Walk(rootFid, 3, name, "canary"), syscall.ENOENT)
			must(t, s.Walk(rootFid, 4))
			defer s.clunk(4)
			_, err = s.Do(&wire.Tlcreate{Fid: 4, Name: name, Flags: 2 | 0o1000, Mode: 0o644})
			refused(t, "create over", err, syscall.ELOOP)
			_, err = s.Do(&wire.Tmkdir{Dir: 2, Name: "x", Mode: 0o755})
			refused(t, "mkdir in", err, syscall.ENOTDIR)
		})
	}
	// Control: the same file by its own name.
	must(t, s.Walk(rootFid, 2, "inside"))
	if got, err := s.readAll(2); err != nil || got != "inside" {
		t.Errorf("control: %q, %v", got, err)
	}
}

// Where a layer is kept, one that leads out comes here only by an apply (view).
func TestALinkOfTheGuestKeepsItsText(t *testing.T) {
	s := newShare(t, false)
	for _, target := range []string{"/etc/passwd", "../../..", "a\nb\xff", strings.Repeat("x", 4095)} {
		_, err := s.Do(&wire.Tsymlink{Fid: rootFid, Name: "l", Target: target})
		must(t, err)
		if got, err := os.Readlink(s.host("l")); err != nil || got != target {
			t.Errorf("%q: %q, %v", target, got, err)
		}
		_, err = s.Do(&wire.Tunlinkat{Dir: rootFid, Name: "l"})
		must(t, err)
	}
	_, err := s.Do(&wire.Tsymlink{Fid: rootFid, Name: "l", Target: "a\x00b"})
	refused(t, "a link with NUL", err, syscall.EINVAL)
}

// F04: a new file below a directory that is a link to outside.
func TestNothingIsMadeBelowALinkedParent(t *testing.T) {
	s := newShare(t, false)
	must(t, os.Symlink(filepath.Dir(s.root), s.host("up")))
	refused(t, "walk two levels below", s.Walk(rootFid, 2, "up", "new", "deeper"), syscall.ENOENT)
	must(t, s.Walk(rootFid, 2, "up"))
	_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: "planted", Flags: 2, Mode: 0o644})
	refused(t, "create below", err, syscall.ENOTDIR)
	if _, err := os.Lstat(filepath.Join(filepath.Dir(s.root), "planted")); !os.IsNotExist(err) {
		t.Error("a file was made outside")
	}
}

// F03: a directory that turns into a link and back while files in it are read and written.
func TestSwappingADirectoryForALinkReachesNothingOutside(t *testing.T) {
	s := newShare(t, false)
	outside := filepath.Join(filepath.Dir(s.root), "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte(canaryText), 0o644))
	must(t, os.Mkdir(s.host("dir"), 0o755))
	must(t, os.WriteFile(s.host("dir", "file"), []byte("inside"), 0o644))
	must(t, os.Symlink(outside, s.host("link")))
	var stop atomic.Bool
	swapped := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			_ = unix.Renameat2(unix.AT_FDCWD, s.host("dir"), unix.AT_FDCWD, s.host("link"), unix.RENAME_EXCHANGE)
		}
		swapped <- n
	}()
	went, opened := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); went++ {
		if s.Walk(rootFid, 2, "dir", "file") == nil {
			opened++
			if _, err := s.Do(&wire.Tlopen{Fid: 2, Flags: 2}); err == nil {
				r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 2, Count: 100})
				if err == nil && string(r.Data) != "inside" {
					t.Fatalf("read %q", r.Data)
				}
				_, _ = s.Do(&wire.Twrite{Fid: 2, Data: []byte("inside")})
			}
		}
		s.clunk(2)
		if s.Walk(rootFid, 3, "dir") == nil {
			if _, err := s.Do(&wire.Tlcreate{Fid: 3, Name: "made", Flags: 1, Mode: 0o644}); err == nil {
				_, _ = s.Do(&wire.Tremove{Fid: 3})
			} else {
				s.clunk(3) // the link, whose removal would end the race
			}
		}
	}
	stop.Store(true)
	n := <-swapped
	t.Logf("%d swaps, %d walks, %d opened", n, went, opened)
	if n < 100 || opened == 0 || opened == went {
		t.Error("the race did not race")
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	got, err := os.ReadFile(filepath.Join(outside, "file"))
	if err != nil || string(got) != canaryText || len(entries) != 1 {
		t.Errorf("outside: %q, %v, %v", got, entries, err)
	}
}

// F06: what is not a name.
func TestOnlyNamesOfOneComponentAreTaken(t *testing.T) {
	s := newShare(t, false)
	must(t, os.Mkdir(s.host("dir"), 0o755))
	must(t, s.Walk(rootFid, 9, "dir"))
	for _, name := range []string{"", ".", "..", "../canary", "/", "/etc/passwd", "a/b", "a\x00b", "dir/../../canary"} {
		if name != ".." {
			refused(t, "walk "+name, s.Walk(rootFid, 2, name), syscall.EINVAL)
		}
		for _, m := range []wire.Message{
			&wire.Tlcreate{Fid: 9, Name: name, Flags: 2, Mode: 0o644}, &wire.Tmkdir{Dir: 9, Name: name}, &wire.Tsymlink{Fid: 9, Name: name, Target: "x"},
			&wire.Tmknod{Fid: 9, Name: name, Mode: 0o100644}, &wire.Tlink{Dir: 9, Fid: 9, Name: name}, &wire.Tunlinkat{Dir: 9, Name: name},
			&wire.Tunlinkat{Dir: 9, Name: name, Flags: 0x200}, &wire.Trenameat{OldDir: rootFid, OldName: "dir", NewDir: 9, NewName: name},
			&wire.Trenameat{OldDir: rootFid, OldName: name, NewDir: 9, NewName: "x"}, &wire.Trename{Fid: 9, Dir: rootFid, Name: name},
		} {
			_, err := s.Do(m)
			refused(t, "name "+name, err, syscall.EINVAL)
		}
	}
	long := strings.Repeat("n", 256)
	refused(t, "walk of 256 bytes", s.Walk(rootFid, 2, long), syscall.ENAMETOOLONG)
	_, err := s.Do(&wire.Tmkdir{Dir: 9, Name: long, Mode: 0o755})
	refused(t, "mkdir of 256 bytes", err, syscall.ENAMETOOLONG)
}

func TestNamesAreBytesAndPassAsTheyAre(t *testing.T) {
	s := newShare(t, false)
	for _, name := range []string{strings.Repeat("n", 255), "new\nline", "\xff\xfe invalid", "\x1b[31mred", "\u202eevil", "back\\slash", "...", " ", "~", "-rf"} {
		must(t, s.Walk(rootFid, 2))
		_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: name, Flags: 2, Mode: 0o644})
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
		s.clunk(2)
		if _, err := os.Lstat(s.host(name)); err != nil {
			t.Errorf("%q on the host: %v", name, err)
		}
		if err := s.Walk(rootFid, 3, name); err != nil {
			t.Errorf("%q found again: %v", name, err)
		}
		s.clunk(3)
	}
}

func TestWalkingUpEndsAtTheRoot(t *testing.T) {
	s := newShare(t, false)
	must(t, os.MkdirAll(s.host("a", "b"), 0o755))
	root, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: rootFid, Mask: wire.AttrBasic})
	must(t, err)
	for _, names := range [][]string{{".."}, {"..", "..", ".."}, {"a", "..", ".."}, {"a", "b", "..", "..", "..", ".."}} {
		must(t, s.Walk(rootFid, 2, names...))
		at, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: 2, Mask: wire.AttrBasic})
		must(t, err)
		if at.Attr.QID != root.Attr.QID {
			t.Errorf("%v leads to %v, not to the root %v", names, at.Attr.QID, root.Attr.QID)
		}
		s.clunk(2)
	}
	refused(t, "walk to the canary", s.Walk(rootFid, 2, "..", "canary"), syscall.ENOENT)
	// A directory moved out of the folder on the host does not take the walk along.
	must(t, s.Walk(rootFid, 3, "a", "b"))
	must(t, os.Rename(s.host("a"), filepath.Join(filepath.Dir(s.root), "moved")))
	must(t, s.Walk(3, 4, "..", ".."))
	at, err := ninetest.Ask[*wire.Rgetattr](s.Client, &wire.Tgetattr{Fid: 4, Mask: wire.AttrBasic})
	must(t, err)
	if at.Attr.QID != root.Attr.QID {
		t.Errorf("after a move `..` leads to %v", at.Attr.QID)
	}
	// The listing's own `..` tells no inode from above.
	_, err = s.Do(&wire.Tlopen{Fid: 4})
	must(t, err)
	list, err := ninetest.Ask[*wire.Rreaddir](s.Client, &wire.Treaddir{Fid: 4, Count: 8192})
	must(t, err)
	entries, err := wire.Dirents(list.Data)
	must(t, err)
	for _, e := range entries {
		if e.Name == ".." && e.QID.Path != root.Attr.QID.Path {
			t.Error("`..` in the root's listing names the directory above")
		}
	}
}
