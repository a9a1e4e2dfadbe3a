package gitrepo

import (
	"fmt"
	"strings"
)

// nameSet holds names of refs as a filesystem would: folded, since some fold case, with the folders above them.
type nameSet struct{ refs, folders map[string]string } // folded name to a ref that has it, or lies below it

func (r *Repository) hostNames() nameSet {
	s := nameSet{map[string]string{}, map[string]string{}}
	for name := range r.lower.refs.all {
		s.add(name)
	}
	return s
}

func (s nameSet) add(name string) {
	folded := strings.ToLower(name)
	s.refs[folded] = name
	for at := parentOf(folded); at != ""; at = parentOf(at) {
		s.folders[at] = name
	}
}

func (s nameSet) has(name string) bool { return s.refs[strings.ToLower(name)] != "" }

// conflict gives a ref that cannot be there beside name; empty when none is.
func (s nameSet) conflict(name string) string {
	folded := strings.ToLower(name)
	if other := s.refs[folded]; other != "" && other != name {
		return other
	}
	if other := s.folders[folded]; other != "" {
		return other
	}
	for at := parentOf(folded); at != ""; at = parentOf(at) {
		if other := s.refs[at]; other != "" {
			return other
		}
	}
	return ""
}

// parentOf is the folder above a ref, empty for what is no ref any more.
func parentOf(name string) string {
	slash := strings.LastIndexByte(name, '/')
	if slash < len(tags) {
		return ""
	}
	return name[:slash]
}

// nameConflict: a new ref needs a place that the host's refs, and the other new ones, leave it.
func (r *Repository) nameConflict() string {
	names := r.hostNames()
	for _, c := range r.changes {
		if c.kind == Deleted {
			continue
		}
		if other := names.conflict(c.name); other != "" {
			return fmt.Sprintf("%s and %s cannot both be there.", displayName(c.name), shown(displayName(other)))
		}
		names.add(c.name)
	}
	return ""
}
