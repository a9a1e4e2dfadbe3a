//go:build linux

package control

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
)

const (
	// linkDepth bounds the look for links in protected places; of names it looks at no more than lookNames.
	linkDepth = 8
	// maxLinks bounds how many of them are followed, maxFollowed how many links lie on the way of one.
	maxLinks    = 1000
	maxFollowed = 40
)

// rulesOf are the rules of a folder: with the links that its owner has in protected places, whose targets are protected like the places
// themselves. The guest can add none to the folder, as they go into the layer. hostPath is what the folder was opened by, places where the
// host has it.
func rulesOf(root ninep.Node, hostPath string, places [][]string) *names.Rules {
	rules, table := &names.Rules{}, &names.Rules{}
	for _, place := range places {
		rules.Within(place)
		table.Within(place)
	}
	hostPath = path.Clean(hostPath)
	repositories := map[string]bool{} // directories with a HEAD
	left := maxLinks
	eachDirectory(root, linkDepth, lookNames, func(v visit) bool {
		for _, d := range v.entries {
			if strings.EqualFold(d.Name, "HEAD") && d.Type != unix.DT_DIR {
				repositories[strings.Join(v.path, "/")] = true
			}
		}
		for _, d := range v.entries {
			if d.Type != unix.DT_LNK {
				continue
			}
			at := append(append([]string{}, v.path...), d.Name)
			from := table.ProtectedPlaces(at)
			for depth := 0; depth < len(at) && len(from) == 0; depth++ {
				if place := append([]string{".git"}, at[depth:]...); repositories[strings.Join(at[:depth], "/")] && names.ProtectedLink(place) {
					from = append(from, place)
				}
			}
			if len(from) == 0 {
				continue
			}
			if left--; left < 0 {
				return false
			}
			follow(root, hostPath, at, func(to []string) {
				for _, place := range from {
					rules.Follow(at, place, to)
				}
			})
		}
		return true
	}, func(path []string) bool {
		last := path[len(path)-1]
		inObjects := len(path) > 1 && path[len(path)-2] == "objects" && len(last) == 2 // of a git directory
		return last != "node_modules" && !inObjects
	})
	return rules
}

// follow tells where a link leads within the folder: to each place on the way where another link stands, which the guest could
// replace, and to the last, which need not be there. Nothing is told of one that leads out.
func follow(root ninep.Node, hostPath string, link []string, tell func(to []string)) {
	done, todo := link[:len(link)-1:len(link)-1], link[len(link)-1:]
	for followed := 0; len(todo) > 0; {
		name, rest := todo[0], todo[1:]
		switch name {
		case "", ".":
			todo = rest
			continue
		case "..":
			if len(done) > 0 {
				done, todo = done[:len(done)-1:len(done)-1], rest
				continue
			}
			// above the folder, and perhaps back into it by its own name
			var inside bool
			if done, inside = below(path.Join(append([]string{hostPath}, todo...)...), hostPath); !inside {
				return
			}
			todo, done = done, nil
			continue
		}
		next := append(done, name)
		text, isLink := linkText(root, next)
		if !isLink {
			done, todo = next, rest
			continue
		}
		if followed++; followed > maxFollowed {
			return
		}
		if followed > 1 {
			if clean, inside := below(path.Join("/", path.Join(append(next, rest...)...)), "/"); inside {
				tell(clean)
			}
		}
		todo = append(strings.Split(text, "/"), rest...)
		if strings.HasPrefix(text, "/") {
			var inside bool
			if todo, inside = below(path.Join(append([]string{text}, rest...)...), hostPath); !inside {
				return
			}
			done = nil
		}
	}
	tell(done)
}

// below gives the components of an absolute path below another.
func below(at, above string) (components []string, inside bool) {
	if at == above {
		return nil, true
	}
	rest, inside := strings.CutPrefix(at, strings.TrimSuffix(above, "/")+"/")
	if !inside {
		return nil, false
	}
	return strings.Split(rest, "/"), true
}

func linkText(root ninep.Node, path []string) (text string, isLink bool) {
	n := at(root, path)
	if n == nil {
		return "", false
	}
	defer n.Drop()
	text, err := n.Readlink()
	return text, err == nil
}
