//go:build linux

package hostfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/broker"
	"cloche/share/internal/confine"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// kept is a share whose content is kept before it is destroyed.
type kept struct {
	*share
	tree     *hostfs.Tree
	store    *versions.Store
	storeDir string
}

func directoryFD(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func procFD(t testing.TB) int { return directoryFD(t, "/proc/self/fd") }

// runBroker answers for a folder and its store until the test ends.
func runBroker(t testing.TB, root, store, writer string) versions.Broker {
	t.Helper()
	ours, theirs, err := broker.Socketpair()
	must(t, err)
	b := &broker.Broker{Root: directoryFD(t, root), Store: directoryFD(t, store), Writer: writer, Seal: func() []confine.Measure { return nil }}
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(ours) }()
	t.Cleanup(func() {
		theirs.Close()
		must(t, <-ended)
		ours.Close()
	})
	return broker.NewClient(theirs)
}

func newKept(t testing.TB, withBroker bool) *kept {
	t.Helper()
	base := t.TempDir()
	root, storeDir := filepath.Join(base, "root"), filepath.Join(base, "store")
	must(t, os.Mkdir(root, 0o755))
	must(t, os.Mkdir(storeDir, 0o700))
	return openKept(t, root, storeDir, "task-1", withBroker, nil)
}

func openKept(t testing.TB, root, storeDir, writer string, withBroker bool, change func(*versions.Options)) *kept {
	t.Helper()
	o := versions.Options{Store: directoryFD(t, storeDir), Proc: procFD(t), Writer: writer, KeepDays: 30, LimitBytes: 1 << 40}
	if withBroker {
		o.Broker = runBroker(t, root, storeDir, writer)
	}
	if change != nil {
		change(&o)
	}
	store, err := versions.Open(o)
	must(t, err)
	t.Cleanup(store.Close)
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	tree, err := hostfs.New(hostfs.Options{Root: rootFD, Proc: proc, UID: 1000, GID: 1000, Versions: store})
	must(t, err)
	s := &share{t: t, root: root, server: &ninep.Server{Tree: tree}}
	s.connect()
	return &kept{share: s, tree: tree, store: store, storeDir: storeDir}
}

func (k *kept) open(fid uint32, flags uint32, names ...string) {
	k.t.Helper()
	must(k.t, k.Walk(rootFid, fid, names...))
	_, err := k.Do(&wire.Tlopen{Fid: fid, Flags: flags})
	must(k.t, err)
}

func (k *kept) do(m wire.Message) {
	k.t.Helper()
	if _, err := k.Do(m); err != nil {
		k.t.Fatalf("%T: %v", m, err)
	}
}

// contents gives what the versions of a path hold, newest first.
func (k *kept) contents(path string) []string {
	k.t.Helper()
	all, err := k.store.History(path, false)
	must(k.t, err)
	var texts []string
	for _, v := range all {
		if v.Kind == versions.Link {
			texts = append(texts, "-> "+v.Link)
			continue
		}
		f, err := k.store.Content(v)
		must(k.t, err)
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		f.Close()
		must(k.t, err)
		texts = append(texts, string(text))
	}
	return texts
}

func (k *kept) expect(path string, want ...string) {
	k.t.Helper()
	got := k.contents(path)
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		k.t.Errorf("versions of %s: %q, want %q", path, got, want)
	}
}

func both(t *testing.T, test func(*testing.T, bool)) {
	for _, withBroker := range []bool{true, false} {
		t.Run(map[bool]string{true: "moved", false: "copied"}[withBroker], func(t *testing.T) { test(t, withBroker) })
	}
}

