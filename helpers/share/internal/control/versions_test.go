//go:build linux

package control

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/wire"
)

func inner(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }

func result(t *testing.T, answer map[string]any) map[string]any {
	t.Helper()
	if code(answer) != "" {
		t.Fatal(answer)
	}
	return answer["result"].(map[string]any)
}

// What a guest deletes in rw is listed and restored, through the processes as they really run.
func TestWhatAGuestDestroysIsListedAndRestored(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			dir := filepath.Join(f.root, "dir")
			must(t, os.Mkdir(dir, 0o777))
			must(t, os.Chmod(dir, 0o777))
			for i := range 20 {
				name := filepath.Join(dir, fmt.Sprint(i))
				must(t, os.WriteFile(name, fmt.Appendf(nil, "content %d", i), 0o640))
				if as != nil {
					must(t, os.Chown(name, int(as.Uid), int(as.Gid)))
				}
			}
			p := start(t, as)
			answer := result(t, p.call("serve", f.keeping(t, as)))
			confined := map[string]bool{}
			for _, m := range answer["confinement"].([]any) {
				m := m.(map[string]any)
				confined[m["name"].(string)] = m["active"].(bool)
				t.Log(m["name"], m["active"], m["reason"])
			}
			for _, name := range []string{"broker-landlock", "broker-seccomp"} {
				if _, told := confined[name]; !told {
					t.Errorf("%s is not told", name)
				}
			}
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)); err != nil || confined["broker-seccomp"] && !strings.Contains(string(status), "Seccomp:\t2") {
				t.Errorf("the front has no filter: %v", err)
			}
			c := f.mount(t)
			defer c.Close()
			p.notified("attached")
			must(t, c.Walk(1, 2, "dir"))
			for i := range 19 {
				_, err := c.Do(&wire.Tunlinkat{Dir: 2, Name: fmt.Sprint(i)})
				must(t, err)
			}
			must(t, c.Walk(2, 3, "19"))
			_, err := c.Do(&wire.Tlopen{Fid: 3, Flags: 1 | 0o1000})
			must(t, err)
			_, err = c.Do(&wire.Twrite{Fid: 3, Data: []byte("the guest's")})
			must(t, err)

			moved, err := filepath.Glob(filepath.Join(f.base, "store", "versions", "task-1", "d*", "*"))
			if err != nil || len(moved) != 19 {
				t.Errorf("the broker moved %d of 19 files", len(moved))
			}
			page := result(t, p.call("history", map[string]any{"path": inner("dir"), "below": true, "limit": 15}))
			first := page["versions"].([]any)
			rest := result(t, p.call("history", map[string]any{"path": inner("dir"), "below": true, "limit": 15, "after": page["next"]}))
			if len(first) != 15 || len(rest["versions"].([]any)) != 5 || rest["next"] != nil {
				t.Errorf("history: %d and %v", len(first), rest)
			}
			newest := first[0].(map[string]any)
			if newest["path"] != inner("dir/19") || newest["reason"] != "overwritten" || newest["sizeBytes"] != float64(10) || newest["writer"] != "task-1" {
				t.Errorf("the newest: %v", newest)
			}
			if stats := result(t, p.call("stats", map[string]any{})); stats["storeBytes"] != float64(20*4096) {
				t.Errorf("stats: %v", stats)
			}
			restored := result(t, p.call("restore", map[string]any{"path": inner("dir"), "below": true}))
			if restored["restored"] != float64(20) || restored["remaining"] != float64(0) || len(restored["refused"].([]any)) != 0 {
				t.Errorf("restore: %v", restored)
			}
			for i := range 20 {
				if got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i))); err != nil || string(got) != fmt.Sprintf("content %d", i) {
					t.Errorf("%d: %q, %v", i, got, err)
				}
			}
			if answer := p.call("restore", map[string]any{"path": inner("dir/1"), "number": 999999, "below": false}); code(answer) != "share.version-unknown" {
				t.Errorf("an unknown version: %v", answer)
			}
			// And the processes end as ever.
			must(t, p.in.Close())
			if err := <-p.exited; err != nil {
				t.Errorf("the front ended with %v", err)
			}
			if _, err := os.Lstat(f.socket); !os.IsNotExist(err) {
				t.Error("the socket's name is left")
			}
		})
	}
}

