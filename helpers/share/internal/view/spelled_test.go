//go:build linux

package view

import (
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/ninep"
)

// spelled is a folder of which the host tells paths in another spelling than its names have.
type spelled struct {
	ninep.Tree
	tells func(string) string
}

func (s spelled) Root() ninep.Node { return &spelledNode{s.Tree.Root().(Object), s.tells} }

type spelledNode struct {
	Object
	tells func(string) string
}

func (n *spelledNode) Walk(name string) (ninep.Node, error) {
	child, err := n.Object.Walk(name)
	if err != nil {
		return nil, err
	}
	return &spelledNode{child.(Object), n.tells}, nil
}

func (n *spelledNode) Place() (string, error) {
	place, err := n.Object.Place()
	return n.tells(place), err
}

// Whoever asks first for a name on a host that folds case spells it for all who ask the kernel after that.
func TestADirectoryIsWhereItIsHoweverTheHostSpellsIt(t *testing.T) {
	for name, c := range map[string]struct {
		tells func(string) string
		want  error
	}{
		"as it stands":        {func(s string) string { return s }, nil},
		"in another spelling": {strings.ToUpper, nil},
		"elsewhere":           {func(s string) string { return "elsewhere/" + s }, syscall.ESTALE},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, Options{})
			w.put("src/deep/x", "text")
			w.mount()
			tree, err := New(Options{Lower: spelled{w.lower, c.tells}, Layer: w.layer, UID: 1000, GID: 1000})
			must(t, err)
			w.tree = tree
			for _, dir := range []string{"src", "src/deep"} {
				for _, name := range []string{"one", "two"} { // the layer knows nothing of it, and has it
					if err := w.write(dir+"/"+name, "new", openCreate); err != c.want {
						t.Errorf("%s/%s: %v, want %v", dir, name, err, c.want)
					}
				}
			}
			if got, err := w.read("src/deep/x"); err != nil || got != "text" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
