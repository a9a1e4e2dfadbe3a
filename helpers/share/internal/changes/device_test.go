//go:build linux

package changes_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"cloche/share/internal/layer"
)

// anotherDevice makes all that was written down about the folder so far of another device number, as a host's start does.
func (r *rig) anotherDevice() {
	r.t.Helper()
	var ids []layer.ID
	r.layer.Walk(func(n *layer.Node, _ string) bool { ids = append(ids, n.ID); return true })
	var ops []layer.Op
	for _, id := range ids {
		n := r.layer.Get(id)
		for _, b := range []*layer.Base{n.Base, n.Over} {
			if b != nil {
				b.Device ^= 0x100
			}
		}
		ops = append(ops, layer.Put(n))
	}
	must(r.t, r.layer.Change(ops...))
	path := filepath.Join(r.base, "store", "applies", "task-1.log")
	log, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		r.open()
		return
	}
	must(r.t, err)
	device := regexp.MustCompile(`"dev":\d+`)
	var out []byte
	for _, line := range bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n")) {
		body := device.ReplaceAll(line[9:], []byte(`"dev":7`))
		out = fmt.Appendf(out, "%08x %s\n", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)), body)
	}
	must(r.t, os.WriteFile(path, out, 0o600))
	r.open()
}

func TestWhatWaitsIsAppliedAndUndoneAcrossAStartOfTheHostThatGivesItsDiskAnotherNumber(t *testing.T) {
	r := newRig(t)
	r.put("f", "host\n")
	r.put("mode", "host")
	r.put("gone", "host")
	r.put("moved", "host")
	r.put("d/x", "host")
	r.put("dir/x", "host")
	before := r.folder()
	r.open()
	r.guest("f", "task\n")
	r.guest("d/new", "task")
	r.chmod("mode", 0o700)
	r.chmod("dir", 0o700)
	r.remove("gone", false)
	r.rename("moved", "d/moved")
	lines := r.lines()
	r.anotherDevice()
	r.expect(lines...)
	_, done, refused := r.apply(r.all())
	if r.none(refused); done != len(lines) {
		t.Errorf("%d applied of %d", done, len(lines))
	}
	r.expect()
	r.content("f", "task\n")
	r.guest("f", "task, later\n") // made from what the apply left
	r.anotherDevice()
	_, refused = r.undo("")
	r.none(refused)
	if now := r.folder(); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("the folder is\n%v\nwas\n%v", now, before)
	}
	if c := r.change("f"); c.Conflict != "" {
		t.Errorf("what the task wrote since has the conflict %q", c.Conflict)
	}
	must(t, os.WriteFile(r.host("mode"), []byte("the host's since"), 0o644)) // control
	_, _, refused = r.apply(r.all())
	if len(refused) != 1 {
		t.Errorf("refused %v", refused)
	}
	r.content("mode", "the host's since")
}

func TestACrashBeforeAHostsStartThatGivesItsDiskAnotherNumberIsRecoveredFrom(t *testing.T) {
	for _, point := range []string{"renamed", "acted all", "before done", "done"} {
		r := newRig(t)
		r.put("f", "host")
		r.put("gone", "host")
		r.open()
		r.guest("f", "task")
		r.remove("gone", false)
		r.crash = func(at string) {
			if at == point {
				panic("crash")
			}
		}
		func() {
			defer func() { _ = recover() }()
			r.apply(r.all())
			t.Errorf("no crash at %q", point)
		}()
		r.crash = nil
		r.anotherDevice()
		_, _, refused := r.apply(r.all())
		r.none(refused)
		r.content("f", "task")
		r.expect()
	}
}
