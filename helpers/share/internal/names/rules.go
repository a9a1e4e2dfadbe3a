package names

import (
	"slices"
	"strings"
)

// Rules are the table together with what one folder makes of its names: where the host has it, its git directories, whatever they are
// called, and the links that its owner has in protected places. A write to what such a link leads to is a write to the protected place.
//
// Rules do not change while they are used. The zero value knows no links, and of no directory above the folder.
type Rules struct {
	// fronts stand before a path of the folder, folded; none: the folder is looked at by itself.
	fronts [][]string
	links  map[string][]link // by the first component of where they lead; "" is the folder itself
	// above are the directories above the links: moved, a link would lead elsewhere.
	above map[string]bool
}

// link is a place that a link leads to, and the place that it stands for; both folded.
type link struct{ to, from []string }

// Within notes where the host has the folder: what lies in it may get its meaning from the names of the directories above, and does from
// the folder's own. With more than one place, what is protected at any of them is.
func (r *Rules) Within(place []string) { r.fronts = append(r.fronts, spread(place)) }

// places tells whether ask does of anything that a folded path is called on the host; front is how many components stand before it.
func (r *Rules) places(path []string, ask func(place []string, front int) bool) bool {
	if len(r.fronts) == 0 {
		return ask(path, 0)
	}
	return slices.ContainsFunc(r.fronts, func(front []string) bool { return ask(slices.Concat(front, path), len(front)) })
}

// ProtectedPlaces are those by which a link at a path is in a protected place, to follow it from (Follow).
func (r *Rules) ProtectedPlaces(at []string) (all [][]string) {
	if ProtectedLink(at) {
		return [][]string{at} // wherever the folder is
	}
	r.places(spread(at), func(place []string, front int) bool {
		if reason(place, false) != "" || carries(place, front) {
			all = append(all, place)
		}
		return false
	})
	return all
}

// Follow notes that a link leads to a path in the folder. at is where it is, from the protected place (ProtectedPlaces) that it
// stands for: the same, or that of a git directory that is known by what it has.
func (r *Rules) Follow(at, from, to []string) {
	l := link{to: spread(to), from: spread(from)}
	if r.links == nil {
		r.links, r.above = map[string][]link{}, map[string]bool{}
	}
	first := first(l.to)
	if !slices.ContainsFunc(r.links[first], func(o link) bool { return slices.Equal(o.to, l.to) && slices.Equal(o.from, l.from) }) {
		r.links[first] = append(r.links[first], l)
	}
	for place := spread(at); len(place) > 1; place = place[:len(place)-1] {
		r.above[strings.Join(place[:len(place)-1], "/")] = true
	}
}

func first(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[0]
}

// Protected is the package's Protected or ProtectedDirectory for this folder.
func (r *Rules) Protected(components []string, directory bool, look Look) bool {
	path := spread(components)
	return r.places(path, func(place []string, _ int) bool { return reason(place, directory) != "" }) || inRepository(onHost(components, path), false, look) ||
		r.standsFor(path, func(place []string) bool { return reason(place, directory) != "" })
}

// ProtectedLink is the package's for this folder.
func (r *Rules) ProtectedLink(components []string, look Look) bool {
	return r.Protected(components, false, look) || r.Carries(components, look)
}

// Carries is the package's for this folder. Directories on the way to a link in a protected place, and to where it leads, carry too.
func (r *Rules) Carries(components []string, look Look) bool {
	path := spread(components)
	whole := func(place []string) bool { return carries(place, 0) }
	if r.places(path, carries) || inRepository(onHost(components, path), true, look) || r.standsFor(path, whole) ||
		len(r.above) > 0 && r.above[strings.Join(path, "/")] {
		return true
	}
	return slices.ContainsFunc(r.links[first(path)], func(l link) bool { return len(path) <= len(l.to) && slices.Equal(path, l.to[:len(path)]) })
}

// standsFor asks about each protected place that a path is by way of a link.
func (r *Rules) standsFor(path []string, ask func(place []string) bool) bool {
	if len(r.links) == 0 {
		return false
	}
	for _, some := range [2][]link{r.links[first(path)], r.links[""]} {
		for _, l := range some {
			if len(path) >= len(l.to) && slices.Equal(path[:len(l.to)], l.to) && ask(slices.Concat(l.from, path[len(l.to):])) {
				return true
			}
		}
		if len(path) == 0 {
			break
		}
	}
	return false
}

// onHost gives the folded components as the host counts them: a backslash separates nothing there.
func onHost(components, spread []string) []string {
	if len(spread) == len(components) {
		return spread
	}
	folded := make([]string, len(components))
	for i, c := range components {
		folded[i] = fold(strings.ReplaceAll(c, "\\", "_"))
	}
	return folded
}
