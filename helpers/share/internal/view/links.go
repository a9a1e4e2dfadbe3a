//go:build linux

package view

import (
	"slices"
	"syscall"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Links that lead out of the folder. The guest's kernel follows them in the guest, which harms nobody; a program of the host's that follows
// one acts on a file of its user's that the task was never given.

// LinkText gives the text of a link of the folder's; empty of anything else. One that cannot be read counts as one that leads out.
func LinkText(n ninep.Node) string {
	if n.QID().Type&wire.QTSymlink == 0 {
		return ""
	}
	text, err := n.Readlink()
	if err != nil {
		return "/"
	}
	return text
}

func (t *Tree) linkAt(path []string) (string, error) {
	at, err := t.lowerAt(path)
	if err != nil {
		return "", err
	}
	defer at.Drop()
	return LinkText(at), nil
}

// staysApart tells whether a link with this text goes into the layer at a place whose files go through: the place gives its meaning to what
// it leads to, or it leads out.
func (p *place) staysApart(text string) bool {
	t := p.dir.tree
	return p.carries() || t.options.LeadsOut != nil && t.options.LeadsOut(p.path, text, t.linkAt)
}

// maxCarried bounds how many names a rename looks at in a directory that it moves.
const maxCarried = 200_000

// leadsOut tells whether a directory that goes to another place in the folder takes a link along that leads out from there; also where it
// holds more than can be looked at. A link of the task's in it that led nowhere else may do so one directory further up, and one of the
// user's own would stand under a name that its user never gave it.
func (t *Tree) leadsOut(from, dest *place, moved *node) bool {
	low := moved.now().low
	if t.options.LeadsOut == nil || low == nil {
		return false
	}
	// The folder has the directory at its old place still.
	at := func(path []string) (string, error) {
		if len(path) >= len(dest.path) && slices.Equal(path[:len(dest.path)], dest.path) {
			path = slices.Concat(from.path, path[len(dest.path):])
		}
		return t.linkAt(path)
	}
	found, left := false, maxCarried
	var look func(dir ninep.Node, path []string)
	look = func(dir ninep.Node, path []string) {
		var below []string
		err := ninep.EachName(dir, func(d wire.Dirent) bool {
			left--
			switch inside := append(path[:len(path):len(path)], d.Name); {
			case left < 0, length(inside) > maxPath:
				found = true
			case d.QID.Type&wire.QTDir != 0:
				below = append(below, d.Name)
			case d.QID.Type&wire.QTSymlink != 0:
				link, err := dir.Walk(d.Name)
				if err != nil {
					found = err != syscall.ENOENT
					break
				}
				found = t.options.LeadsOut(inside, LinkText(link), at)
				link.Drop()
			}
			return !found
		})
		found = found || err != nil
		for _, name := range below {
			if found {
				return
			}
			next, err := dir.Walk(name)
			if err != nil {
				found = err != syscall.ENOENT
				continue
			}
			look(next, append(path[:len(path):len(path)], name))
			next.Drop()
		}
	}
	look(low, dest.path)
	return found
}