// F08: each way to lose content, and the original is recoverable.
func TestEveryWayToDestroyContentLeavesAVersion(t *testing.T) {
	ways := map[string]func(k *kept){
		"unlink": func(k *kept) { k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"}) },
		"remove": func(k *kept) { must(k.t, k.Walk(rootFid, 2, "f")); k.do(&wire.Tremove{Fid: 2}) },
		"truncate": func(k *kept) {
			must(k.t, k.Walk(rootFid, 2, "f"))
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 3}})
		},
		"truncate open": func(k *kept) {
			k.open(2, 2, "f")
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize}})
		},
		"open with O_TRUNC":         func(k *kept) { k.open(2, 1|0o1000, "f") },
		"open for reading, O_TRUNC": func(k *kept) { k.open(2, 0o1000, "f") },
		"create over": func(k *kept) {
			must(k.t, k.Walk(rootFid, 2))
			k.do(&wire.Tlcreate{Fid: 2, Name: "f", Flags: 1 | 0o1000})
		},
		"overwrite":               func(k *kept) { k.open(2, 1, "f"); k.do(&wire.Twrite{Fid: 2, Data: []byte("X")}) },
		"overwrite the last byte": func(k *kept) { k.open(2, 1, "f"); k.do(&wire.Twrite{Fid: 2, Offset: 7, Data: []byte("X")}) },
		"rename over": func(k *kept) {
			k.put("g", "other")
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "g", NewDir: rootFid, NewName: "f"})
		},
		"rename over by fid": func(k *kept) {
			k.put("g", "other")
			must(k.t, k.Walk(rootFid, 2, "g"))
			k.do(&wire.Trename{Fid: 2, Dir: rootFid, Name: "f"})
		},
		"rename of an own file over": func(k *kept) {
			must(k.t, k.Walk(rootFid, 2))
			k.do(&wire.Tlcreate{Fid: 2, Name: "own", Flags: 1})
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "own", NewDir: rootFid, NewName: "f"})
		},
		"rename of a link over": func(k *kept) {
			k.do(&wire.Tsymlink{Fid: rootFid, Name: "l", Target: "x"})
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "l", NewDir: rootFid, NewName: "f"})
		},
		"write, then unlink": func(k *kept) {
			k.open(2, 1, "f")
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
			k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
		},
		"unlink, then write and read": func(k *kept) {
			k.open(2, 2, "f")
			k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
		},
		"unlink, then truncate by fid": func(k *kept) {
			k.open(2, 2, "f")
			k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize}})
		},
		"replaced, then written by fid": func(k *kept) {
			k.open(2, 2, "f")
			k.put("g", "other")
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "g", NewDir: rootFid, NewName: "f"})
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
		},
	}
	for what, way := range ways {
		t.Run(what, func(t *testing.T) {
			both(t, func(t *testing.T, withBroker bool) {
				k := newKept(t, withBroker)
				k.put("f", "original")
				when := time.Unix(1_600_000_000, 123_456_789)
				must(t, os.Chmod(k.host("f"), 0o640))
				must(t, os.Chtimes(k.host("f"), when, when))
				way(k)
				k.expect("f", "original")
				all, _ := k.store.History("f", false)
				if len(all) == 1 && (all[0].Mode != 0o640 || all[0].MtimeNs != when.UnixNano()) {
					t.Errorf("the version is %+v", all[0])
				}
				// And back it comes, as it was.
				r := versions.Restorer{Store: k.store, Folder: k.tree}
				slice, err := r.Begin("f", 0, false)
				if err != nil || slice.Restored != 1 || slice.Remaining != 0 || len(slice.Refused) != 0 {
					t.Fatalf("restore: %+v, %v", slice, err)
				}
				got, err := os.ReadFile(k.host("f"))
				st, statErr := os.Stat(k.host("f"))
				if err != nil || statErr != nil || string(got) != "original" || st.Mode() != 0o640 || !st.ModTime().Equal(when) {
					t.Errorf("restored: %q, %v, %v", got, st, err)
				}
			})
		})
	}
}

