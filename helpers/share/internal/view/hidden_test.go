//go:build linux

package view_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/names"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

func TestAHiddenNameIsNotThereAndCannotBeMade(t *testing.T) {
	for _, mode := range []string{"review", "rw"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			if mode == "rw" {
				r = newRW(t)
			}
			with := r.options
			r.options = func(o *view.Options) {
				if with != nil {
					with(o)
				}
				o.Hidden = func(name string) bool { return strings.HasPrefix(name, "secret") }
			}
			must(t, os.Mkdir(r.host("d"), 0o755))
			r.hostWrite("d/secret-key", "key")
			r.hostWrite("d/plain", "plain")
			r.mount()
			d, err := r.at("d")
			must(t, err)
			defer d.Drop()
			_, err = d.Walk("secret-key")
			refused(t, "walk", err, syscall.ENOENT)
			if got := r.show("d"); got != "{plain}" {
				t.Errorf("listed: %s", got)
			}
			r.create("d/own", "own")
			if got := r.show("d"); got != "{own plain}" {
				t.Errorf("listed beside the task's: %s", got)
			}
			plain, err := d.Walk("plain")
			must(t, err)
			defer plain.Drop()
			_, _, err = d.Create("secret-key", 2|0o100, 0o644)
			refused(t, "create", err, syscall.EACCES)
			_, err = d.Mkdir("secret-dir", 0o755)
			refused(t, "mkdir", err, syscall.EACCES)
			_, err = d.Symlink("secret-link", "x")
			refused(t, "symlink", err, syscall.EACCES)
			refused(t, "link", d.Link("secret-name", plain), syscall.EACCES)
			refused(t, "unlink", d.Unlink("secret-key", false), syscall.EACCES)
			refused(t, "rename to", r.rename("d/plain", "d/secret-key"), syscall.EACCES)
			refused(t, "rename of", r.rename("d/secret-key", "d/x"), syscall.EACCES)
			must(t, r.unlink("d/plain"))
			must(t, r.unlink("d/own"))
			root := r.tree.Root()
			defer root.Drop()
			refused(t, "rmdir of what only looks empty", root.Unlink("d", true), syscall.ENOTEMPTY)
			if data, _ := os.ReadFile(r.host("d/secret-key")); string(data) != "key" {
				t.Errorf("the folder has %q", data)
			}
		})
	}
}

func TestAPlaceForTheGuestsOwnDiskIsEmptyAndTakesNothing(t *testing.T) {
	r := newRig(t)
	r.options = func(o *view.Options) { o.Local = []string{"proj/node_modules", "target"} }
	must(t, os.MkdirAll(r.host("proj/node_modules/left-pad"), 0o755))
	r.hostWrite("proj/node_modules/x", "x")
	r.mount()
	for range 2 {
		if got := r.show("proj"); got != "{node_modules}" {
			t.Errorf("proj: %s", got)
		}
		if got := r.show(""); got != "{proj target}" {
			t.Errorf("the folder: %s", got)
		}
		for _, path := range []string{"proj/node_modules", "target"} {
			if got := r.show(path); got != "{}" {
				t.Errorf("%s: %s", path, got)
			}
			n, err := r.at(path)
			must(t, err)
			_, _, err = n.Create("f", 2|0o100, 0o644)
			refused(t, "create", err, syscall.EROFS)
			_, err = n.Mkdir("d", 0o755)
			refused(t, "mkdir", err, syscall.EROFS)
			refused(t, "chmod", n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o700}, nil), syscall.EROFS)
			n.Drop()
		}
		root := r.tree.Root()
		refused(t, "rmdir", root.Unlink("target", true), syscall.EBUSY)
		refused(t, "rename", r.rename("target", "t"), syscall.EBUSY)
		refused(t, "rename over", r.rename("proj", "target"), syscall.EBUSY)
		root.Drop()
		if n := r.l.Nodes(); n != 1 {
			t.Errorf("the layer has %d nodes", n)
		}
		r.remount()
	}
}

// The task moved them while they were shown; the folder may have other keys under those names by now.
func TestWhatWasMovedBeforeItsNameWasHiddenShowsNothingThatTheFolderHasThereNow(t *testing.T) {
	for _, hidden := range []bool{true, false} {
		t.Run(fmt.Sprint("hidden ", hidden), func(t *testing.T) {
			r := newRig(t)
			for _, dir := range []string{"secrets", "secrets/deep", "d", "plain"} {
				must(t, os.Mkdir(r.host(dir), 0o755))
			}
			for _, path := range []string{".env", "secrets/a", "secrets/deep/b", "secrets/c", "d/.env", "plain/f"} {
				r.hostWrite(path, "old "+path)
			}
			must(t, os.Symlink("old/target", r.host("secrets/link")))
			r.mount()
			must(t, r.rename(".env", "x"))
			must(t, r.rename("secrets/c", "c"))
			must(t, r.rename("secrets/link", "link"))
			must(t, r.rename("secrets", "moved"))
			must(t, r.rename("d", "e"))
			must(t, r.rename("plain", "p"))
			r.create("moved/own", "own")
			r.unmount()
			if hidden {
				r.options = func(o *view.Options) { o.Hidden = names.Secret }
			}
			for _, path := range []string{".env", "secrets/a", "secrets/deep/b", "secrets/c", "d/.env", "plain/f"} {
				r.hostWrite(path, "new "+path)
			}
			must(t, os.Remove(r.host("secrets/link")))
			must(t, os.Symlink("new/target", r.host("secrets/link")))
			must(t, r.tryMount())
			t.Cleanup(r.unmount)
			for at, from := range map[string]string{"x": ".env", "c": "secrets/c", "moved/a": "secrets/a", "moved/deep/b": "secrets/deep/b", "e/.env": "d/.env"} {
				got := ""
				if n, err := r.at(at); err == nil {
					got, _ = readFile(n)
					if f, err := n.Open(2); err == nil {
						if writeTo(f, "N") == nil {
							got, _ = readFile(n)
						}
						f.Close()
					}
					n.Drop()
				}
				if shown := strings.Contains(got, "ew "+from); shown == hidden {
					t.Errorf("%s: the guest reads %q", at, got)
				}
			}
			if n, err := r.at("link"); err == nil {
				if text, err := n.Readlink(); (text == "new/target") == hidden {
					t.Errorf("link: %q, %v", text, err)
				}
				n.Drop()
			}
			if moved, err := r.at("moved"); err != nil {
				t.Error(err)
			} else {
				listed, err := list(moved, 4096)
				if _, shown := listed["deep"]; err != nil || shown == hidden {
					t.Errorf("moved has %v, %v", listed, err)
				}
				moved.Drop()
			}
			if got := r.read("moved/own") + r.read("p/f"); got != "ownnew plain/f" { // control
				t.Errorf("the guest reads %q", got)
			}
			if n, err := r.at("x"); err != nil {
				t.Error(err)
			} else {
				if a, err := n.Attr(); err != nil || hidden && a.Size != uint64(len("old .env")) {
					t.Errorf("x is %v, %v", a, err)
				}
				n.Drop()
			}
			must(t, r.unlink("x"))
		})
	}
}
