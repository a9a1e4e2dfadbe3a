//go:build linux

package hostfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
	"cloche/share/internal/ninetest"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// What others do to a file while the guest changes it: programs of the host, and a second task on the same folder.

// The file is being kept, which may take as long as a disk takes, and a program of the host saves it once more.
func TestWhatTheHostWritesWhileTheFileIsBeingKeptIsKeptToo(t *testing.T) {
	for what, destroy := range destroying() {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			root, storeDir := filepath.Join(base, "root"), filepath.Join(base, "store")
			must(t, os.Mkdir(root, 0o755))
			must(t, os.Mkdir(storeDir, 0o700))
			var saves atomic.Pointer[os.File]
			k := openKept(t, root, storeDir, "task-1", false, func(o *versions.Options) {
				o.Step = func(step string) error {
					if step == "sync log" {
						if f := saves.Swap(nil); f != nil {
							_, err := f.WriteAt([]byte("saved!!!"), 0)
							return err
						}
					}
					return nil
				}
			})
			k.put("f", "original")
			k.put("g", "other")
			k.open(2, 2, "f")
			f, err := os.OpenFile(k.host("f"), os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			saves.Store(f)
			k.do(destroy)
			k.expect("f", "saved!!!", "original")
		})
	}
}

// Two names that the guest made; then the host takes one away and makes another elsewhere.
func TestALinkThatTheHostMadeInsteadOfTheGuestsIsNotWrittenThrough(t *testing.T) {
	k := newKept(t, true)
	outside := filepath.Join(filepath.Dir(k.root), "outside")
	must(t, k.Walk(rootFid, 2))
	k.do(&wire.Tlcreate{Fid: 2, Name: "f", Flags: 2, Mode: 0o644})
	k.do(&wire.Twrite{Fid: 2, Data: []byte("content")})
	k.do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "g"})
	must(t, os.Link(k.host("f"), outside))
	must(t, os.Remove(k.host("g")))
	k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
	if got, err := os.ReadFile(outside); err != nil || string(got) != "content" {
		t.Errorf("outside: %q, %v", got, err)
	}
	if got, err := os.ReadFile(k.host("f")); err != nil || string(got) != "Xontent" {
		t.Errorf("inside: %q, %v", got, err)
	}
}

// A guest can use up the server's descriptors, down to any number, and then make it separate a file.
func TestWithoutDescriptorsAFileLinkedFromOutsideIsNotWritten(t *testing.T) {
	k := newKept(t, true)
	outside := filepath.Join(filepath.Dir(k.root), "outside")
	must(t, os.WriteFile(outside, []byte("outside"), 0o644))
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	for free := range 6 {
		must(t, os.Link(outside, k.host("f")))
		k.open(2, 2, "f")
		k.open(3, 2, "f")
		var used []int
		release := func() {
			for _, fd := range used {
				unix.Close(fd)
			}
			used = nil
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		}
		defer release()
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(limit.Cur, 8192), Max: limit.Max}))
		for {
			fd, err := unix.FcntlInt(uintptr(syscall.Stdin), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				break
			}
			used = append(used, fd)
		}
		for _, fd := range used[len(used)-free:] {
			unix.Close(fd)
		}
		used = used[:len(used)-free]
		_, _ = k.Do(&wire.Twrite{Fid: 2, Data: []byte("X")}) // refused or not
		release()
		for _, fid := range []uint32{2, 3} {
			_, _ = k.Do(&wire.Twrite{Fid: fid, Data: []byte("Y")})
			k.clunk(fid)
		}
		if got, err := os.ReadFile(outside); err != nil || string(got) != "outside" {
			t.Fatalf("with %d descriptors left, outside became %q, %v", free, got, err)
		}
		if left, _ := filepath.Glob(k.host(".cloche-*")); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
		must(t, os.Remove(k.host("f")))
	}
}

