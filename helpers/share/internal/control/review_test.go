//go:build linux

package control

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// kept adds a layer and a store of the server's user to a request.
func (f fixture) kept(t *testing.T, mode string, uid int) map[string]any {
	t.Helper()
	params := f.serve(mode)
	for _, what := range []string{"layer", "store"} {
		path := filepath.Join(f.base, what)
		if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		must(t, os.Chown(path, uid, uid))
		params[what] = path
	}
	params["writer"], params["keepDays"] = "task-1", 30
	return params
}

func write(t *testing.T, c *ninetest.Client, fid uint32, name, content string) {
	t.Helper()
	must(t, c.Walk(1, fid))
	_, err := c.Do(&wire.Tlcreate{Fid: fid, Name: name, Flags: 2 | 0o1000, Mode: 0o644})
	must(t, err)
	_, err = c.Do(&wire.Twrite{Fid: fid, Data: []byte(content)})
	must(t, err)
}

func read(t *testing.T, c *ninetest.Client, fid uint32, name string) string {
	t.Helper()
	must(t, c.Walk(1, fid, name))
	_, err := c.Do(&wire.Tlopen{Fid: fid})
	must(t, err)
	r, err := ninetest.Ask[*wire.Rread](c, &wire.Tread{Fid: fid, Count: 100})
	must(t, err)
	return string(r.Data)
}

func TestUnderConfinementReviewKeepsWhatTheGuestDidAndLeavesTheFolder(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			uid := os.Geteuid()
			if as != nil {
				uid = int(as.Uid)
			}
			params := f.kept(t, "review", uid)
			p := start(t, as)
			if answer := p.call("serve", params); code(answer) != "" {
				t.Fatal(answer)
			}
			c := f.mount(t)
			write(t, c, 10, "file", "changed")
			write(t, c, 11, "made", "new")
			must(t, c.Walk(1, 2, "file"))
			_, err := c.Do(&wire.Tlopen{Fid: 2, Flags: 2})
			must(t, err)
			for _, m := range everyChange() {
				_, err := c.Do(m)
				if _, link := m.(*wire.Tlink); link != (err != nil) { // the layer has one name for each file
					t.Errorf("%T: %v", m, err)
				}
			}
			_, err = c.Do(&wire.Tfsync{Fid: 11})
			must(t, err)
			c.Close()
			must(t, p.in.Close())
			<-p.exited
			for name, want := range map[string]string{"file": "content", "made": ""} {
				if got, _ := os.ReadFile(filepath.Join(f.root, name)); string(got) != want {
					t.Errorf("the folder's %s is %q", name, got)
				}
			}
			// The next server of this task has it all; one without the layer has nothing of it.
			p = start(t, as)
			if answer := p.call("serve", params); code(answer) != "" {
				t.Fatal(answer)
			}
			c = f.mount(t)
			if got := read(t, c, 10, "file"); got != "ne" { // everyChange wrote and cut it
				t.Errorf("file is %q", got)
			}
			if got := read(t, c, 11, "made"); got != "new" {
				t.Errorf("made is %q", got)
			}
			stats := p.call("stats", map[string]any{})["result"].(map[string]any)
			if stats["layerBytes"] == nil || stats["layerBytes"].(float64) == 0 {
				t.Error("the layer takes no room:", stats)
			}
			c.Close()
		})
	}
}

func TestInRwAProtectedNameLandsInTheLayerAndAnOrdinaryOneInTheFolder(t *testing.T) {
	f := newFixture(t, "root")
	p := start(t, nil)
	if answer := p.call("serve", f.kept(t, "rw", os.Geteuid())); code(answer) != "" {
		t.Fatal(answer)
	}
	c := f.mount(t)
	defer c.Close()
	write(t, c, 10, ".envrc", "planted")
	write(t, c, 11, "ordinary", "work")
	if got := read(t, c, 12, ".envrc"); got != "planted" {
		t.Errorf("the guest reads %q", got)
	}
	if _, err := os.Lstat(filepath.Join(f.root, ".envrc")); !os.IsNotExist(err) {
		t.Error("the folder has a planted .envrc")
	}
	if got, err := os.ReadFile(filepath.Join(f.root, "ordinary")); err != nil || string(got) != "work" {
		t.Errorf("%q, %v", got, err)
	}
	// Carried in by a rename.
	write(t, c, 13, "harmless", "planted too")
	_, err := c.Do(&wire.Trenameat{OldDir: 1, OldName: "harmless", NewDir: 1, NewName: ".ENVRC"})
	must(t, err)
	for _, name := range []string{".ENVRC", "harmless"} {
		if _, err := os.Lstat(filepath.Join(f.root, name)); !os.IsNotExist(err) {
			t.Errorf("the folder has %s", name)
		}
	}
	if got := read(t, c, 14, ".ENVRC"); got != "planted too" {
		t.Errorf("the guest reads %q", got)
	}
}