// Controls: what destroys nothing, or only what this task wrote itself, makes no version.
func TestWhatTheTaskWroteItselfNeedsNoVersion(t *testing.T) {
	both(t, func(t *testing.T, withBroker bool) {
		k := newKept(t, withBroker)
		must(t, k.Walk(rootFid, 2))
		k.do(&wire.Tlcreate{Fid: 2, Name: "own", Flags: 2, Mode: 0o644})
		for range 3 {
			k.do(&wire.Twrite{Fid: 2, Data: []byte("content")})
		}
		k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 2}})
		k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode | wire.SetMtime | wire.SetMtimeTo, Mode: 0o600, Mtime: wire.Time{Sec: 1e9}}})
		k.do(&wire.Trenameat{OldDir: rootFid, OldName: "own", NewDir: rootFid, NewName: "moved"})
		k.do(&wire.Twrite{Fid: 2, Data: []byte("again")})
		k.do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "hard"})
		k.do(&wire.Twrite{Fid: 2, Data: []byte("both")})
		if got, _ := os.ReadFile(k.host("hard")); string(got) != "bothn" {
			t.Errorf("a link that the task made itself was broken: %q", got)
		}
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "moved"})
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "hard"})
		k.do(&wire.Tsymlink{Fid: rootFid, Name: "l", Target: "x"})
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "l"})
		k.do(&wire.Tmkdir{Dir: rootFid, Name: "d", Mode: 0o755})
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "d", Flags: 0x200})
		// Adding to a file of the host, growing and reading it.
		k.put("log", "host\n")
		k.open(3, 1|0o2000, "log")
		k.do(&wire.Twrite{Fid: 3, Data: []byte("guest\n")})
		k.open(4, 2, "log")
		k.do(&wire.Twrite{Fid: 4, Offset: 11, Data: []byte("more\n")})
		k.do(&wire.Tsetattr{Fid: 4, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 100}})
		all, err := k.store.History("", true)
		if err != nil || len(all) != 0 {
			t.Errorf("versions: %+v, %v", all, err)
		}
		// But then, destroying it keeps all.
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "log"})
		k.expect("log", "host\nguest\nmore\n"+string(make([]byte, 84)))
	})
}

// F24: the host edits between two writes of the guest, within a tick of the clock, with the same size.
func TestAHostEditBetweenTwoGuestWritesIsKept(t *testing.T) {
	test := func(t *testing.T, k *kept) {
		k.put("f", "first...")
		k.open(2, 2, "f")
		var want []string
		for i := range 50 {
			k.do(&wire.Twrite{Fid: 2, Data: fmt.Appendf(nil, "guest%03d", i)})
			f, err := os.OpenFile(k.host("f"), os.O_WRONLY, 0)
			must(t, err)
			text := fmt.Sprintf("host %03d", i)
			_, err = f.WriteAt([]byte(text), 0)
			must(t, err)
			f.Close()
			want = append([]string{text}, want...)
		}
		k.do(&wire.Twrite{Fid: 2, Data: []byte("the last")})
		k.expect("f", append(want, "first...")...)
	}
	t.Run("on this filesystem", func(t *testing.T) { test(t, newKept(t, true)) })
	t.Run("on one with coarse times", func(t *testing.T) {
		root, store := coarse(t)
		test(t, openKept(t, root, store, "task-1", true, nil))
	})
}

// F22: a hard link to outside, as package managers make.
func TestAFileLinkedFromOutsideIsSeparatedBeforeItIsWritten(t *testing.T) {
	for what, write := range map[string]func(k *kept){
		"write":  func(k *kept) { k.open(2, 2, "f"); k.do(&wire.Twrite{Fid: 2, Data: []byte("X")}) },
		"append": func(k *kept) { k.open(2, 1|0o2000, "f"); k.do(&wire.Twrite{Fid: 2, Data: []byte("X")}) },
		"truncate": func(k *kept) {
			must(k.t, k.Walk(rootFid, 2, "f"))
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize}})
		},
		"O_TRUNC": func(k *kept) { k.open(2, 1|0o1000, "f") },
		"chmod": func(k *kept) {
			must(k.t, k.Walk(rootFid, 2, "f"))
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}})
		},
		"through a fid opened before": func(k *kept) {
			k.open(2, 2, "f")
			k.open(3, 2, "f")
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
			k.do(&wire.Twrite{Fid: 3, Offset: 1, Data: []byte("Y")})
			if got, _ := os.ReadFile(k.host("f")); string(got) != "XYtside" {
				k.t.Errorf("the two fids see different files: %q", got)
			}
		},
		"after a rename": func(k *kept) {
			k.open(2, 2, "f")
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "f", NewDir: rootFid, NewName: "g"})
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
			if got, _ := os.ReadFile(k.host("g")); string(got) != "Xutside" {
				k.t.Errorf("written to %q", got)
			}
		},
		"after an unlink": func(k *kept) {
			k.open(2, 2, "f")
			k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
			k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
		},
	} {
		t.Run(what, func(t *testing.T) {
			both(t, func(t *testing.T, withBroker bool) {
				k := newKept(t, withBroker)
				outside := filepath.Join(filepath.Dir(k.root), "outside")
				must(t, os.WriteFile(outside, []byte("outside"), 0o644))
				must(t, os.Link(outside, k.host("f")))
				var before, after unix.Stat_t
				must(t, unix.Stat(outside, &before))
				write(k)
				got, err := os.ReadFile(outside)
				must(t, err)
				must(t, unix.Stat(outside, &after))
				if string(got) != "outside" || before.Ino != after.Ino || before.Mode != after.Mode || before.Mtim != after.Mtim {
					t.Errorf("the outside file is %q, %+v", got, after)
				}
				left, err := filepath.Glob(k.host(".cloche-*"))
				if err != nil || len(left) != 0 {
					t.Errorf("left over: %v", left)
				}
			})
		})
	}
}

