//go:build linux

package control

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// program is a running cloche-share.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan map[string]any
	exited chan error
	next   int

	mu     sync.Mutex
	log    bytes.Buffer
	beside []map[string]any // notifications that came before the last call's answer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *program) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs the program, as another user where one is given.
func start(t *testing.T, as *syscall.Credential) *program {
	t.Helper()
	p := &program{t: t, lines: make(chan map[string]any, 100), exited: make(chan error, 1)}
	exe, err := os.Executable()
	must(t, err)
	p.cmd = &exec.Cmd{Path: exe, Args: []string{"cloche-share"}, Stderr: p}
	if as != nil {
		p.cmd.Path = filepath.Join(worldDir(t), "program") // the test binary's own folder is closed to others
		data, err := os.ReadFile(exe)
		must(t, err)
		must(t, os.WriteFile(p.cmd.Path, data, 0o755))
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var m map[string]any
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				p.lines <- m
			}
		}
		close(p.lines)
		p.exited <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.in.Close()
		_ = p.cmd.Process.Kill()
		if t.Failed() {
			t.Log(p.logged())
		}
	})
	return p
}

// worldDir is a temporary folder that other users can enter.
func worldDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "cloche-share-test-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *program) line() map[string]any {
	p.t.Helper()
	select {
	case m, ok := <-p.lines:
		if !ok {
			p.t.Fatal("the program ended: ", p.logged())
		}
		return m
	case <-time.After(5 * time.Second):
		p.t.Fatal("no answer within 5 s: ", p.logged())
	}
	return nil
}

func (p *program) send(method string, params any) {
	p.t.Helper()
	p.next++
	request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": p.next, "method": method, "params": params})
	must(p.t, err)
	_, err = p.in.Write(append(request, '\n'))
	must(p.t, err)
}

func (p *program) call(method string, params any) map[string]any {
	p.t.Helper()
	p.send(method, params)
	p.beside = nil
	for {
		answer := p.line()
		if answer["id"] == float64(p.next) {
			return answer
		}
		if answer["id"] != nil {
			p.t.Fatalf("%s was answered by %v", method, answer)
		}
		p.beside = append(p.beside, answer)
	}
}

// code gives the error code of an answer; empty when it is a result.
func code(answer map[string]any) string {
	e, ok := answer["error"].(map[string]any)
	if !ok {
		return ""
	}
	return e["data"].(map[string]any)["code"].(string)
}

// probed waits for what the probe tells, which travels beside the answer.
func (p *program) probed() map[string]int {
	p.t.Helper()
	for range 500 {
		if _, told, found := strings.Cut(p.logged(), probeMark); found {
			if line, _, whole := strings.Cut(told, "\n"); whole {
				results := map[string]int{}
				must(p.t, json.Unmarshal([]byte(line), &results))
				return results
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.t.Fatal("the probe told nothing")
	return nil
}

type fixture struct{ base, root, socket string }

func newFixture(t *testing.T, name string) fixture {
	base := worldDir(t)
	f := fixture{base: base, root: filepath.Join(base, name), socket: filepath.Join(base, "s")}
	must(t, os.Mkdir(f.root, 0o777))
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o666))
	must(t, os.WriteFile(filepath.Join(f.root, "file"), []byte("content"), 0o666))
	must(t, os.Symlink("../canary", filepath.Join(f.root, "link")))
	must(t, os.Chmod(base, 0o777))
	must(t, os.Chmod(f.root, 0o777))
	must(t, os.Chmod(filepath.Join(f.root, "file"), 0o666))
	return f
}

func (f fixture) serve(mode string) map[string]any {
	params := map[string]any{
		"root": base64.StdEncoding.EncodeToString([]byte(f.root)), "mode": mode, "listen": f.socket,
		"owner": map[string]int{"uid": 1000, "gid": 1000}, "hideSecrets": false, "localFolders": false,
	}
	if mode != "ro" {
		params["writer"], params["keepDays"] = "task-1", 30
		for _, what := range []string{"layer", "store"} {
			path := filepath.Join(f.base, what)
			_ = os.Mkdir(path, 0o700) // serve says when it is not there
			params[what] = path
		}
	}
	return params
}

// keeping is a serve of rw by another user.
func (f fixture) keeping(t *testing.T, as *syscall.Credential) map[string]any {
	t.Helper()
	params := f.serve("rw")
	if as != nil {
		for _, name := range []string{"layer", "store"} {
			must(t, os.Chown(filepath.Join(f.base, name), int(as.Uid), int(as.Gid)))
		}
	}
	return params
}

func (f fixture) mount(t *testing.T) *ninetest.Client {
	t.Helper()
	conn, err := net.Dial("unix", f.socket)
	must(t, err)
	c := ninetest.New(conn)
	must(t, c.Attach(1))
	return c
}

// serving finds the front's child.
func (p *program) serving() int {
	p.t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.cmd.Process.Pid, p.cmd.Process.Pid))
	must(p.t, err)
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		p.t.Fatal("no serving process")
	}
	return pid
}

