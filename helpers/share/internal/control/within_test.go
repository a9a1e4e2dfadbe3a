//go:build linux

package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloche/share/internal/wire"
)

// F10: a folder that was picked in the middle of what the host obeys is changed directly nowhere that the host obeys.
func TestServed_AFolderThatLiesInAProtectedPlaceIsProtectedByTheNamesAboveIt(t *testing.T) {
	for _, c := range []struct {
		folder, pick string // pick: what the user gives, where it is another way to the folder
		written      string
		waits        bool
	}{
		{folder: "proj/.git/hooks", written: "pre-commit", waits: true},
		{folder: "proj/.vscode", written: "tasks.json", waits: true},
		{folder: "proj/.claude", written: "settings.json", waits: true},
		{folder: "proj/.husky", written: "pre-push", waits: true},
		{folder: ".config/systemd/user", written: "x.service", waits: true},
		{folder: ".local/bin", written: "ls", waits: true},
		{folder: ".docker", written: "config.json", waits: true},
		{folder: "store/hooks", written: "update", waits: true}, // a git directory by its HEAD
		{folder: "plain/scripts", pick: ".config/fish/scripts", written: "x.fish", waits: true},
		{folder: "proj/.git/hooks", pick: "way/hooks", written: "pre-commit", waits: true},
		{folder: ".docker", written: "notes", waits: false},
		{folder: ".config/foo", written: "x.service", waits: false},
		{folder: "plain/hooks", written: "pre-commit", waits: false},
		{folder: "trees.git/main", written: "config", waits: false},
	} {
		name := c.folder
		if c.pick != "" {
			name += " by " + c.pick
		}
		t.Run(strings.ReplaceAll(name+" "+c.written, "/", "|"), func(t *testing.T) {
			f := newFixture(t, "root")
			root := filepath.Join(f.base, c.folder)
			must(t, os.MkdirAll(root, 0o755))
			must(t, os.MkdirAll(filepath.Join(f.base, "store"), 0o700))
			must(t, os.WriteFile(filepath.Join(f.base, "store", "HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
			must(t, os.WriteFile(filepath.Join(root, "links-here"), nil, 0o644))
			f.root = root
			if c.pick != "" {
				f.root = filepath.Join(f.base, c.pick)
				must(t, os.MkdirAll(filepath.Dir(filepath.Dir(f.root)), 0o755))
				must(t, os.Symlink(filepath.Dir(root), filepath.Dir(f.root)))
			}
			params := f.serve("rw")
			for _, what := range []string{"layer", "store"} {
				params[what] = filepath.Join(f.base, "kept-"+what)
				must(t, os.Mkdir(params[what].(string), 0o700))
			}
			p := start(t, nil)
			p.result("serve", params)
			m := f.mount(t)
			defer m.Close()
			write(t, m, 10, c.written, "planted")
			write(t, m, 11, "beside", "planted")
			_, err := m.Do(&wire.Trenameat{OldDir: 1, OldName: "beside", NewDir: 1, NewName: c.written})
			must(t, err)
			if got := read(t, m, 12, c.written); got != "planted" {
				t.Errorf("the guest reads %q", got)
			}
			if _, err := os.Lstat(filepath.Join(root, c.written)); (err == nil) == c.waits {
				t.Errorf("in the folder: %v", err)
			}
			list := p.result("changes", map[string]any{"limit": 10})["changes"].([]any)
			if c.waits && (len(list) != 1 || list[0].(map[string]any)["protected"] != true) || !c.waits && len(list) != 0 {
				t.Errorf("what waits: %v", list)
			}
		})
	}
}
