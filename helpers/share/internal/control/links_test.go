//go:build linux

package control

import (
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
	"golang.org/x/sys/unix"
)

func lowerOf(t testing.TB, dir string) *hostfs.Tree {
	t.Helper()
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	lower, err := hostfs.New(hostfs.Options{Root: open(dir), Proc: open("/proc/self/fd"), ReadOnly: true})
	must(t, err)
	return lower
}

func TestALinkIsFollowedWithinTheFolderAndNoFurther(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	for _, d := range []string{"a/b", "c", "deep/er"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, text := range map[string]string{
		"plain": "a/b", "via": "hop", "hop": "c", "above": "../folder/a", "out": "../../etc", "absolute": dir + "/deep/er", "elsewhere": "/etc/x", "missing": "a/none/x", "deep/up": "../a/./b/",
		"self": ".", "loop": "loop", "through": "hop/x/../y", "file": "a/b/../b/f",
	} {
		must(t, os.Symlink(text, filepath.Join(dir, name)))
	}
	root := lowerOf(t, dir).Root()
	defer root.Drop()
	for link, want := range map[string]string{
		"plain": "a/b", "via": "c hop", "above": "a", "out": "", "absolute": "deep/er", "elsewhere": "", "missing": "a/none/x", "deep/up": "a/b", "self": "(the folder)", "loop": "", "through": "c/y hop/y", "file": "a/b/f",
	} {
		var got []string
		follow(root, dir, strings.Split(link, "/"), func(to []string) {
			if len(to) == 0 {
				got = append(got, "(the folder)")
				return
			}
			got = append(got, strings.Join(to, "/"))
		})
		sort.Strings(got)
		if link == "loop" {
			got = got[:0] // it is told where it goes round, and nothing more
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s leads to %v, want %s", link, got, want)
		}
	}
}

func TestTheLinksOfAFolderInProtectedPlacesAreFound(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"dot/vscode", "dot/config/fish", "scripts", "repo/.git", "store/objects", "store/refs", "plain", "shared"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "store/HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
	for name, text := range map[string]string{
		".vscode": "dot/vscode", ".config": "dot/config", "repo/.git/hooks": "../../scripts", "store/hooks": "../shared", "ordinary": "plain", ".bashrc": "dot/bashrc",
	} {
		must(t, os.Symlink(text, filepath.Join(dir, name)))
	}
	root := lowerOf(t, dir).Root()
	defer root.Drop()
	rules := rulesOf(root, dir, nil)
	none := func(int, string) bool { return false }
	for path, want := range map[string]bool{
		"dot/vscode/tasks.json": true, "dot/config/fish/config.fish": true, "scripts/pre-commit": true, "shared/update": true, "dot/bashrc": true,
		"dot/config/app": false, "plain/tasks.json": false, "dot/zshrc": false,
	} {
		if rules.Protected(strings.Split(path, "/"), false, none) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

// The whole program, as the keeper starts it: what the guest writes where the host's own link leads waits, and is taken over only by itself.
func TestServed_WhatAHostsLinkLeadsToAndABareRepositoryWaitInTheLayer(t *testing.T) {
	f := newFixture(t, "root")
	folder := filepath.Join(f.base, "root")
	for _, d := range []string{"dot", "store", "store/objects", "store/refs"} {
		must(t, os.Mkdir(filepath.Join(folder, d), 0o755))
	}
	must(t, os.Symlink("dot", filepath.Join(folder, ".vscode")))
	must(t, os.WriteFile(filepath.Join(folder, "store/HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
	for _, mode := range []string{"rw", "review"} {
		p := start(t, nil)
		params := f.kept(t, mode, os.Geteuid())
		if answer := p.call("serve", params); code(answer) != "" {
			t.Fatal(answer)
		}
		c := f.mount(t)
		must(t, c.Walk(1, 9))
		for _, d := range []string{"made-" + mode, "kept-" + mode + ".git"} { // git directories of the guest's own, one with a name that says so
			_, err := c.Do(&wire.Tmkdir{Dir: 9, Name: d, Mode: 0o755})
			must(t, err)
			must(t, c.Walk(1, 8, d))
			for _, inner := range []string{"objects", "refs", "src"} {
				_, err := c.Do(&wire.Tmkdir{Dir: 8, Name: inner, Mode: 0o755})
				must(t, err)
			}
			must(t, c.Walk(1, 7, d, "src"))
			for _, inner := range []string{"objects", "refs"} {
				_, err := c.Do(&wire.Tmkdir{Dir: 7, Name: inner, Mode: 0o755})
				must(t, err)
			}
			for _, fid := range []uint32{8, 7} {
				_, err := c.Do(&wire.Tclunk{Fid: fid})
				must(t, err)
			}
		}
		for i, path := range []string{
			"dot/" + mode, "store/config", "free-" + mode, "made-" + mode + "/config", "made-" + mode + "/HEAD", "kept-" + mode + ".git/HEAD", "kept-" + mode + ".git/config",
			"kept-" + mode + ".git/src/config", "kept-" + mode + ".git/src/HEAD",
		} {
			writeAt(t, c, uint32(10+i), path, map[bool]string{true: "ref: refs/heads/guest\n", false: "the guest's"}[strings.HasSuffix(path, "HEAD")])
		}
		answer := p.call("changes", map[string]any{"limit": 100})
		listed, _ := answer["result"].(map[string]any)["changes"].([]any)
		protected := map[string]bool{}
		for _, one := range listed {
			change := one.(map[string]any)
			protected[decoded(t, change["path"])] = change["protected"].(bool)
		}
		for path, line := range map[string]string{"dot/" + mode: "dot/" + mode, "store/config": "store"} { // a repository is one line
			if there, is := protected[line]; !is || !there {
				t.Errorf("%s: %s is not listed as protected: %v", mode, line, protected)
			}
			if _, err := os.Stat(filepath.Join(folder, path)); err == nil {
				t.Errorf("%s: %s is in the folder", mode, path)
			}
		}
		_, err := os.Stat(filepath.Join(folder, "free-"+mode))
		if (err == nil) != (mode == "rw") || protected["free-"+mode] {
			t.Errorf("control, %s: %v", mode, err)
		}
		c.Close()
		// All that is taken over together makes no git directory with a config of the guest's either.
		page := p.call("changes", map[string]any{"limit": 100})["result"].(map[string]any)
		done := p.call("apply", map[string]any{"what": map[string]any{"all": true, "revision": page["revision"]}})
		if code(done) != "" {
			t.Fatal(done)
		}
		if _, err := os.Stat(filepath.Join(folder, "dot", mode)); err == nil {
			t.Errorf("%s: apply --all put what waits into the folder", mode)
		}
		for _, d := range []string{"store", "made-" + mode, "kept-" + mode + ".git", "kept-" + mode + ".git/src"} {
			_, head := os.Stat(filepath.Join(folder, d, "HEAD"))
			config, _ := os.ReadFile(filepath.Join(folder, d, "config")) // of a new repository it is written by us
			if head == nil && strings.Contains(string(config), "guest") {
				t.Errorf("%s: %s is a git directory with a config of the guest's", mode, d)
			}
		}
		if _, err := os.Stat(filepath.Join(folder, "free-"+mode)); err != nil {
			t.Errorf("control, %s: %v", mode, err)
		}
		if mode == "rw" { // control: it is the HEAD that is kept back
			if config, err := os.ReadFile(filepath.Join(folder, "made-rw/config")); err != nil || !strings.Contains(string(config), "guest") {
				t.Errorf("made-rw/config: %q, %v", config, err)
			}
		}
		must(t, p.in.Close())
		<-p.exited
		must(t, os.RemoveAll(filepath.Join(f.base, "layer")))
	}
}

func writeAt(t *testing.T, c *ninetest.Client, fid uint32, path, content string) {
	t.Helper()
	parts := strings.Split(path, "/")
	must(t, c.Walk(1, fid, parts[:len(parts)-1]...))
	_, err := c.Do(&wire.Tlcreate{Fid: fid, Name: parts[len(parts)-1], Flags: 2, Mode: 0o644})
	must(t, err)
	_, err = c.Do(&wire.Twrite{Fid: fid, Data: []byte(content)})
	must(t, err)
}

// What a start pays for the look through a project of 20,000 files.
func BenchmarkRulesOf20000Files(b *testing.B) {
	dir := b.TempDir()
	for i := range 400 {
		at := filepath.Join(dir, "d"+strings.Repeat("x", i%7), "e"+string(rune('a'+i%26)), "f"+strconv.Itoa(i))
		if err := os.MkdirAll(at, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 50 {
			if err := os.WriteFile(filepath.Join(at, "file"+strconv.Itoa(j)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	root := lowerOf(b, dir).Root()
	defer root.Drop()
	for b.Loop() {
		rulesOf(root, dir, nil)
	}
}