// F08, F22: whoever has the other name writes to that file, and not to the version.
func TestTheVersionOfAFileWithAnotherNameIsACopyOfItsOwn(t *testing.T) {
	ways := map[string]func(k *kept){
		"unlink": func(k *kept) { k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"}) },
		"remove": func(k *kept) { must(k.t, k.Walk(rootFid, 2, "f")); k.do(&wire.Tremove{Fid: 2}) },
		"rename over": func(k *kept) {
			k.put("g", "other")
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "g", NewDir: rootFid, NewName: "f"})
		},
		"unlink, and a new one renamed there": func(k *kept) {
			k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
			must(k.t, k.Walk(rootFid, 2))
			k.do(&wire.Tlcreate{Fid: 2, Name: "own", Flags: 1})
			k.do(&wire.Trenameat{OldDir: rootFid, OldName: "own", NewDir: rootFid, NewName: "f"})
		},
	}
	for what, destroy := range ways {
		for _, joined := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, another name %v", what, joined), func(t *testing.T) {
				k := newKept(t, true)
				outside := filepath.Join(filepath.Dir(k.root), "outside")
				must(t, os.WriteFile(outside, []byte("original"), 0o644))
				if joined {
					must(t, os.Link(outside, k.host("f")))
				} else {
					must(t, os.WriteFile(k.host("f"), []byte("original"), 0o644))
				}
				destroy(k)
				moved, err := filepath.Glob(filepath.Join(k.storeDir, "versions", "*", "d*", "f"))
				must(t, err)
				if (len(moved) == 0) != joined { // the control: with one name it is moved, which copies nothing
					t.Errorf("moved: %v", moved)
				}
				must(t, os.WriteFile(outside, []byte("tampered"), 0o644))
				k.expect("f", "original")
				if content, refused := k.restoreFirst("f"); content != "original" || refused {
					t.Errorf("restored %q, refused %v", content, refused)
				}
				if got, _ := os.ReadFile(outside); string(got) != "tampered" {
					t.Errorf("outside is %q", got)
				}
			})
		}
	}
}

