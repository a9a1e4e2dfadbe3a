package names

import "strings"

// rule is an entry made ready: its components folded.
type rule struct {
	components []string
	reason     string
}

// rules finds entries by their first component.
type rules struct {
	exact map[string][]rule
	// globs are those with a '*' in it that may be meant by a name which begins with a byte, in the table's order.
	globs [256][]glob
	all   []rule
}

// glob is a rule with what its first component ends with, as a look at one byte rules out nearly all: every change of a name asks, for each
// component of its path.
type glob struct {
	rule
	last byte
	any  bool // it ends with the '*'
}

var (
	protected = compile(table)
	inGitDir  = compile(gitTable)
)

func compile(entries []entry) rules {
	r := rules{exact: make(map[string][]rule)}
	for _, e := range entries {
		c := rule{reason: e.reason}
		for _, component := range strings.Split(e.path, "/") {
			c.components = append(c.components, fold(component))
		}
		r.all = append(r.all, c)
		first := c.components[0]
		star := strings.IndexByte(first, '*')
		if star < 0 {
			r.exact[first] = append(r.exact[first], c)
			continue
		}
		last := first[len(first)-1]
		for b := range r.globs {
			if star == 0 || first[0] == byte(b) {
				r.globs[b] = append(r.globs[b], glob{c, last, last == '*'})
			}
		}
	}
	return r
}

// at finds the entry that path begins with. With partial, a path that ends before the entry does is found too.
func (r *rules) at(path []string, partial bool) (rule, bool) {
	name := path[0]
	exact := r.exact[name]
	if strings.IndexByte(name, '~') >= 0 {
		exact = r.all
	}
	for i := range exact {
		if c := &exact[i]; c.begins(path, partial) {
			return *c, true
		}
	}
	if name == "" {
		return rule{}, false // no entry has a component that is nothing but a '*'
	}
	last := name[len(name)-1]
	some := r.globs[name[0]]
	for i := range some {
		if c := &some[i]; (c.any || c.last == last) && c.begins(path, partial) {
			return c.rule, true
		}
	}
	return rule{}, false
}

func (c *rule) begins(path []string, partial bool) bool {
	if len(path) < len(c.components) && !partial {
		return false
	}
	for i := range min(len(path), len(c.components)) {
		if !same(c.components[i], path[i]) {
			return false
		}
	}
	return true
}

// same compares a folded name with one component of an entry.
func same(pattern, name string) bool {
	head, rest, glob := strings.Cut(pattern, "*")
	if !glob {
		return pattern == name || strings.IndexByte(name, '~') >= 0 && shortOf(name, pattern)
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], after
	}
}

// gitDir tells that a folded name names a git directory, or the file that points to one.
func gitDir(name string) bool {
	return strings.HasSuffix(name, ".git") || strings.IndexByte(name, '~') >= 0 && shortOf(name, ".git")
}

// Look tells whether the folder has, on the host, a name in the directory that the first depth components of a path lead
// to, in whatever spelling the host takes for it. A HEAD that is a directory does not count.
type Look func(depth int, name string) bool

// Protected tells whether a path, relative to the folder, is a place that a program on the host obeys: writes to it go
// into the layer. For what is known to be a directory, ask ProtectedDirectory.
func Protected(components []string) bool { return reason(spread(components), false) != "" }

// ProtectedDirectory is Protected for a directory: one named `.git` or `HEAD` is free, what lies in it may not be.
func ProtectedDirectory(components []string) bool { return reason(spread(components), true) != "" }

// ProtectedLink is Protected for a symbolic link. One in the place of a directory that gives names below it their meaning
// (`.hg`, `.config`, anything in a git directory) gives it to the files of the directory that it leads to.
func ProtectedLink(components []string) bool { return Protected(components) || Carries(components) }

// Reason says why a file, link or directory at a path is protected; empty where it is not.
func Reason(components []string, directory bool) string { return reason(spread(components), directory) }