func TestInRwALinkThatLeadsOutWaitsInTheLayer_ListedWithItsFlag_AndIsAppliedByItselfOnly(t *testing.T) {
	f := newFixture(t, "root")
	p := start(t, nil)
	canary := filepath.Join(f.base, "canary")
	p.result("serve", f.kept(t, "rw", os.Geteuid()))
	c := f.mount(t)
	defer c.Close()
	// What a program of the host's writes to goes, and a link to another file of its user's comes.
	_, err := c.Do(&wire.Tunlinkat{Dir: 1, Name: "file"})
	must(t, err)
	for name, target := range map[string]string{"file": canary, "above": "../canary", "inside": "ordinary"} {
		_, err := c.Do(&wire.Tsymlink{Fid: 1, Name: name, Target: target})
		must(t, err)
	}
	if got, err := os.Readlink(filepath.Join(f.root, "inside")); err != nil || got != "ordinary" { // the control
		t.Errorf("%q, %v", got, err)
	}
	inFolder := func(name string) bool {
		_, err := os.Lstat(filepath.Join(f.root, name))
		return err == nil
	}
	list := p.result("changes", map[string]any{"limit": 500})
	flags := map[string]any{}
	var file map[string]any
	for _, each := range list["changes"].([]any) {
		one := each.(map[string]any)
		path := decoded(t, one["path"])
		flags[path] = one["flags"].([]any)[0]
		if path == "file" {
			file = map[string]any{"id": one["id"], "token": one["token"]}
		}
	}
	if len(flags) != 2 || flags["file"] != "absolute-link" || flags["above"] != "escaping-link" {
		t.Fatalf("%v", flags)
	}
	all := p.result("apply", map[string]any{"what": map[string]any{"all": true, "revision": list["revision"]}})
	if refused := all["refused"].([]any); len(refused) != 2 || refused[0].(map[string]any)["code"] != "share.link-escapes" {
		t.Errorf("%v", all)
	}
	if inFolder("file") || inFolder("above") {
		t.Error("the folder has a link that leads out")
	}
	p.result("apply", map[string]any{"what": map[string]any{"changes": []any{file}}})
	if got, err := os.Readlink(filepath.Join(f.root, "file")); err != nil || got != canary || inFolder("above") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := os.ReadFile(canary); err != nil || string(got) != "canary" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNamesThatLookLikeSecretsAreHiddenWhenAskedFor(t *testing.T) {
	for _, mode := range []string{"ro", "rw", "review"} {
		for _, hide := range []bool{true, false} {
			f := newFixture(t, "root")
			must(t, os.WriteFile(filepath.Join(f.root, ".env"), []byte("KEY=canary"), 0o644))
			params := f.serve(mode)
			if mode != "ro" {
				params = f.kept(t, mode, os.Geteuid())
			}
			params["hideSecrets"] = hide
			p := start(t, nil)
			if answer := p.call("serve", params); code(answer) != "" {
				t.Fatal(answer)
			}
			c := f.mount(t)
			err := c.Walk(1, 10, ".env")
			if (err != nil) != hide {
				t.Errorf("%s, hidden %v: %v", mode, hide, err)
			}
			if got := read(t, c, 11, "file"); got != "content" {
				t.Errorf("%s: an ordinary file is %q", mode, got)
			}
			secrets := p.call("secrets", map[string]any{})["result"].(map[string]any)
			if paths := secrets["paths"].([]any); len(paths) != 1 || paths[0] != base64.StdEncoding.EncodeToString([]byte(".env")) {
				t.Error(secrets)
			}
			c.Close()
		}
	}
}

// What an apply, an undo or a restore has under way stands in the folder for a moment, in the place of something that the guest may have no
// right to.
func TestWhatIsUnderWayInAFolderIsNoGuestsToReach(t *testing.T) {
	const under, content = "d/.cloche-0123456789abcdef", "what takes a protected place next"
	for _, mode := range []string{"rw", "review"} {
		f := newFixture(t, "root")
		must(t, os.Mkdir(filepath.Join(f.root, "d"), 0o755))
		for _, name := range []string{under, "d/.cloche-apply-0123456789abcdef", "d/.clocher"} {
			must(t, os.WriteFile(filepath.Join(f.root, name), []byte(content), 0o644))
		}
		p := start(t, nil)
		if answer := p.call("serve", f.kept(t, mode, os.Geteuid())); code(answer) != "" {
			t.Fatal(answer)
		}
		c := f.mount(t)
		must(t, c.Walk(1, 10, "d"))
		must(t, c.Walk(10, 12))
		_, err := c.Do(&wire.Tlopen{Fid: 12})
		must(t, err)
		list, err := ninetest.Ask[*wire.Rreaddir](c, &wire.Treaddir{Fid: 12, Count: 8192})
		must(t, err)
		if !bytes.Contains(list.Data, []byte(".clocher")) || bytes.Contains(list.Data, []byte(".cloche-")) {
			t.Errorf("%s: listed: %q", mode, list.Data)
		}
		if err := c.Walk(1, 11, "d", filepath.Base(under)); err != syscall.ENOENT {
			t.Errorf("%s: walked to: %v", mode, err)
		}
		if _, err := c.Do(&wire.Tlcreate{Fid: 10, Name: filepath.Base(under), Flags: 2, Mode: 0o644}); err != syscall.EACCES {
			t.Errorf("%s: made: %v", mode, err)
		}
		if got, err := os.ReadFile(filepath.Join(f.root, under)); err != nil || string(got) != content {
			t.Errorf("%s: the host has %q, %v", mode, got, err)
		}
		c.Close()
	}
}

func TestDependencyFoldersAreGivenToTheGuestsDisk(t *testing.T) {
	f := newFixture(t, "root")
	for path, content := range map[string]string{
		"app/package.json": "{}", "app/src/x.js": "", "lib/Cargo.toml": "", "lib/target/kept.txt": "work", ".gitignore": "cache/target/\n", ".git/HEAD": "ref: x\n", "cache/Cargo.toml": "", "cache/target/x": "",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(f.root, path)), 0o755))
		must(t, os.WriteFile(filepath.Join(f.root, path), []byte(content), 0o644))
	}
	params := f.kept(t, "review", os.Geteuid())
	params["localFolders"] = true
	p := start(t, nil)
	answer := p.call("serve", params)
	if code(answer) != "" {
		t.Fatal(answer)
	}
	got := map[string]bool{}
	for _, path := range answer["result"].(map[string]any)["localFolders"].([]any) {
		raw, _ := base64.StdEncoding.DecodeString(path.(string))
		got[string(raw)] = true
	}
	// lib/target is there and not ignored: it may hold work.
	if !got["app/node_modules"] || !got["cache/target"] || got["lib/target"] {
		t.Errorf("local folders: %v", got)
	}
	c := f.mount(t)
	defer c.Close()
	must(t, c.Walk(1, 10, "app", "node_modules"))
	if _, err := c.Do(&wire.Tlcreate{Fid: 10, Name: "x", Flags: 2, Mode: 0o644}); err == nil {
		t.Error("a file was made where the guest's disk belongs")
	}
	must(t, c.Walk(1, 11, "lib", "target", "kept.txt"))
}

func TestALayerThatOthersCanReachOrThatIsDamagedIsRefusedWithTheReason(t *testing.T) {
	f := newFixture(t, "root")
	params := f.kept(t, "review", os.Geteuid())
	must(t, os.Chmod(params["layer"].(string), 0o755))
	p := start(t, nil)
	if answer := p.call("serve", params); code(answer) != "share.layer" {
		t.Error(answer)
	}
	must(t, os.Chmod(params["layer"].(string), 0o700))
	must(t, os.WriteFile(filepath.Join(params["layer"].(string), "layer.log"), []byte("something else entirely"), 0o600))
	p = start(t, nil)
	if answer := p.call("serve", params); code(answer) != "share.layer" {
		t.Error(answer)
	}
	if got, _ := os.ReadFile(filepath.Join(params["layer"].(string), "layer.log")); string(got) != "something else entirely" {
		t.Errorf("the damaged log was changed: %q", got)
	}
	must(t, p.in.Close())
	<-p.exited
	must(t, os.Remove(filepath.Join(params["layer"].(string), "layer.log")))
	p = start(t, nil)
	if answer := p.call("serve", params); code(answer) != "" { // the control
		t.Error(answer)
	}
}
