//go:build linux

package changes

import (
	"strings"

	"cloche/share/internal/layer"
)

// place is a directory of one listing. A path is made of places when it is needed: those of all nodes at once would take as many times the
// longest path as there are nodes.
type place struct {
	up            *place // nil: the folder itself
	name          string
	depth, length int
}

func placeIn(up *place, name string) *place {
	p := &place{up: up, name: name, depth: 1, length: len(name)}
	if up != nil {
		p.depth, p.length = up.depth+1, up.length+1+len(name)
	}
	return p
}

// pathIn is the path of a name in a directory; of one that is longer than is shown, one byte more of its end than that.
func pathIn(up *place, name string) string {
	parts := []string{name}
	length := len(name)
	for ; up != nil && length <= MaxPath; up = up.up {
		parts, length = append(parts, up.name), length+1+len(up.name)
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return endOf(strings.Join(parts, "/"))
}

func endOf(path string) string { return path[max(0, len(path)-MaxPath-1):] }

// above gives the directory at a depth on the way to a place.
func (p *place) above(depth int) *place {
	for p != nil && p.depth > depth {
		p = p.up
	}
	return p
}

func (p *place) level() int {
	if p == nil {
		return 0
	}
	return p.depth
}

// comesBefore orders paths by their bytes.
func comesBefore(a *place, aName string, b *place, bName string) bool {
	aMore, bMore := false, false
	for a.level() > b.level() {
		a, aName, aMore = a.up, a.name, true
	}
	for b.level() > a.level() {
		b, bName, bMore = b.up, b.name, true
	}
	for a != b {
		a, aName, aMore = a.up, a.name, true
		b, bName, bMore = b.up, b.name, true
	}
	if aName == bName {
		return !aMore && bMore
	}
	if aMore {
		aName += "/"
	}
	if bMore {
		bName += "/"
	}
	return aName < bName
}

// wake gives a part its path, rest takes it away again.
func (p *part) wake() {
	if p.path == "" {
		p.path = pathIn(p.dir, p.node.Name)
	}
}

func (p *part) rest() { p.path = "" }

// where is the path of a change, also of one that rests.
func (c *Change) where() string {
	if c.Path != "" || c.name == "" {
		return c.Path
	}
	return pathIn(c.dir, c.name)
}

// named gives a change of a listing as it is shown.
func (c *Change) named() *Change {
	shown := *c
	shown.Path = c.where()
	return &shown
}

// woken gives a change with the paths of its parts, unless it has more of them than are ever applied.
func (c *Change) woken(most int) *Change {
	w := c.named()
	if len(c.parts) > most {
		return w
	}
	w.parts = append([]part{}, c.parts...)
	for i := range w.parts {
		w.parts[i].wake()
	}
	return w
}

// isAbove tells whether a change is a directory on the way to another of the same listing.
func (c *Change) isAbove(other *Change) bool {
	self := c.parts[0].self
	return self != nil && other.dir.above(self.depth) == self
}

// places are a listing's by the nodes' numbers.
type places map[layer.ID]*place

func (all places) of(n *layer.Node) (dir, self *place) {
	dir = all[n.Parent]
	if n.Kind == layer.Directory || n.Base != nil && n.Base.Kind == layer.Directory {
		self = placeIn(dir, n.Name)
		all[n.ID] = self
	}
	return dir, self
}