func gone(pid int) bool {
	for range 200 {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func users(t *testing.T) map[string]*syscall.Credential {
	all := map[string]*syscall.Credential{"this user": nil}
	if os.Geteuid() == 0 {
		all["another user"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	} else {
		t.Log("IGNORED: running as another user needs root")
	}
	return all
}

func TestTheServingProcessIsConfined(t *testing.T) {
	for who, as := range users(t) {
		for _, mode := range []string{"rw", "ro"} {
			t.Run(who+" "+mode, func(t *testing.T) {
				f := newFixture(t, "root")
				params := f.serve(mode)
				if mode == "rw" {
					params = f.keeping(t, as)
				}
				p := start(t, as)
				answer := p.call("serve", params)
				if code(answer) != "" {
					t.Fatal(answer)
				}
				claimed := map[string]bool{}
				for _, m := range answer["result"].(map[string]any)["confinement"].([]any) {
					m := m.(map[string]any)
					claimed[m["name"].(string)] = m["active"].(bool)
					t.Log(m["name"], m["active"], m["reason"])
				}
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.serving()))
				must(t, err)
				for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
					if !strings.Contains(string(status), want) {
						t.Errorf("the serving process has no %q", want)
					}
				}
				caps := "0000000000000000"
				if as == nil && os.Geteuid() == 0 {
					caps = "000000000000000a" // DAC_OVERRIDE, FOWNER
				}
				for _, set := range []string{"CapPrm", "CapEff"} {
					if !strings.Contains(string(status), set+":\t"+caps) {
						t.Errorf("%s is not %s:\n%s", set, caps, status)
					}
				}
				results := p.probed()
				for name, errno := range results {
					free := strings.HasPrefix(name, "control") || mode == "rw" && strings.HasSuffix(name, "inside")
					// What Landlock does not see: only the mount namespace stands against it.
					pathOnly := !claimed["mount-namespace"] && (name == "find the mount writable inside" || name == "stat the canary" || name == "chmod the canary" || name == "touch the canary" ||
						strings.HasPrefix(name, "stat above") || strings.HasPrefix(name, "chmod above"))
					switch {
					case free && errno != 0:
						t.Errorf("%s: %v", name, unix.Errno(errno))
					case pathOnly && errno == 0:
						t.Logf("IGNORED: without a mount namespace: %s", name)
					case !free && errno == 0:
						t.Errorf("%s worked", name)
					}
				}
				t.Log(results)
				got, err := os.ReadFile(filepath.Join(f.base, "canary"))
				if err != nil || string(got) != "canary" {
					t.Errorf("the canary: %q, %v", got, err)
				}
				// And under all that, it serves.
				c := f.mount(t)
				defer c.Close()
				must(t, c.Walk(1, 2, "file"))
				_, err = c.Do(&wire.Tlopen{Fid: 2, Flags: map[string]uint32{"rw": 2, "ro": 0}[mode]})
				must(t, err)
				r, err := ninetest.Ask[*wire.Rread](c, &wire.Tread{Fid: 2, Count: 100})
				if err != nil || string(r.Data) != "content" {
					t.Errorf("%v, %v", r, err)
				}
				for _, m := range everyChange() {
					_, err := c.Do(m)
					if mode == "rw" && err != nil {
						t.Errorf("%T under confinement: %v", m, err)
					}
					if mode == "ro" && err == nil {
						t.Errorf("%T worked on a read-only share", m)
					}
				}
			})
		}
	}
}

// everyChange needs each system call that rw makes, so that the filter's list is complete. Fid 2 is open for both.
func everyChange() []wire.Message {
	return []wire.Message{
		&wire.Twrite{Fid: 2, Data: []byte("new")}, &wire.Tsetattr{Fid: 2, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 2}},
		&wire.Tmkdir{Dir: 1, Name: "d", Mode: 0o755}, &wire.Tmknod{Fid: 1, Name: "n", Mode: 0o100644}, &wire.Tsymlink{Fid: 1, Name: "l", Target: "x"},
		&wire.Tlink{Dir: 1, Fid: 2, Name: "hard"}, &wire.Trenameat{OldDir: 1, OldName: "n", NewDir: 1, NewName: "m"},
		&wire.Tunlinkat{Dir: 1, Name: "m"}, &wire.Tunlinkat{Dir: 1, Name: "d", Flags: 0x200},
	}
}

