//go:build linux

package hostfs_test

import (
	"fmt"
	"os"
	"testing"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

func TestReadAndWriteReachTheFolder(t *testing.T) {
	s := newShare(t, false)
	must(t, s.Walk(rootFid, 2))
	_, err := s.Do(&wire.Tlcreate{Fid: 2, Name: "new", Flags: 2, Mode: 0o644})
	must(t, err)
	w, err := ninetest.Ask[*wire.Rwrite](s.Client, &wire.Twrite{Fid: 2, Offset: 0, Data: []byte("hello")})
	must(t, err)
	if w.Count != 5 {
		t.Fatalf("wrote %d", w.Count)
	}
	r, err := ninetest.Ask[*wire.Rread](s.Client, &wire.Tread{Fid: 2, Offset: 1, Count: 100})
	must(t, err)
	if string(r.Data) != "ello" {
		t.Fatalf("read %q", r.Data)
	}
	got, err := os.ReadFile(s.host("new"))
	must(t, err)
	if string(got) != "hello" {
		t.Fatalf("the folder has %q", got)
	}
}

func TestListingTellsEveryNameOnce(t *testing.T) {
	s := newShare(t, false)
	want := map[string]bool{".": true, "..": true}
	for i := range 3000 {
		name := fmt.Sprintf("file-%04d", i)
		s.put(name, "")
		want[name] = true
	}
	for _, count := range []uint32{1 << 19, 8192, 400} {
		must(t, s.Walk(rootFid, 2))
		_, err := s.Do(&wire.Tlopen{Fid: 2, Flags: 0o200000})
		must(t, err)
		seen := map[string]bool{}
		var cookie uint64
		for {
			r, err := ninetest.Ask[*wire.Rreaddir](s.Client, &wire.Treaddir{Fid: 2, Offset: cookie, Count: count})
			must(t, err)
			entries, err := wire.Dirents(r.Data)
			must(t, err)
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				if seen[e.Name] {
					t.Fatalf("%s twice", e.Name)
				}
				seen[e.Name] = true
				cookie = e.Offset
			}
		}
		if len(seen) != len(want) {
			t.Fatalf("count %d: %d names, want %d", count, len(seen), len(want))
		}
		_, err = s.Do(&wire.Tclunk{Fid: 2})
		must(t, err)
	}
}
