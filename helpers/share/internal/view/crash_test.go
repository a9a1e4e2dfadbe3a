//go:build linux

package view_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/wire"
)

// moment is what the guest saw when the log had so many bytes.
type moment struct {
	log  int64
	seen map[string]place
}

type place struct {
	of   *thing
	mode uint32
}

func (g *game) moment() moment {
	st, err := os.Stat(filepath.Join(g.rig.layer, "layer.log"))
	must(g.t, err)
	m := moment{st.Size(), map[string]place{}}
	var visit func(t *thing, path string)
	visit = func(t *thing, path string) {
		m.seen[path] = place{t, t.mode}
		for name, child := range t.names {
			visit(child, layer.Join(path, name))
		}
	}
	visit(g.top, "")
	return m
}

// contents gives the layer's content file of each thing that has one.
func (g *game) contents() map[uint64]uint64 {
	found := map[uint64]uint64{}
	g.l.Walk(func(n *layer.Node, _ string) bool {
		if n.Content != 0 {
			found[n.QID] = n.Content
		}
		return true
	})
	return found
}

// difference tells how a picture differs from a moment, but for the bytes of files; empty: not at all.
func difference(got map[string]seen, want map[string]place) string {
	for path, p := range want {
		s, there := got[path]
		switch {
		case !there:
			return fmt.Sprintf("%q is not there", path)
		case s.kind != p.of.kind:
			return fmt.Sprintf("%q is %x and was %x", path, s.kind, p.of.kind)
		case p.of.qid != 0 && s.qid != p.of.qid:
			return fmt.Sprintf("%q has qid %x and had %x", path, s.qid, p.of.qid)
		case s.kind == wire.QTSymlink && s.data != p.of.text:
			return fmt.Sprintf("%q leads to %q and led to %q", path, s.data, p.of.text)
		case s.kind != wire.QTSymlink && s.mode != p.mode:
			return fmt.Sprintf("%q has mode %o and had %o", path, s.mode, p.mode)
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			return fmt.Sprintf("%q is there and was not", path)
		}
	}
	return ""
}

// TestAPowerFailureLosesNothingThatWasSynced cuts the log anywhere behind the last fsync, damages every content file that was not
// synced since it was written, and mounts what is left.
func TestAPowerFailureLosesNothingThatWasSynced(t *testing.T) {
	for round := range rounds(1, 12) {
		t.Run(fmt.Sprint("game ", round), losesNothing)
	}
}

func losesNothing(t *testing.T) {
	g := newGame(t, *seedFlag)
	g.mount()
	moments := []moment{g.moment()}
	synced := map[*thing][]byte{} // bytes at the last fsync of the file
	crashes := 0
	for g.step < *stepsFlag/rounds(8, 2) {
		if g.rand.IntN(25) == 0 && len(g.open) > 0 {
			h := g.open[g.rand.IntN(len(g.open))]
			must(t, h.file.Sync(g.rand.IntN(2) == 0))
			synced[h.of] = bytes.Clone(h.of.data)
			moments = []moment{g.moment()} // no cut before this one
		}
		session := g.l
		g.play()
		if g.l != session {
			moments = moments[len(moments)-1:] // remounted: the log was read up to here, and not cut
		}
		moments = append(moments, g.moment())
		if g.step%20 == 0 {
			g.crash(moments, synced)
			crashes++
		}
	}
	t.Logf("%d crashes", crashes)
	if crashes == 0 {
		t.Error("no crash was played")
	}
}

func (g *game) crash(moments []moment, synced map[*thing][]byte) {
	g.t.Helper()
	first, last := moments[0].log, moments[len(moments)-1].log
	cut := first + g.rand.Int64N(last-first+1)
	// What may be seen: the moment before the step whose records were cut, and the one behind it, as some steps' last record is
	// not what the guest sees of them.
	var may []moment
	for i, m := range moments {
		if m.log <= cut && (i+1 == len(moments) || moments[i+1].log >= cut) || m.log >= cut && i > 0 && moments[i-1].log <= cut {
			may = append(may, m)
		}
	}
	after := &game{rig: &rig{t: g.t, root: g.root, layer: g.t.TempDir()}, rand: g.rand, top: g.top, step: g.step, last: fmt.Sprintf("power failure at byte %d of %d..%d", cut, first, last)}
	must(g.t, os.CopyFS(filepath.Join(after.rig.layer, "content"), os.DirFS(filepath.Join(g.rig.layer, "content"))))
	for _, name := range []string{"layer.log", "layer.snapshot"} {
		data, err := os.ReadFile(filepath.Join(g.rig.layer, name))
		if os.IsNotExist(err) {
			continue
		}
		must(g.t, err)
		if name == "layer.log" {
			data = data[:cut]
		}
		must(g.t, os.WriteFile(filepath.Join(after.rig.layer, name), data, 0o600))
	}
	safe := map[uint64]bool{}
	all := g.contents()
	for m, data := range synced {
		if bytes.Equal(data, m.data) && m.qid != 0 {
			safe[all[m.qid]] = true
		}
	}
	for _, number := range all {
		if path := filepath.Join(after.rig.layer, "content", strconv.FormatUint(number, 10)); !safe[number] {
			if st, err := os.Stat(path); err == nil {
				must(g.t, os.Truncate(path, st.Size()/2))
			}
		}
	}
	if err := after.tryMount(); err != nil {
		after.fail("%v", err)
	}
	defer after.unmount()
	got := after.picture()
	why := ""
	for _, m := range may {
		if why = difference(got, m.seen); why == "" {
			for path, p := range m.seen {
				if data, is := synced[p.of]; is && bytes.Equal(data, p.of.data) && got[path].data != string(data) {
					after.fail("%q was synced with %d bytes and has %d", path, len(data), len(got[path].data))
				}
			}
			return
		}
	}
	after.fail("%s", why)
}