func TestServingNeedsNoCallThatTheFilterForbids(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			p := start(t, as)
			if answer := p.call("serve", f.keeping(t, as)); code(answer) != "" {
				t.Fatal(answer)
			}
			c := f.mount(t)
			defer c.Close()
			must(t, c.Walk(1, 3))
			_, err := c.Do(&wire.Tlcreate{Fid: 3, Name: "made", Flags: 2, Mode: 0o644})
			must(t, err)
			must(t, c.Walk(1, 4, "made"))
			must(t, c.Walk(1, 5))
			must(t, c.Walk(1, 6, "link"))
			for _, m := range []wire.Message{
				&wire.Tsetattr{Fid: 4, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}}, &wire.Tsetattr{Fid: 4, Attr: wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo}},
				&wire.Tsetattr{Fid: 4, Attr: wire.SetAttr{Valid: wire.SetSize, Size: 9}}, &wire.Tfsync{Fid: 3}, &wire.Tfsync{Fid: 3, DataOnly: 1},
				&wire.Tlock{Fid: 3, Kind: wire.LockWrite}, &wire.Tgetlock{Fid: 3}, &wire.Tlock{Fid: 3, Kind: wire.LockUnlock}, &wire.Tstatfs{Fid: 1},
				&wire.Tlopen{Fid: 5}, &wire.Treaddir{Fid: 5, Count: 8192}, &wire.Treaddir{Fid: 5, Offset: 1 << 40, Count: 8192}, &wire.Treadlink{Fid: 6},
			} {
				if _, err := c.Do(m); err != nil {
					t.Errorf("%T: %v", m, err)
				}
			}
			if _, err := c.Do(&wire.Txattrwalk{Fid: 4, NewFid: 8}); err != nil && err != syscall.EOPNOTSUPP {
				t.Errorf("xattr list: %v", err)
			}
			must(t, c.Walk(1, 9, "made"))
			_, err = c.Do(&wire.Txattrcreate{Fid: 9, Name: "user.a", Size: 1})
			must(t, err)
			_, err = c.Do(&wire.Twrite{Fid: 9, Data: []byte("v")})
			must(t, err)
			if _, err = c.Do(&wire.Tclunk{Fid: 9}); err != nil && err != syscall.EOPNOTSUPP {
				t.Errorf("set xattr: %v", err)
			}
			// Many at once make the runtime start threads.
			var group sync.WaitGroup
			for range 32 {
				group.Add(1)
				go func() {
					defer group.Done()
					for range 50 {
						if _, err := c.Do(&wire.Tfsync{Fid: 3}); err != nil {
							t.Error(err)
						}
					}
				}()
			}
			group.Wait()
		})
	}
}

func TestEndOfStdinEndsBothProcessesAtOnce(t *testing.T) {
	f := newFixture(t, "root")
	p := start(t, nil)
	if answer := p.call("serve", f.serve("rw")); code(answer) != "" {
		t.Fatal(answer)
	}
	c := f.mount(t)
	defer c.Close()
	serving := p.serving()
	begin := time.Now()
	p.in.Close()
	select {
	case err := <-p.exited:
		if err != nil {
			t.Errorf("status: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the front lives on")
	}
	if !gone(serving) {
		t.Error("the serving process lives on")
	}
	t.Logf("took %v", time.Since(begin))
	if _, err := os.Lstat(f.socket); !os.IsNotExist(err) {
		t.Error("the socket's name is left")
	}
}

func TestEitherProcessDiesWithTheOther(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			p := start(t, as)
			if answer := p.call("serve", f.keeping(t, as)); code(answer) != "" {
				t.Fatal(answer)
			}
			serving := p.serving()
			must(t, p.cmd.Process.Kill())
			if !gone(serving) {
				t.Error("the serving process outlives a killed front")
			}
			// One that is stopped sees no end of a stream: only the signal of its parent's death ends it.
			uid := os.Geteuid()
			if as != nil {
				uid = int(as.Uid)
			}
			f = newFixture(t, "root")
			p = start(t, as)
			if answer := p.call("serve", f.kept(t, "rw", uid)); code(answer) != "" {
				t.Fatal(answer)
			}
			serving = p.serving()
			must(t, syscall.Kill(serving, syscall.SIGSTOP))
			must(t, p.cmd.Process.Kill())
			if !gone(serving) {
				t.Error("a stopped serving process outlives a killed front")
				_ = syscall.Kill(serving, syscall.SIGKILL)
			}
			f = newFixture(t, "root")
			p = start(t, as)
			if answer := p.call("serve", f.keeping(t, as)); code(answer) != "" {
				t.Fatal(answer)
			}
			must(t, syscall.Kill(p.serving(), syscall.SIGKILL))
			select {
			case err := <-p.exited:
				if err == nil {
					t.Error("the front ends well although the serving process was killed")
				}
			case <-time.After(5 * time.Second):
				t.Error("the front outlives the serving process")
			}
		})
	}
}

