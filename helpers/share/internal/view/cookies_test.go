//go:build linux

package view

import (
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// hashed is a folder whose listings have cookies as large as those of a filesystem that hashes its names.
type hashed struct{ ninep.Tree }

func (h hashed) Root() ninep.Node { return hashedNode{h.Tree.Root().(Object)} }

type hashedNode struct{ Object }

func (n hashedNode) Walk(name string) (ninep.Node, error) {
	child, err := n.Object.Walk(name)
	if err != nil {
		return nil, err
	}
	return hashedNode{child.(Object)}, nil
}

func (n hashedNode) Open(flags uint32) (ninep.File, error) {
	f, err := n.Object.Open(flags)
	if err != nil {
		return nil, err
	}
	return hashedFile{f}, nil
}

type hashedFile struct{ ninep.File }

const hashBase = ownCookie - 2

func (f hashedFile) ReadDir(b []byte, offset uint64) ([]byte, error) {
	if offset != 0 {
		offset -= hashBase
	}
	got, err := f.File.ReadDir(make([]byte, 0, cap(b)-len(b)), offset)
	if err != nil {
		return nil, err
	}
	entries, err := wire.Dirents(got)
	for _, d := range entries {
		b = wire.AppendDirent(b, d.QID, d.Offset+hashBase, d.Type, []byte(d.Name))
	}
	return b, err
}