// Copying takes its time, in which a program of the host saves by renaming over the file, as most editors do.
func TestAFileThatTheHostReplacesWhileItIsSeparatedIsNotLost(t *testing.T) {
	k := newKept(t, true)
	outside := filepath.Join(filepath.Dir(k.root), "outside")
	must(t, os.WriteFile(outside, bytes.Repeat([]byte("o"), 48<<20), 0o644))
	must(t, os.Link(outside, k.host("f")))
	k.put("new", "saved by the host")
	k.open(2, 2, "f")
	replaced := make(chan error, 1)
	go func() {
		for {
			entries, err := os.ReadDir(k.root)
			if err != nil {
				replaced <- err
				return
			}
			if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "f" && e.Name() != "new" }) {
				replaced <- os.Rename(k.host("new"), k.host("f"))
				return
			}
		}
	}()
	_, _ = k.Do(&wire.Twrite{Fid: 2, Data: []byte("X")})
	must(t, <-replaced)
	if got, err := os.ReadFile(k.host("f")); err != nil || string(got) != "saved by the host" {
		t.Errorf("the folder has %d bytes, %v", len(got), err)
	}
	if left, _ := filepath.Glob(k.host(".cloche-*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// What is being restored, and what it takes the place of, stands in the folder for a moment, and no other task is to reach it there: it may
// have a name that the task has no right to.
func TestWhatIsBeingRestoredHasNoNameThatATaskSees(t *testing.T) {
	base := t.TempDir()
	root, storeDir := filepath.Join(base, "root"), filepath.Join(base, "store")
	must(t, os.Mkdir(root, 0o755))
	must(t, os.Mkdir(storeDir, 0o700))
	watching, seen := false, map[string]bool{}
	k := openKept(t, root, storeDir, "task-1", false, func(o *versions.Options) {
		o.Step = func(string) error {
			if !watching {
				return nil
			}
			entries, err := os.ReadDir(root)
			for _, e := range entries {
				seen[e.Name()] = true
			}
			return err
		}
	})
	k.put("f", "original")
	k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
	k.put("f", "the host's, later")
	watching = true
	if content, refused := k.restoreFirst("f"); content != "original" || refused {
		t.Fatalf("restored %q, refused %v", content, refused)
	}
	if len(seen) < 2 {
		t.Fatalf("nothing stood beside it: %v", seen)
	}
	for name := range seen {
		if name != "f" && !names.Temporary(name) {
			t.Errorf("%s can be seen", name)
		}
	}
}

// twoTasks serves one folder to two tasks.
func twoTasks(t *testing.T) (one, two *kept) {
	one = newKept(t, true)
	return one, openKept(t, one.root, one.storeDir, "task-2", true, nil)
}

// One task deletes a file, which moves it into the store, while another has it.
func TestAVersionIsNotWrittenThroughWhatAnotherTaskHasOpen(t *testing.T) {
	one, two := twoTasks(t)
	one.put("f", "original")
	two.open(2, 2, "f")
	one.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
	_, err := two.Do(&wire.Twrite{Fid: 2, Data: []byte("X")})
	refused(t, "a write to what is in the store", err, syscall.ESTALE)
	_, err = two.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}})
	refused(t, "a chmod of what is in the store", err, syscall.ESTALE)
	one.expect("f", "original")
	if all, err := one.store.History("f", false); err != nil || len(all) != 1 || all[0].Mode != 0o644 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestAVersionGetsNoNameThroughWhatAnotherTaskHolds(t *testing.T) {
	one, two := twoTasks(t)
	one.put("f", "original")
	must(t, two.Walk(rootFid, 2, "f"))
	one.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
	_, err := two.Do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "g"})
	refused(t, "a link to what is in the store", err, syscall.ENOENT)
}