func TestServeSaysWhyNot(t *testing.T) {
	f := newFixture(t, "root")
	must(t, os.Symlink(f.root, filepath.Join(f.base, "link")))
	other := newFixture(t, "root")
	p := start(t, nil)
	identity := p.call("identify", map[string]any{"root": other.serve("rw")["root"]})["result"].(map[string]any)["identity"]
	with := func(changes map[string]any) map[string]any {
		m := f.serve("rw")
		for k, v := range changes {
			if v == nil {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
		return m
	}
	at := func(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }
	cases := []struct {
		what, code string
		params     map[string]any
	}{
		{"missing folder", "share.not-found", with(map[string]any{"root": at(f.base + "/nothing")})},
		{"a file", "share.not-a-folder", with(map[string]any{"root": at(f.base + "/canary")})},
		{"below a file", "share.not-a-folder", with(map[string]any{"root": at(f.base + "/canary/x")})},
		{"a link to the folder", "share.not-a-folder", with(map[string]any{"root": at(f.base + "/link")})},
		{"another folder's identity", "share.identity", with(map[string]any{"identity": identity})},
		{"a socket path that exists", "share.listen", with(map[string]any{"listen": f.base + "/canary"})},
		{"a socket path too long", "share.listen", with(map[string]any{"listen": f.base + "/" + strings.Repeat("x", 200)})},
		{"no mode", "protocol.params", with(map[string]any{"mode": nil})},
		{"an unknown mode", "protocol.params", with(map[string]any{"mode": "write"})},
		{"an unknown field", "protocol.params", with(map[string]any{"extra": 1})},
		{"no owner", "protocol.params", with(map[string]any{"owner": nil})},
		{"an owner out of bounds", "protocol.params", with(map[string]any{"owner": map[string]int{"uid": 70000, "gid": 0}})},
		{"a relative root", "protocol.params", with(map[string]any{"root": at("relative")})},
		{"a root with NUL", "protocol.params", with(map[string]any{"root": at("/a\x00b")})},
		{"a root that is not base64", "protocol.params", with(map[string]any{"root": "/plain"})},
	}
	for _, c := range cases {
		answer := p.call("serve", c.params)
		if code(answer) != c.code {
			t.Errorf("%s: %v, want %s", c.what, answer, c.code)
		}
	}
	for what, want := range map[string]string{"stats": "protocol.order", "nonsense": "protocol.params"} {
		if answer := p.call(what, map[string]any{}); code(answer) != want {
			t.Errorf("%s: %v", what, answer)
		}
	}
	if answer := p.call("hello", map[string]any{"protocol": protocol + 1, "client": "test"}); code(answer) != "protocol.version" {
		t.Errorf("hello of a newer client: %v", answer)
	}
	// After all that it still serves; then it is taken.
	own := p.call("identify", map[string]any{"root": f.serve("rw")["root"]})["result"].(map[string]any)["identity"]
	if answer := p.call("serve", with(map[string]any{"identity": own})); code(answer) != "" {
		t.Fatalf("control: %v", answer)
	}
	for _, method := range []string{"serve", "identify"} {
		if answer := p.call(method, f.serve("rw")); code(answer) != "protocol.order" {
			t.Errorf("%s after serve: %v", method, answer)
		}
	}
	if st, err := os.Lstat(f.socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st, err)
	}
}

func TestOddFolderNamesAreServed(t *testing.T) {
	for _, name := range []string{"new\nline", "\xff\xfe", "-rf *", strings.Repeat("n", 255)} {
		f := newFixture(t, name)
		p := start(t, nil)
		if answer := p.call("serve", f.serve("ro")); code(answer) != "" {
			t.Errorf("%q: %v", name, answer)
			continue
		}
		f.mount(t).Close()
	}
}

func TestAConnectionMayFollowAnother(t *testing.T) {
	f := newFixture(t, "root")
	p := start(t, nil)
	// All in one write: what follows serve must reach the serving process.
	serve, _ := json.Marshal(f.serve("rw"))
	_, err := fmt.Fprintf(p.in, `{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":%d,"client":"t"}}`+"\n"+
		`{"jsonrpc":"2.0","id":2,"method":"serve","params":%s}`+"\n"+`{"jsonrpc":"2.0","id":3,"method":"stats","params":{}}`+"\n", protocol, serve)
	must(t, err)
	seen := map[float64]bool{}
	for range 3 {
		answer := p.line()
		if code(answer) != "" {
			t.Fatal(answer)
		}
		seen[answer["id"].(float64)] = true
	}
	if len(seen) != 3 {
		t.Fatalf("answered %v", seen)
	}
	for round := range 3 {
		c := f.mount(t)
		if m := p.line(); m["method"] != "attached" {
			t.Fatalf("round %d: %v", round, m)
		}
		c.Close()
		if m := p.line(); m["method"] != "detached" {
			t.Fatalf("round %d: %v", round, m)
		}
	}
	p.next = 3
	stats := p.call("stats", map[string]any{})["result"].(map[string]any)
	if stats["connections"] != float64(3) || stats["fids"] != float64(0) {
		t.Errorf("stats: %v", stats)
	}
}

// ends says whether the other side closes the connection, within a bound.
func ends(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// dial gives n connections; none may have to wait for one before it to be taken.
func (f fixture) dial(t *testing.T, n int) []net.Conn {
	t.Helper()
	all := make([]net.Conn, n)
	for i := range all {
		var err error
		// this process's connect does not block: it fails where a vsock device's would wait
		if all[i], err = net.Dial("unix", f.socket); err != nil {
			t.Fatalf("connection %d of %d: %v", i, n, err)
		}
		t.Cleanup(func() { all[i].Close() })
	}
	return all
}

func TestHoweverManyConnectionsComeBesideTheOneThatIsServedNoneWaitsButTheNewest(t *testing.T) {
	f := newFixture(t, "root")
	p := start(t, nil)
	if answer := p.call("serve", f.serve("rw")); code(answer) != "" {
		t.Fatal(answer)
	}
	c := f.mount(t)
	if m := p.line(); m["method"] != "attached" {
		t.Fatal(m)
	}
	surplus := f.dial(t, 2000)
	for i, conn := range surplus[:len(surplus)-1] {
		if !ends(conn) {
			t.Fatalf("surplus connection %d of %d is kept", i, len(surplus))
		}
	}
	must(t, c.Walk(1, 2, "file")) // the one that is served has seen nothing of it
	stats := p.call("stats", map[string]any{})["result"].(map[string]any)
	if stats["connections"] != float64(1) {
		t.Errorf("stats: %v", stats)
	}
	// the control: the newest, which may be a remount's, is served when the one before it has ended
	c.Close()
	if m := p.line(); m["method"] != "detached" {
		t.Fatal(m)
	}
	newest := ninetest.New(surplus[len(surplus)-1])
	must(t, newest.Attach(1))
	must(t, newest.Walk(1, 2, "file"))
}

func TestWithoutADescriptorLeftConnectionsAreStillClosedAtOnceAndTheFolderIsServed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("IGNORED: another process's descriptors are counted by root alone")
	}
	f := newFixture(t, "root")
	p := start(t, nil)
	if answer := p.call("serve", f.serve("ro")); code(answer) != "" {
		t.Fatal(answer)
	}
	c := f.mount(t)
	if m := p.line(); m["method"] != "attached" {
		t.Fatal(m)
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.serving()))
	must(t, err)
	highest := 0
	for _, one := range open {
		number, err := strconv.Atoi(one.Name())
		must(t, err)
		highest = max(highest, number)
	}
	var before unix.Rlimit
	must(t, unix.Prlimit(p.serving(), unix.RLIMIT_NOFILE, nil, &before))
	must(t, unix.Prlimit(p.serving(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1), Max: before.Max}, nil))
	kept := 0
	for _, conn := range f.dial(t, 100) {
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			kept++
		}
	}
	if kept > 1 {
		t.Errorf("%d connections were neither served nor closed", kept)
	}
	if answer := p.call("stats", map[string]any{}); code(answer) != "" {
		t.Error(answer)
	}
	// the control: with descriptors it goes on as before
	must(t, unix.Prlimit(p.serving(), unix.RLIMIT_NOFILE, &before, nil))
	must(t, c.Walk(1, 2, "file"))
}