// Of a large file only what is overwritten is kept, and it comes back whole, wherever the file went.
func TestOfALargeFileOnlyOverwrittenPartsAreKept(t *testing.T) {
	const size = versions.PartsAbove + 5
	for what, then := range map[string]struct {
		do    func(k *kept)
		exact bool
	}{
		"as it is": {func(*kept) {}, true},
		"cut": {func(k *kept) {
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: size - 3<<20}})
		}, true},
		"removed": {func(k *kept) { k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"}) }, true},
		"moved":   {func(k *kept) { k.do(&wire.Trenameat{OldDir: rootFid, OldName: "f", NewDir: rootFid, NewName: "g"}) }, true},
		"touched": {func(k *kept) {
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: wire.Time{Sec: 1e9}}})
		}, true},
		"moved by the host": {func(k *kept) { must(k.t, os.Rename(k.host("f"), k.host("h"))) }, true},
		"changed by the host": {func(k *kept) {
			f, err := os.OpenFile(k.host("f"), os.O_WRONLY, 0)
			must(k.t, err)
			_, err = f.WriteAt([]byte("host"), 40<<20)
			must(k.t, err)
			f.Close()
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			k := newKept(t, true)
			original := make([]byte, size)
			for i := 0; i < size; i += 4096 {
				original[i] = byte(i >> 12)
			}
			must(t, os.WriteFile(k.host("f"), original, 0o640))
			k.open(2, 2, "f")
			for _, at := range []uint64{10, 2 << 20, size - 1, 10} {
				k.do(&wire.Twrite{Fid: 2, Offset: at, Data: []byte("overwritten")})
			}
			used, err := k.store.Used()
			must(t, err)
			if used > 8<<20 {
				t.Skipf("IGNORED: this filesystem shares blocks, so the file is kept whole (%d bytes)", used)
			}
			then.do(k)
			all, err := k.store.History("f", false)
			must(t, err)
			first := all[len(all)-1]
			r := versions.Restorer{Store: k.store, Folder: k.tree}
			slice, err := r.Begin("f", first.Number, false)
			must(t, err)
			if !then.exact {
				if slice.Restored != 0 || len(slice.Refused) != 1 || slice.Refused[0].Err != versions.ErrNotExact {
					t.Errorf("%+v", slice)
				}
				return
			}
			got, err := os.ReadFile(k.host("f"))
			if err != nil || !bytes.Equal(got, original) || slice.Restored != 1 {
				t.Errorf("%d bytes, %v, %+v", len(got), err, slice)
			}
		})
	}
}

// destroying are the requests that take the content of f away: it is fid 2, and g stands beside it.
func destroying() map[string]wire.Message {
	return map[string]wire.Message{
		"write":    &wire.Twrite{Fid: 2, Data: []byte("X")},
		"truncate": &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize}},
		"unlink":   &wire.Tunlinkat{Dir: rootFid, Name: "f"},
		"rename":   &wire.Trenameat{OldDir: rootFid, OldName: "g", NewDir: rootFid, NewName: "f"},
	}
}

// A write may come back only after the version is there; when that fails, nothing is destroyed.
func TestWhenKeepingFailsNothingIsDestroyed(t *testing.T) {
	for what, destroy := range destroying() {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			root, storeDir := filepath.Join(base, "root"), filepath.Join(base, "store")
			must(t, os.Mkdir(root, 0o755))
			must(t, os.Mkdir(storeDir, 0o700))
			var failing atomic.Bool
			k := openKept(t, root, storeDir, "task-1", false, func(o *versions.Options) {
				o.Step = func(step string) error {
					if failing.Load() {
						return syscall.ENOSPC
					}
					return nil
				}
			})
			k.put("f", "original")
			k.put("g", "other")
			k.open(2, 2, "f")
			failing.Store(true)
			_, err := k.Do(destroy)
			refused(t, what, err, syscall.ENOSPC)
			for name, want := range map[string]string{"f": "original", "g": "other"} {
				if got, err := os.ReadFile(k.host(name)); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			k.expect("f")
			failing.Store(false)
			k.do(destroy) // control
			k.expect("f", "original")
		})
	}
}