// notified reads one notification.
func (p *program) notified(method string) map[string]any {
	p.t.Helper()
	m := p.line()
	if m["method"] != method {
		p.t.Fatalf("%v, want %s", m, method)
	}
	return m
}

// Without room a write waits for the keeper's answer.
func TestWithoutRoomAWriteWaitsForTheKeeper(t *testing.T) {
	for answer, want := range map[string]error{"allow": nil, "refuse": syscall.ENOSPC} {
		t.Run(answer, func(t *testing.T) {
			f := newFixture(t, "root")
			p := start(t, nil)
			params := f.serve("rw")
			params["versionLimitBytes"] = 3000
			result(t, p.call("serve", params))
			c := f.mount(t)
			defer c.Close()
			p.notified("attached")
			done := make(chan error, 1)
			go func() {
				_, err := c.Do(&wire.Tunlinkat{Dir: 1, Name: "file"})
				done <- err
			}()
			notice := p.notified("room")["params"].(map[string]any)
			if notice["neededBytes"] != float64(4096) || notice["limitBytes"] != float64(3000) || notice["path"] != inner("file") {
				t.Errorf("%v", notice)
			}
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			result(t, p.call("room", map[string]any{"answer": answer}))
			if err := <-done; err != want {
				t.Errorf("%v, want %v", err, want)
			}
			if _, err := os.Stat(filepath.Join(f.root, "file")); (err == nil) != (want != nil) {
				t.Errorf("the file: %v", err)
			}
			if want == nil {
				return
			}
			told := p.until("roomRefused")
			if told["what"] != "versions" || told["why"] != "refused" || told["path"] != inner("file") || told["count"] != float64(1) {
				t.Errorf("%v", told)
			}
			// The no stands: more writes fail at once, and are told together.
			for range 50 {
				if _, err := c.Do(&wire.Tunlinkat{Dir: 1, Name: "file"}); err != want {
					t.Errorf("%v, want %v", err, want)
				}
			}
			if told = p.until("roomRefused"); told["count"].(float64) < 2 {
				t.Errorf("%v", told)
			}
		})
	}
}

// until reads notifications up to one, and gives its params. It may have come before the answer to the last call.
func (p *program) until(method string) map[string]any {
	p.t.Helper()
	for {
		var m map[string]any
		if len(p.beside) > 0 {
			m, p.beside = p.beside[0], p.beside[1:]
		} else {
			m = p.line()
		}
		if m["method"] == method {
			return m["params"].(map[string]any)
		}
	}
}

// L06: a layer on a disk that is nearly full.
func TestWithoutRoomForTheLayerTheGuestGetsENOSPC_TheKeeperTheReason_AndADiscardMakesRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("IGNORED: a small filesystem needs root")
	}
	f := newFixture(t, "root")
	params := f.serve("review")
	if err := syscall.Mount("tmpfs", params["layer"].(string), "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Skipf("IGNORED: a small filesystem cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(params["layer"].(string), syscall.MNT_DETACH) })
	p := start(t, nil)
	p.result("serve", params)
	c := f.mount(t)
	defer c.Close()
	write(t, c, 10, "kept", "kept")
	must(t, c.Walk(1, 11))
	_, err := c.Do(&wire.Tlcreate{Fid: 11, Name: "big", Flags: 1, Mode: 0o644})
	must(t, err)
	piece := make([]byte, 64<<10)
	for at := 0; ; at += len(piece) {
		if at > 4<<20 {
			t.Fatal("a disk of 4 MiB took more")
		}
		if _, err = c.Do(&wire.Twrite{Fid: 11, Offset: uint64(at), Data: piece}); err != nil {
			break
		}
	}
	if err != syscall.ENOSPC {
		t.Errorf("%v", err)
	}
	told := p.until("roomRefused")
	if told["what"] != "changes" || told["why"] != "disk" || told["path"] != inner("big") {
		t.Errorf("%v", told)
	}
	// Names alone are refused as well: they would go into the log.
	for i := range 20_000 {
		if _, err = c.Do(&wire.Tsymlink{Fid: 1, Name: fmt.Sprint("link", i), Target: "x"}); err != nil {
			break
		}
	}
	if err != syscall.ENOSPC {
		t.Errorf("links without end: %v", err)
	}
	var st syscall.Statfs_t
	must(t, syscall.Statfs(params["layer"].(string), &st))
	if left := int64(st.Bavail) * st.Bsize; left < 150<<10 {
		t.Errorf("%d bytes are left of the reserve of 200 KiB", left)
	}
	if got := read(t, c, 12, "kept"); got != "kept" {
		t.Errorf("control: %q", got)
	}
	list := p.result("changes", map[string]any{"limit": 10})
	for _, each := range list["changes"].([]any) {
		if one := each.(map[string]any); decoded(t, one["path"]) == "big" {
			p.result("discard", map[string]any{"what": map[string]any{"changes": []any{map[string]any{"id": one["id"], "token": one["token"]}}}})
		}
	}
	_, err = c.Do(&wire.Tclunk{Fid: 11}) // what is open of it goes on until then
	must(t, err)
	write(t, c, 13, "after", "room again")
}

