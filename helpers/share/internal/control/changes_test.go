//go:build linux

package control

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"cloche/share/internal/wire"
)

func (p *program) result(method string, params any) map[string]any {
	p.t.Helper()
	answer := p.answer(method, params)
	if code(answer) != "" {
		p.t.Fatalf("%s: %v", method, answer)
	}
	return answer["result"].(map[string]any)
}

// answer is call among notifications, which a folder with a layer sends at any time.
func (p *program) answer(method string, params any) map[string]any {
	p.t.Helper()
	p.send(method, params)
	for {
		line := p.line()
		if _, is := line["method"]; !is {
			return line
		}
	}
}

func decoded(t *testing.T, value any) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(value.(string))
	must(t, err)
	return string(b)
}

func TestUnderConfinementChangesAreListedAppliedAndTakenBack(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			uid := os.Geteuid()
			if as != nil {
				uid = int(as.Uid)
				must(t, os.Chown(f.root, uid, uid))
				must(t, os.Chown(filepath.Join(f.root, "file"), uid, uid))
			}
			p := start(t, as)
			p.result("serve", f.kept(t, "review", uid))
			c := f.mount(t)
			write(t, c, 10, "made", "new")
			must(t, c.Walk(1, 11, "file"))
			_, err := c.Do(&wire.Tlopen{Fid: 11, Flags: 2 | 0o1000})
			must(t, err)
			_, err = c.Do(&wire.Twrite{Fid: 11, Data: []byte("changed\n")})
			must(t, err)
			_, err = c.Do(&wire.Tunlinkat{Dir: 1, Name: "link"})
			must(t, err)
			list := p.result("changes", map[string]any{"limit": 500})
			kinds := map[string]string{}
			var chosen []map[string]any
			for _, each := range list["changes"].([]any) {
				one := each.(map[string]any)
				path := decoded(t, one["path"])
				kinds[path] = one["kind"].(string)
				chosen = append(chosen, map[string]any{"id": one["id"], "token": one["token"]})
				if path == "file" {
					d := p.result("diff", map[string]any{"id": one["id"], "side": "change", "context": 3, "offset": 0, "limit": 1000})
					if got := decoded(t, d["bytes"]); got != "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-content\n\\ No newline at end of file\n+changed\n" {
						t.Errorf("%q", got)
					}
				}
			}
			if len(kinds) != 3 || kinds["file"] != "modified" || kinds["made"] != "new" || kinds["link"] != "deleted" {
				t.Fatalf("%v", kinds)
			}
			applied := p.result("apply", map[string]any{"what": map[string]any{"changes": chosen}})
			if len(applied["applied"].([]any)) != 3 || applied["remaining"] != float64(0) {
				t.Fatalf("%v", applied)
			}
			for name, want := range map[string]string{"file": "changed\n", "made": "new"} {
				if got, err := os.ReadFile(filepath.Join(f.root, name)); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if got := read(t, c, 20, name); got != want {
					t.Errorf("the guest reads %q in %s", got, name)
				}
				_, err := c.Do(&wire.Tclunk{Fid: 20})
				must(t, err)
			}
			// What the guest has open goes on, as a change of the folder's new file.
			_, err = c.Do(&wire.Twrite{Fid: 11, Offset: 8, Data: []byte("more\n")})
			must(t, err)
			list = p.result("changes", map[string]any{"limit": 500})
			if list["total"] != float64(1) {
				t.Errorf("after writing on: %v", list)
			}
			if got, _ := os.ReadFile(filepath.Join(f.root, "file")); string(got) != "changed\n" {
				t.Errorf("a write of the guest reached the folder: %q", got)
			}
			one := list["changes"].([]any)[0].(map[string]any)
			p.result("discard", map[string]any{"what": map[string]any{"changes": []any{map[string]any{"id": one["id"], "token": one["token"]}}}})
			c.Close()
			must(t, p.in.Close())
			<-p.exited

			// The task has stopped; its changes are worked on without being served.
			p = start(t, as)
			params := f.kept(t, "review", uid)
			delete(params, "listen")
			p.result("serve", params)
			if list := p.result("changes", map[string]any{"limit": 500}); list["total"] != float64(0) {
				t.Errorf("%v", list)
			}
			if done := p.result("applies", map[string]any{})["applies"].([]any); len(done) != 1 || done[0].(map[string]any)["files"] != float64(3) {
				t.Errorf("applies: %v", done)
			}
			undone := p.result("undo", map[string]any{})
			if undone["restored"] != float64(3) || len(undone["refused"].([]any)) != 0 {
				t.Errorf("%v", undone)
			}
			if got, err := os.ReadFile(filepath.Join(f.root, "file")); err != nil || string(got) != "content" {
				t.Errorf("file: %q, %v", got, err)
			}
			if target, err := os.Readlink(filepath.Join(f.root, "link")); err != nil || target != "../canary" {
				t.Errorf("link: %q, %v", target, err)
			}
			if _, err := os.Lstat(filepath.Join(f.root, "made")); !os.IsNotExist(err) {
				t.Errorf("made is still there: %v", err)
			}
			history := p.result("history", map[string]any{"path": base64.StdEncoding.EncodeToString([]byte("file")), "below": false, "limit": 10})
			if len(history["versions"].([]any)) != 2 {
				t.Errorf("history: %v", history)
			}
			if answer := p.answer("undo", map[string]any{}); code(answer) != "share.not-undoable" {
				t.Errorf("undone twice: %v", answer)
			}
			if answer := p.answer("apply", map[string]any{"batch": "nonsense"}); code(answer) != "share.change-unknown" {
				t.Errorf("an unknown batch: %v", answer)
			}
			if entries, _ := os.ReadDir(f.root); len(entries) != 3 { // and what the probe made
				t.Errorf("the folder has %v", entries)
			}
		})
	}
}
