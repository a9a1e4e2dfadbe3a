//go:build linux

package changes

import (
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
)

func TestPlacesComeInTheOrderOfTheirPaths(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type line struct {
		dir  *place
		name string
	}
	for range 200 {
		dirs := []*place{nil}
		paths := map[string]line{}
		for range 60 {
			dir := dirs[random.IntN(len(dirs))]
			name := ""
			for range 1 + random.IntN(2) {
				name += string("a-0~/"[random.IntN(4)])
			}
			if _, taken := paths[pathIn(dir, name)]; taken {
				continue
			}
			paths[pathIn(dir, name)] = line{dir, name}
			dirs = append(dirs, placeIn(dir, name))
		}
		var want []string
		var got []line
		for path, l := range paths {
			want, got = append(want, path), append(got, l)
		}
		sort.Strings(want)
		sort.Slice(got, func(i, j int) bool { return comesBefore(got[i].dir, got[i].name, got[j].dir, got[j].name) })
		for i := range want {
			if path := pathIn(got[i].dir, got[i].name); path != want[i] {
				t.Fatalf("%d is %q, want %q", i, path, want[i])
			}
		}
	}
	if !comesBefore(nil, "", nil, "a") || comesBefore(nil, "a", nil, "a") {
		t.Error("the folder itself does not come first, or a path before itself")
	}
}

func TestAPathThatIsLongerThanIsShownIsToldByItsEnd(t *testing.T) {
	var dir *place
	for range 2000 {
		dir = placeIn(dir, "abcd")
	}
	if path := pathIn(dir, "end"); len(path) != MaxPath+1 || !strings.HasSuffix(path, "/abcd/end") {
		t.Errorf("%d bytes: %q", len(path), path)
	}
	if dir.length != 2000*5-1 || dir.depth != 2000 {
		t.Errorf("%d, %d", dir.length, dir.depth)
	}
}
