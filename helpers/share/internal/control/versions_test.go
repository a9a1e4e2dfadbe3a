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
		})
	}
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
