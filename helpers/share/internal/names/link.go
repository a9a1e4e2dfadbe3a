package names

import (
	"slices"
	"strings"
)

// Lead says where a link's text may lead.
type Lead uint8

const (
	Inside   Lead = iota // to a place in the folder, as far as the text tells
	Escaping             // out of the folder
	Absolute
)

// TextLeads tells where the text of a link may lead that has depth directories above it in the folder. Only leading `..` are followed
// in mind, as those go up through real directories; one behind a name could go up from where another link leads.
func TextLeads(depth int, text string) Lead {
	if strings.HasPrefix(text, "/") {
		return Absolute
	}
	named := false
	for _, step := range strings.Split(text, "/") {
		switch {
		case step == "" || step == ".":
		case step != "..":
			named = true
		case named || depth == 0:
			return Escaping
		default:
			depth--
		}
	}
	return Inside
}

// LinkAt gives the text of the link that the folder has at a path; empty where it has something else there, an error where it has nothing.
// One that cannot be read is as one that leads out.
type LinkAt = func(path []string) (text string, err error)

// maxFollowed links are followed on one way, as Linux does.
const maxFollowed = 40

// WayLeads tells whether the way of a link's text, from the directory that the link is in, goes out of the folder through links that the
// folder has. TextLeads has seen to the text itself, so that `..` behind a name is a link's of the folder's.
func WayLeads(dir []string, text string, at LinkAt) bool {
	todo := strings.Split(text, "/")
	for followed := 0; len(todo) > 0; {
		step := todo[0]
		todo = todo[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			if len(dir) == 0 {
				return true
			}
			dir = dir[:len(dir)-1]
			continue
		}
		dir = append(dir[:len(dir):len(dir)], step)
		next, err := at(dir)
		switch {
		case err != nil:
			return slices.Contains(todo, "..") // the folder has nothing further down
		case next == "":
			continue
		}
		if followed++; followed > maxFollowed || strings.HasPrefix(next, "/") {
			return true
		}
		dir, todo = dir[:len(dir)-1], append(strings.Split(next, "/"), todo...)
	}
	return false
}

// LeadsOut tells whether a link with this text may lead out of the folder from a path.
func LeadsOut(path []string, text string, at LinkAt) bool {
	return TextLeads(len(path)-1, text) != Inside || WayLeads(path[:len(path)-1], text, at)
}