func reason(path []string, directory bool) string {
	git := -1 // where the innermost git directory is
	for i := range path {
		if rule, found := protected.at(path[i:], false); found {
			return rule.reason
		}
		if i == len(path)-1 {
			break
		}
		if gitDir(path[i]) {
			git = i
			if reason := gitReason(path[i+1:]); reason != "" {
				return reason
			}
		}
	}
	if directory || len(path) == 0 {
		return ""
	}
	switch last := path[len(path)-1]; {
	case last == ".git" || shortOf(last, ".git"):
		return gitPointer
	case last == "head" && (git < 0 || !headOfGit(path[git+1:len(path)-1])):
		return bareHead
	}
	return ""
}

// headOfGit tells that a HEAD in a directory, relative to its git directory, is one of those that git itself has. Wherever a HEAD is free, something else
// without which its directory is no git directory, or all that git would obey there, must be protected: else a guest could
// make a git directory of its own below one that is known, with any config.
func headOfGit(dir []string) bool {
	switch {
	case len(dir) == 0:
		return true // gitTable
	case manyGitDirs(dir[0]):
		return len(dir) > 1 // gitTable at any depth, see gitReason
	case dir[0] == "logs":
		dir = dir[1:]
		if len(dir) == 0 {
			return true // logs/objects, logs/commondir
		}
	}
	return len(dir) == 3 && dir[0] == "refs" && dir[1] == "remotes" // refs/remotes/*/objects and others
}

// manyGitDirs tells that a folded name in a git directory is where it has the git directories of submodules or worktrees.
func manyGitDirs(name string) bool {
	return name == "modules" || name == "worktrees" || shortOf(name, "worktrees")
}

func gitReason(rest []string) string {
	if rule, found := inGitDir.at(rest, false); found {
		return rule.reason
	}
	// The git directories of submodules, whose names may have several components, and of worktrees. A branch of a
	// submodule that is called like an entry is protected needlessly.
	if manyGitDirs(rest[0]) {
		for i := 2; i < len(rest); i++ {
			if rule, found := inGitDir.at(rest[i:], false); found {
				return rule.reason
			}
		}
	}
	return ""
}

// Carries tells whether names below a directory at this path get their meaning from the directory's own name, so that
// moving a directory there could make files protected that lie in it, and moving one away could make what is
// protected in it look ordinary. Such a move is kept in the layer as a whole.
func Carries(components []string) bool { return carries(spread(components), 0) }

// carries is Carries for a path whose first components, front of them, stand above the folder. What is in a git directory there gives
// nothing a meaning unless the folder is in a part of it that does.
func carries(path []string, front int) bool {
	for i := range path {
		if gitDir(path[i]) && (i >= front || hasMeaning(path[i+1:front])) {
			return true
		}
		if _, found := protected.at(path[i:], true); found {
			return true
		}
	}
	return false
}

// hasMeaning tells whether git looks at names in a directory, relative to its git directory.
func hasMeaning(dir []string) bool {
	if len(dir) == 0 {
		return true
	}
	_, leads := inGitDir.at(dir, true)
	return leads || manyGitDirs(dir[0])
}

// inRepository tells that a path, folded, is in a git directory that is one by what the host has in it, whatever its name, at a place
// that is protected in git directories. partial: or at one that leads there.
//
// A HEAD alone makes one: a guest can make none (bareHead), so one that is there is the host's, and the guest could add the
// rest. Where git has a HEAD in what is no git directory (headOfGit), the rest must be there too: branches of a remote may
// have any name.
func inRepository(path []string, partial bool, look Look) bool {
	git := -1 // where the innermost git directory is that is known by its name
	for i := range path {
		rest := path[i:]
		found := gitReason(rest) != ""
		if partial && !found {
			_, leads := inGitDir.at(rest, true)
			found = leads || manyGitDirs(rest[0])
		}
		if found && look(i, "HEAD") && (git < 0 || !headOfGit(path[git+1:i]) || look(i, "objects") && look(i, "refs")) {
			return true
		}
		if gitDir(path[i]) {
			git = i
		}
	}
	return false
}
