//go:build linux

package control

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cloche/share/internal/wire"
)

// What the user takes out of the folder is outside for the guest, whatever it holds of it, through the processes as they really run.
func TestWhatTheHostTakesOutOfTheFolderIsNotChangedAnyMore(t *testing.T) {
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			f := newFixture(t, "root")
			for _, dir := range []string{"away", "within"} {
				must(t, os.Mkdir(filepath.Join(f.root, dir), 0o777))
				must(t, os.WriteFile(filepath.Join(f.root, dir, "f"), []byte("original"), 0o644))
				if as != nil {
					must(t, os.Chown(filepath.Join(f.root, dir), int(as.Uid), int(as.Gid)))
					must(t, os.Chown(filepath.Join(f.root, dir, "f"), int(as.Uid), int(as.Gid)))
				}
			}
			p := start(t, as)
			result(t, p.call("serve", f.keeping(t, as)))
			c := f.mount(t)
			defer c.Close()
			p.notified("attached")
			for fid, dir := range map[uint32]string{10: "away", 20: "within"} {
				must(t, c.Walk(1, fid, dir))
				must(t, c.Walk(1, fid+1, dir, "f"))
				_, err := c.Do(&wire.Tlopen{Fid: fid + 1, Flags: 2})
				must(t, err)
			}
			away := filepath.Join(f.base, "away")
			must(t, os.Rename(filepath.Join(f.root, "away"), away))
			must(t, os.Rename(filepath.Join(f.root, "within"), filepath.Join(f.root, "moved")))
			for what, m := range map[string]wire.Message{
				"write":    &wire.Twrite{Fid: 11, Data: []byte("X")},
				"chmod":    &wire.Tsetattr{Fid: 11, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o777}},
				"truncate": &wire.Tsetattr{Fid: 11, Attr: wire.SetAttr{Valid: wire.SetSize}},
			} {
				if _, err := c.Do(m); !errors.Is(err, syscall.ESTALE) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for what, m := range map[string]wire.Message{
				"mkdir":           &wire.Tmkdir{Dir: 10, Name: "new", Mode: 0o755},
				"rename":          &wire.Trenameat{OldDir: 10, OldName: "f", NewDir: 10, NewName: "g"},
				"rename into":     &wire.Trenameat{OldDir: 20, OldName: "f", NewDir: 10, NewName: "g"},
				"unlink":          &wire.Tunlinkat{Dir: 10, Name: "f"},
				"link":            &wire.Tlink{Dir: 10, Fid: 21, Name: "g"},
				"symlink":         &wire.Tsymlink{Fid: 10, Name: "g", Target: "x"},
				"directory chmod": &wire.Tsetattr{Fid: 10, Attr: wire.SetAttr{Valid: wire.SetMode, Mode: 0o700}},
				"attributes":      &wire.Txattrwalk{Fid: 10, NewFid: 30},
				"walk":            &wire.Twalk{Fid: 10, NewFid: 31, Names: []string{"f"}},
				"list":            &wire.Tlopen{Fid: 10},
			} {
				if _, err := c.Do(m); !errors.Is(err, syscall.ESTALE) {
					t.Errorf("%s: %v", what, err)
				}
			}
			entries, err := os.ReadDir(away)
			must(t, err)
			got, err := os.ReadFile(filepath.Join(away, "f"))
			if err != nil || string(got) != "original" || len(entries) != 1 {
				t.Errorf("outside: %q, %v, %v", got, entries, err)
			}
			// Control: within the folder it goes on.
			_, err = c.Do(&wire.Twrite{Fid: 21, Data: []byte("X")})
			must(t, err)
			if got, err := os.ReadFile(filepath.Join(f.root, "moved", "f")); err != nil || string(got) != "Xriginal" {
				t.Errorf("within: %q, %v", got, err)
			}
		})
	}
}