func TestAVersionIsNotWrittenThroughALinkOfAnotherTasks(t *testing.T) {
	one, two := twoTasks(t)
	one.put("f", "original")
	two.open(2, 2, "f")
	two.do(&wire.Tlink{Dir: rootFid, Fid: 2, Name: "g"})
	one.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
	must(t, two.Walk(rootFid, 3, "g"))
	_, err := two.Do(&wire.Tlopen{Fid: 3, Flags: 2})
	must(t, err)
	two.do(&wire.Twrite{Fid: 3, Data: []byte("X")})
	one.expect("f", "original")
	if got, err := os.ReadFile(one.host("g")); err != nil || string(got) != "Xriginal" {
		t.Errorf("g: %q, %v", got, err)
	}
}

// A directory that the user takes out of the folder: what the guest holds of it is outside from then on.
func TestAFileThatTheHostTookOutOfTheFolderIsNotWritten(t *testing.T) {
	k := newKept(t, true)
	must(t, os.Mkdir(k.host("d"), 0o755))
	k.put("d/f", "original")
	k.open(2, 2, "d", "f")
	away := filepath.Join(filepath.Dir(k.root), "away")
	must(t, os.Rename(k.host("d"), away))
	_, err := k.Do(&wire.Twrite{Fid: 2, Data: []byte("X")})
	refused(t, "a write outside", err, syscall.ESTALE)
	_, err = k.Do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}})
	refused(t, "a chmod outside", err, syscall.ESTALE)
	got, err := os.ReadFile(filepath.Join(away, "f"))
	st, statErr := os.Stat(filepath.Join(away, "f"))
	if err != nil || statErr != nil || string(got) != "original" || st.Mode() != 0o644 {
		t.Errorf("outside: %q, %v, %v", got, st, err)
	}
}

