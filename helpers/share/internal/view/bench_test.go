//go:build linux

package view_test

import (
	"fmt"
	"os"
	"testing"

	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// The tree alone, without 9P and without a guest, so that what the view costs shows: "folder" is hostfs without it.

func benchRig(b *testing.B, mode string) (*rig, ninep.Tree) {
	r := newRig(b)
	if mode != "review" {
		r = newRW(b)
	}
	with := r.options
	r.options = func(o *view.Options) {
		if with != nil {
			with(o)
		}
		o.Hidden = names.Temporary
	}
	must(b, os.Mkdir(r.host("d"), 0o755))
	for i := range 2000 {
		r.hostWrite(fmt.Sprintf("d/file-%04d", i), "some content of a file")
	}
	r.mount()
	if mode == "folder" {
		return r, r.lower
	}
	return r, r.tree
}

func eachMode(b *testing.B, do func(b *testing.B, d ninep.Node)) {
	for _, mode := range []string{"folder", "rw", "review"} {
		b.Run(mode, func(b *testing.B) {
			_, tree := benchRig(b, mode)
			root := tree.Root()
			defer root.Drop()
			d, err := root.Walk("d")
			must(b, err)
			defer d.Drop()
			b.ResetTimer()
			do(b, d)
		})
	}
}

func BenchmarkStat(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		for i := range b.N {
			n, err := d.Walk(fmt.Sprintf("file-%04d", i%2000))
			must(b, err)
			_, err = n.Attr()
			must(b, err)
			n.Drop()
		}
	})
}

func BenchmarkReadWhole(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		buffer := make([]byte, 4096)
		for i := range b.N {
			n, err := d.Walk(fmt.Sprintf("file-%04d", i%2000))
			must(b, err)
			f, err := n.Open(0)
			must(b, err)
			_, err = f.ReadAt(buffer, 0)
			must(b, err)
			f.Close()
			n.Drop()
		}
	})
}

func BenchmarkRead4K(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		n, err := d.Walk("file-0000")
		must(b, err)
		defer n.Drop()
		f, err := n.Open(0)
		must(b, err)
		defer f.Close()
		buffer := make([]byte, 4096)
		for b.Loop() {
			_, _ = f.ReadAt(buffer, 0)
		}
	})
}

func BenchmarkList2000(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		for b.Loop() {
			f, err := d.Open(0o200000)
			must(b, err)
			room := make([]byte, 0, 64<<10)
			for cookie := uint64(0); ; {
				got, err := f.ReadDir(room, cookie)
				must(b, err)
				if len(got) == 0 {
					break
				}
				for len(got) > 0 {
					cookie, _, got, _ = wire.NextDirent(got)
				}
			}
			f.Close()
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		data := make([]byte, 4096)
		for i := range b.N {
			n, f, err := d.Create(fmt.Sprintf("new-%d", i), 1|0o100, 0o644)
			must(b, err)
			_, err = f.WriteAt(data, 0)
			must(b, err)
			f.Close()
			n.Drop()
		}
	})
}

func BenchmarkWrite4K(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		n, f, err := d.Create("new", 1|0o100, 0o644)
		must(b, err)
		defer n.Drop()
		defer f.Close()
		data := make([]byte, 4096)
		for i := range b.N {
			_, err = f.WriteAt(data, int64(i%1000)*4096)
			must(b, err)
		}
	})
}

func BenchmarkCreateAndUnlink(b *testing.B) {
	eachMode(b, func(b *testing.B, d ninep.Node) {
		for i := range b.N {
			name := fmt.Sprintf("new-%d", i)
			n, f, err := d.Create(name, 1|0o100, 0o644)
			must(b, err)
			f.Close()
			n.Drop()
			must(b, d.Unlink(name, false))
		}
	})
}
