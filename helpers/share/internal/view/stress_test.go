//go:build linux

package view_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// scuffle does random things beside others that do the same; every answer must be one that a filesystem gives.
func scuffle(r *rig, random *rand.Rand, steps int) error {
	name := func() string { return []string{"a", "b", "c", ".envrc"}[random.IntN(4)] }
	path := func() string {
		at := ""
		for range random.IntN(3) {
			at = layer.Join(at, name())
		}
		return at
	}
	var open []ninep.File
	var nodes []ninep.Node
	defer func() {
		for _, f := range open {
			f.Close()
		}
		for _, n := range nodes {
			n.Drop()
		}
	}()
	for range steps {
		dir, err := r.at(path())
		if err == nil {
			var f ninep.File
			var n ninep.Node
			switch name := name(); random.IntN(10) {
			case 0, 1:
				n, f, err = dir.Create(name, 2|0o100, 0o644)
			case 2:
				_, err = dir.Mkdir(name, 0o755)
			case 3:
				_, err = dir.Symlink(name, "text")
			case 4:
				err = dir.Unlink(name, random.IntN(3) == 0)
			case 5:
				var to ninep.Node
				if to, err = r.at(path()); err == nil {
					err = dir.Rename(name, to, []string{"a", "b", "c", ".envrc"}[random.IntN(4)])
					to.Drop()
				}
			case 6:
				if n, err = dir.Walk(name); err == nil {
					if f, err = n.Open(uint32(random.IntN(2) * 2)); err != nil {
						n.Drop()
						n = nil
					}
				}
			case 7:
				if n, err = dir.Walk(name); err == nil {
					err = n.SetAttr(wire.SetAttr{Valid: wire.SetMode | wire.SetSize, Mode: 0o600, Size: uint64(random.IntN(9000))}, nil)
				}
			case 8:
				_, err = list(dir, 4096)
				if err != nil && !errors.As(err, new(syscall.Errno)) {
					err = nil // a name that came or went between two pieces
				}
			default:
				if len(open) > 0 {
					f := open[random.IntN(len(open))]
					if _, err = f.WriteAt([]byte("some text"), int64(random.IntN(5000))); err == nil {
						_, err = f.ReadAt(make([]byte, 100), 0)
					}
				}
			}
			if f != nil {
				open = append(open, f)
			}
			if n != nil {
				nodes = append(nodes, n)
			}
			dir.Drop()
		}
		switch err {
		case nil, syscall.ENOENT, syscall.EEXIST, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EINVAL, syscall.ELOOP, syscall.EXDEV, syscall.EBADF, syscall.EAGAIN,
			syscall.EOPNOTSUPP:
		default:
			return fmt.Errorf("an answer that no filesystem gives: %w", err)
		}
	}
	return nil
}

func TestManyAtOnceLeaveWhatAFreshMountShowsAlike(t *testing.T) {
	for _, mode := range []string{"review", "rw"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			if mode == "rw" {
				r = newRW(t)
			}
			fillFolder(t, r.root, rand.New(rand.NewPCG(1, 1)))
			before := hashFolder(t, r.root)
			r.mount()
			var group sync.WaitGroup
			for i := range 8 {
				group.Add(1)
				go func() {
					defer group.Done()
					if err := scuffle(r, rand.New(rand.NewPCG(*seedFlag, uint64(i))), *stepsFlag/8); err != nil {
						t.Error(err)
					}
				}()
			}
			group.Wait()
			first := r.picture()
			r.remount()
			second := r.picture()
			for path, s := range first {
				if now, there := second[path]; !there || now.data != s.data || now.kind != s.kind || mode == "review" && now.qid != s.qid {
					t.Errorf("%q was %x %q, and is %x %q", path, s.kind, s.data, now.kind, now.data)
				}
			}
			if len(first) != len(second) {
				t.Errorf("%d names, and %d from a fresh mount", len(first), len(second))
			}
			if mode == "review" && hashFolder(t, r.root) != before {
				t.Error("the folder was changed")
			}
		})
	}
}