// The host moves a file within the folder, and one whose name looks as if it was removed.
func TestAFileThatTheHostMovedWithinTheFolderIsWritten(t *testing.T) {
	k := newKept(t, true)
	k.put("f", "original")
	k.open(2, 2, "f")
	must(t, os.Rename(k.host("f"), k.host("g")))
	k.do(&wire.Twrite{Fid: 2, Data: []byte("X")})
	k.put("f (deleted)", "original")
	k.open(3, 2, "f (deleted)")
	k.do(&wire.Twrite{Fid: 3, Data: []byte("X")})
	for _, name := range []string{"g", "f (deleted)"} {
		if got, err := os.ReadFile(k.host(name)); err != nil || string(got) != "Xriginal" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// The name is another file's by now, and what the guest holds has its only other name outside.
func TestAReplacedFileIsNotWrittenThroughItsNameOutside(t *testing.T) {
	for what, take := range map[string]func(*kept){
		"replaced": func(k *kept) { k.put("new", "new"); must(k.t, os.Rename(k.host("new"), k.host("f"))) },
		"removed":  func(k *kept) { must(k.t, os.Remove(k.host("f"))) },
	} {
		t.Run(what, func(t *testing.T) {
			k := newKept(t, true)
			outside := filepath.Join(filepath.Dir(k.root), "outside")
			must(t, os.WriteFile(outside, []byte("outside"), 0o644))
			must(t, os.Link(outside, k.host("f")))
			k.open(2, 2, "f")
			take(k)
			_, err := k.Do(&wire.Twrite{Fid: 2, Data: []byte("X")})
			refused(t, "a write outside", err, syscall.ESTALE)
			if got, err := os.ReadFile(outside); err != nil || string(got) != "outside" {
				t.Errorf("outside: %q, %v", got, err)
			}
		})
	}
}

// Two names of one file are open, and one of them is removed: what is written to the other is there.
func TestTheOtherNameOfARemovedFileIsWritten(t *testing.T) {
	both(t, func(t *testing.T, withBroker bool) {
		k := newKept(t, withBroker)
		k.put("f", "original")
		must(t, os.Link(k.host("f"), k.host("g")))
		k.open(2, 2, "f")
		k.open(3, 2, "g")
		k.do(&wire.Tunlinkat{Dir: rootFid, Name: "f"})
		k.do(&wire.Twrite{Fid: 3, Data: []byte("X")})
		k.do(&wire.Twrite{Fid: 2, Data: []byte("Y")})
		if got, err := os.ReadFile(k.host("g")); err != nil || string(got) != "Xriginal" {
			t.Errorf("g: %q, %v", got, err)
		}
		k.expect("f", "original")
	})
}

// growing serves a folder with a file of three blocks, d/f, of which one was overwritten and kept.
func growing(t *testing.T) (k *kept, original string, mark uint64) {
	base := t.TempDir()
	root, storeDir := filepath.Join(base, "root"), filepath.Join(base, "store")
	must(t, os.MkdirAll(filepath.Join(root, "d"), 0o755))
	must(t, os.Mkdir(storeDir, 0o700))
	k = openKept(t, root, storeDir, "task-1", true, func(o *versions.Options) { o.PartsAbove = 4096 })
	original = string(bytes.Repeat([]byte("original"), 3*512))
	k.put("d/f", original)
	k.open(2, 2, "d", "f")
	k.do(&wire.Twrite{Fid: 2, Data: []byte("guest")})
	all, err := k.store.History("d/f", false)
	must(t, err)
	if len(all) != 1 || all[0].Whole {
		t.Skipf("IGNORED: this filesystem shares blocks, so the file is kept whole (%+v)", all)
	}
	st, err := os.Stat(k.host("d/f"))
	must(t, err)
	return k, original, uint64(st.ModTime().UnixNano()) & versions.MarkMask
}

// restoreFirst brings back the oldest version, or tells that it was refused.
func (k *kept) restoreFirst(path string) (content string, refused bool) {
	k.t.Helper()
	all, err := k.store.History(path, false)
	must(k.t, err)
	r := versions.Restorer{Store: k.store, Folder: k.tree}
	slice, err := r.Begin(path, all[len(all)-1].Number, false)
	must(k.t, err)
	got, err := os.ReadFile(k.host(path))
	must(k.t, err)
	return string(got), slice.Restored == 0
}

// The mark in the file's time is seen by the guest, which can give it to another file.
func TestAnotherFileWithTheMarkOfAKeptPartIsNotGivenBack(t *testing.T) {
	k, original, mark := growing(t)
	must(t, k.Walk(rootFid, 3, "d"))
	k.do(&wire.Tunlinkat{Dir: 3, Name: "f"})
	must(t, k.Walk(rootFid, 4, "d"))
	k.do(&wire.Tlcreate{Fid: 4, Name: "f", Flags: 2, Mode: 0o644})
	k.do(&wire.Twrite{Fid: 4, Data: bytes.Repeat([]byte("garbage!"), 3*512)})
	const second = uint64(1e9)
	marked := wire.Time{Sec: second, Nsec: (mark - second*1e9) & versions.MarkMask}
	k.do(&wire.Tsetattr{Fid: 4, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: marked}})
	if got, refused := k.restoreFirst("d/f"); refused || got != original {
		t.Errorf("refused: %v; what came back begins with %q", refused, got[4096:4112])
	}
}

// The host changed the file, then the guest renames its directory, before which versions are made whole.
func TestAPartIsNotMadeWholeWithWhatTheHostWrote(t *testing.T) {
	k, original, _ := growing(t)
	f, err := os.OpenFile(k.host("d/f"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("host"), 8192)
	must(t, err)
	f.Close()
	k.do(&wire.Trenameat{OldDir: rootFid, OldName: "d", NewDir: rootFid, NewName: "e"})
	must(t, os.Rename(k.host("e"), k.host("d")))
	if got, refused := k.restoreFirst("d/f"); !refused && got != original {
		t.Errorf("what came back is not what was: %q", got[8192:8208])
	}
}

// A walk of ".." and a rename beside it: the directory that the walk has come to is the walk's own.
func TestAParentStaysWhatItIsWhenItsChildIsRenamedAway(t *testing.T) {
	k := newKept(t, true)
	must(t, os.Mkdir(k.host("d"), 0o755))
	k.put("d/f", "original")
	root := k.tree.Root()
	defer root.Drop()
	dir, err := root.Walk("d")
	must(t, err)
	child, err := dir.Walk("f")
	must(t, err)
	defer child.Drop()
	dir.Drop()
	parent := child.Parent()
	defer parent.Drop()
	must(t, child.RenameTo(root, "g"))
	if _, err := parent.Attr(); err != nil {
		t.Errorf("the parent is gone: %v", err)
	}
}

// Attributes that are begun and never set, and ones that are read: each takes memory until its fid is clunked.
func TestAttributesThatAGuestBeginsAreBounded(t *testing.T) {
	k := newKept(t, true)
	k.put("f", "content")
	begin := func(fid uint32) error {
		must(t, k.Walk(rootFid, fid, "f"))
		_, err := k.Do(&wire.Txattrcreate{Fid: fid, Name: "user.x", Size: 64 << 10})
		return err
	}
	held := uint32(0)
	for ; held < 4096; held++ {
		if err := begin(10 + held); err != nil {
			refused(t, "one more", err, syscall.ENOMEM)
			break
		}
	}
	if held < 64 || held == 4096 {
		t.Fatalf("%d attributes of 64 KiB were begun", held)
	}
	k.clunk(10, 10+held)
	must(t, begin(10))
	must(t, k.Attach(rootFid)) // gives all back
	must(t, begin(10))
}

// coarse makes directories of a folder on a filesystem whose times are as coarse as the kernel's tick, where that can be had, and of a
// store on this one.
func coarse(t *testing.T) (root, store string) {
	base := t.TempDir()
	root, store = filepath.Join(base, "root"), filepath.Join(base, "store")
	must(t, os.Mkdir(root, 0o755))
	must(t, os.Mkdir(store, 0o700))
	// Since Linux 6.13 the usual filesystems' times are finer once somebody has looked at them.
	if err := unix.Mount("ramfs", root, "ramfs", 0, ""); err != nil {
		t.Logf("IGNORED: a filesystem with coarse times cannot be mounted (%v); tested on this one", err)
	} else {
		t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	}
	return root, store
}

// The guest gives its file times again and again, so that the host's write leaves the very times that were there: the kernel's own
// are as coarse as its tick.
func TestAHostEditIsKeptHoweverTheGuestSetsTimes(t *testing.T) {
	for what, touch := range map[string]func(*kept){
		"now": func(k *kept) { k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMtime}}) },
		"the time of the last change": func(k *kept) {
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o644}})
			got, err := ninetest.Ask[*wire.Rgetattr](k.Client, &wire.Tgetattr{Fid: 2})
			must(k.t, err)
			k.do(&wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: got.Attr.Ctime}})
		},
	} {
		t.Run(what, func(t *testing.T) {
			root, storeDir := coarse(t)
			k := openKept(t, root, storeDir, "task-1", true, nil)
			must(t, k.Walk(rootFid, 2))
			k.do(&wire.Tlcreate{Fid: 2, Name: "f", Flags: 2, Mode: 0o644})
			f, err := os.OpenFile(k.host("f"), os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			for i := range 50 {
				k.do(&wire.Twrite{Fid: 2, Data: fmt.Appendf(nil, "guest%03d", i)})
				touch(k)
				text := fmt.Sprintf("host %03d", i)
				_, err = f.WriteAt([]byte(text), 0)
				must(t, err)
				touch(k)
				k.do(&wire.Twrite{Fid: 2, Data: []byte("the next")})
				if !slices.Contains(k.contents("f"), text) {
					t.Fatalf("%q is lost", text)
				}
			}
		})
	}
}