// F13: a folder that the guest writes directly, on a disk that it fills.
func TestInRwTheHostKeepsAReserveOfTheFoldersDisk_AndTheKeeperIsTold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("IGNORED: a small filesystem needs root")
	}
	f := newFixture(t, "root")
	if err := syscall.Mount("tmpfs", f.root, "tmpfs", 0, "size=4m,mode=0777"); err != nil {
		t.Skipf("IGNORED: a small filesystem cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(f.root, syscall.MNT_DETACH) })
	must(t, os.WriteFile(filepath.Join(f.root, "theirs"), []byte("theirs"), 0o666))
	p := start(t, nil)
	p.result("serve", f.serve("rw"))
	c := f.mount(t)
	defer c.Close()
	must(t, c.Walk(1, 11))
	_, err := c.Do(&wire.Tlcreate{Fid: 11, Name: "big", Flags: 1, Mode: 0o644})
	must(t, err)
	piece := make([]byte, 64<<10)
	for at := 0; ; at += len(piece) {
		if at > 4<<20 {
			t.Fatal("a disk of 4 MiB took more")
		}
		if _, err = c.Do(&wire.Twrite{Fid: 11, Offset: uint64(at), Data: piece}); err != nil {
			break
		}
	}
	if err != syscall.ENOSPC {
		t.Errorf("%v", err)
	}
	told := p.until("roomRefused")
	if told["what"] != "changes" || told["why"] != "disk" || told["path"] != inner("big") {
		t.Errorf("%v", told)
	}
	// Small files go where a piece of the large one did not.
	err = nil
	for i := 0; i < 100 && err == nil; i++ {
		fid := uint32(100 + i)
		must(t, c.Walk(1, fid))
		if _, err = c.Do(&wire.Tlcreate{Fid: fid, Name: fmt.Sprint("small", i), Flags: 1, Mode: 0o644}); err == nil {
			_, err = c.Do(&wire.Twrite{Fid: fid, Data: piece[:4096]})
		}
	}
	if err != syscall.ENOSPC {
		t.Errorf("small files without end: %v", err)
	}
	var st syscall.Statfs_t
	must(t, syscall.Statfs(f.root, &st))
	if left := int64(st.Bavail) * st.Bsize; left < 150<<10 {
		t.Errorf("%d bytes are left of the reserve of 200 KiB", left)
	}
	if got := read(t, c, 12, "theirs"); got != "theirs" {
		t.Errorf("control: %q", got)
	}
	_, err = c.Do(&wire.Twrite{Fid: 11, Data: []byte("over what is there")})
	must(t, err)
	_, err = c.Do(&wire.Tclunk{Fid: 11})
	must(t, err)
	_, err = c.Do(&wire.Tunlinkat{Dir: 1, Name: "big"})
	must(t, err)
	write(t, c, 13, "after", "room again")
}

func TestADamagedStoreIsNamedAndLeftAlone(t *testing.T) {
	f := newFixture(t, "root")
	params := f.serve("rw")
	must(t, os.MkdirAll(filepath.Join(f.base, "store", "versions"), 0o700))
	log := filepath.Join(f.base, "store", "versions", "task-1.log")
	damaged := []byte("00000000 {}\n00000000 {}\n00000000 {}\nzzz")
	must(t, os.WriteFile(log, damaged, 0o600))
	p := start(t, nil)
	answer := p.call("serve", params)
	if code(answer) != "share.store" {
		t.Errorf("%v", answer)
	}
	if got, err := os.ReadFile(log); err != nil || string(got) != string(damaged) {
		t.Errorf("the log was changed: %q, %v", got, err)
	}
}