func TestManyWritersOfOneFileKeepItOnce(t *testing.T) {
	k := newKept(t, true)
	k.put("f", "original")
	var group sync.WaitGroup
	for i := range uint32(16) {
		k.open(10+i, 2, "f")
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := k.Do(&wire.Twrite{Fid: 10 + i, Data: []byte{'a' + byte(i)}}); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	k.expect("f", "original")
}

// What is deleted comes back by one restore: ten thousand files with their bytes, modes and times.
func TestOneRestoreBringsBackTenThousandDeletedFiles(t *testing.T) {
	both(t, func(t *testing.T, withBroker bool) {
		files := 10_000
		if !withBroker {
			files = 500 // each is copied and synced
		}
		k := newKept(t, withBroker)
		when := time.Unix(1_500_000_000, 5)
		for i := range files {
			dir := k.host("tree", fmt.Sprint(i/100))
			if i%100 == 0 {
				must(t, os.MkdirAll(dir, 0o750))
			}
			name := filepath.Join(dir, fmt.Sprint(i))
			must(t, os.WriteFile(name, fmt.Appendf(nil, "content %d", i), 0o600|os.FileMode(i%8)))
			must(t, os.Chmod(name, 0o600|os.FileMode(i%8)))
			must(t, os.Chtimes(name, when, when.Add(time.Duration(i))))
		}
		begin := time.Now()
		must(t, k.Walk(rootFid, 2, "tree"))
		for d := range files / 100 {
			must(t, k.Walk(2, 3, fmt.Sprint(d)))
			for i := range 100 {
				k.do(&wire.Tunlinkat{Dir: 3, Name: fmt.Sprint(100*d + i)})
			}
			k.clunk(3)
			k.do(&wire.Tunlinkat{Dir: 2, Name: fmt.Sprint(d), Flags: 0x200})
		}
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "tree", Flags: 0x200})
		took := time.Since(begin)
		t.Logf("%d files deleted: %v, %.3f ms each", files, took, float64(took.Microseconds())/1000/float64(files))
		begin = time.Now()
		r := versions.Restorer{Store: k.store, Folder: k.tree}
		slice, err := r.Begin("tree", 0, true)
		must(t, err)
		restored := slice.Restored
		for slice.Remaining > 0 {
			slice, err = r.Next(slice.Batch)
			must(t, err)
			restored += slice.Restored
			if len(slice.Refused) > 0 {
				t.Fatal(slice.Refused[0])
			}
		}
		t.Logf("%d files restored: %v", restored, time.Since(begin))
		for i := range files {
			name := k.host("tree", fmt.Sprint(i/100), fmt.Sprint(i))
			got, err := os.ReadFile(name)
			st, statErr := os.Stat(name)
			if err != nil || statErr != nil || string(got) != fmt.Sprintf("content %d", i) || st.Mode() != 0o600|os.FileMode(i%8) ||
				!st.ModTime().Equal(when.Add(time.Duration(i))) {
				t.Fatalf("%d: %q, %v, %v", i, got, st, err)
			}
		}
		if st, err := os.Stat(k.host("tree", "0")); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("the directory: %v, %v", st, err)
		}
		if restored != files {
			t.Errorf("restored %d", restored)
		}
	})
}

// What a restore replaces is a version too, the task's own work included.
func TestARestoreCanBeTakenBack(t *testing.T) {
	k := newKept(t, true)
	k.put("f", "original")
	k.open(2, 1|0o1000, "f")
	k.do(&wire.Twrite{Fid: 2, Data: []byte("the task's")})
	r := versions.Restorer{Store: k.store, Folder: k.tree}
	_, err := r.Begin("f", 0, false)
	must(t, err)
	if got, _ := os.ReadFile(k.host("f")); string(got) != "original" {
		t.Errorf("%q", got)
	}
	k.expect("f", "the task's", "original")
	all, err := k.store.History("f", false)
	must(t, err)
	if _, err = r.Begin("f", all[0].Number, false); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(k.host("f")); !bytes.Equal(got, []byte("the task's")) {
		t.Errorf("%q", got)
	}
	if _, err := r.Begin("f", 12345, false); err != versions.ErrUnknown {
		t.Errorf("an unknown version: %v", err)
	}
}

// What the guard costs a writer of its own files, beside the same without it.
func BenchmarkWrites(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10} {
		for _, guarded := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d KiB guarded %v", size>>10, guarded), func(b *testing.B) {
				var s *share
				if guarded {
					s = newKept(b, true).share
				} else {
					s = newShare(b, false)
				}
				must(b, s.Walk(rootFid, 2))
				_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: "f", Flags: 2, Mode: 0o644})
				must(b, err)
				data := make([]byte, size)
				b.SetBytes(int64(size))
				b.ResetTimer()
				for i := range b.N {
					if _, err := s.Do(&wire.Twrite{Fid: 2, Offset: uint64(i%64) * uint64(size), Data: data}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
