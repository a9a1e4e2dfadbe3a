package gitrepo

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// commit is what is needed of one.
type commit struct {
	tree    ID
	parents []ID
	author  string // "name <address> seconds zone"
	faults  string // what git's fsck says against it, beyond what keeps it from being read
	date    int64  // the committer's, in seconds; any number a guest likes
	message []byte
}

const maxParents = 256

func (f *format) parseCommit(b []byte) (commit, error) {
	var c commit
	head, message, _ := bytes.Cut(b, []byte("\n\n"))
	if bytes.IndexByte(head, 0) >= 0 {
		return c, malformed("a commit has a NUL in its header")
	}
	c.message = message
	lines := strings.Split(string(head), "\n")
	next := func(key string) (string, bool) {
		if len(lines) == 0 {
			return "", false
		}
		value, ok := strings.CutPrefix(lines[0], key+" ")
		if ok {
			lines = lines[1:]
		}
		return value, ok
	}
	text, _ := next("tree")
	var ok bool
	if c.tree, ok = f.parseID(text); !ok {
		return c, malformed("a commit names no tree")
	}
	for {
		text, ok := next("parent")
		if !ok {
			break
		}
		id, ok := f.parseID(text)
		if !ok || len(c.parents) == maxParents {
			return c, malformed("a commit's parents are not readable")
		}
		c.parents = append(c.parents, id)
	}
	if c.author, ok = next("author"); !ok {
		return c, malformed("a commit names no author")
	}
	committer, ok := next("committer")
	if !ok {
		return c, malformed("a commit names no committer")
	}
	for _, who := range []string{c.author, committer} {
		if c.faults == "" {
			c.faults = identFault(who)
		}
	}
	if c.faults == "" && bytes.IndexByte(message, 0) >= 0 {
		c.faults = "a NUL in its message"
	}
	if fields := strings.Fields(committer[strings.LastIndexByte(committer, '>')+1:]); len(fields) > 0 {
		c.date, _ = strconv.ParseInt(fields[0], 10, 64)
	}
	return c, nil
}

// identFault is what git's fsck says against "name <address> seconds zone"; empty for nothing.
func identFault(who string) string {
	name, rest, ok := strings.Cut(who, "<")
	address, when, ok2 := strings.Cut(rest, ">")
	switch {
	case !ok || !ok2 || strings.ContainsAny(address, "<\n"):
		return "no address of its author or committer"
	case name == "" || name[len(name)-1] != ' ' || strings.Contains(name, ">"):
		return "no name of its author or committer"
	}
	seconds, zone, _ := strings.Cut(strings.TrimPrefix(when, " "), " ")
	_, err := strconv.ParseInt(seconds, 10, 62)
	if err != nil || !strings.HasPrefix(when, " ") || seconds[0] < '0' || seconds[0] > '9' || seconds[0] == '0' && seconds != "0" {
		return "no date that git reads"
	}
	if _, err := strconv.ParseUint(zone[min(1, len(zone)):], 10, 16); err != nil || len(zone) != 5 || zone[0] != '+' && zone[0] != '-' || zone[1] == '+' {
		return "no zone that git reads"
	}
	return ""
}

// tagTarget reads a tag's object and type.
func (f *format) tagTarget(b []byte) (ID, objectType, error) {
	lines := strings.SplitN(string(b[:min(len(b), 4<<10)]), "\n", 4)
	if len(lines) < 4 {
		return "", 0, malformed("a tag is cut short")
	}
	object, _ := strings.CutPrefix(lines[0], "object ")
	kind, _ := strings.CutPrefix(lines[1], "type ")
	id, ok := f.parseID(object)
	t, ok2 := typeNamed(kind)
	if !ok || !ok2 || !strings.HasPrefix(lines[2], "tag ") {
		return "", 0, malformed("a tag's header is not one")
	}
	return id, t, nil
}

// Modes of tree entries.
const (
	treeDir  = 0o040000
	treeLink = 0o120000
	treeSub  = 0o160000
)

type treeEntry struct {
	mode uint32
	zero bool // the mode begins with a zero, as some old programs wrote it
	name string
	id   ID
}

func (e treeEntry) isDir() bool { return e.mode&modeType == treeDir }
func (e treeEntry) isSub() bool { return e.mode&modeType == treeSub }

// parseTree reads a tree in the order that git demands.
func (f *format) parseTree(b []byte) ([]treeEntry, error) {
	var entries []treeEntry
	for len(b) > 0 {
		space := bytes.IndexByte(b, ' ')
		if space < 1 || space > 7 {
			return nil, malformed("a tree has an entry without a mode")
		}
		mode, err := strconv.ParseUint(string(b[:space]), 8, 32)
		if err != nil {
			return nil, malformed("a tree has an entry without a mode")
		}
		zero := b[0] == '0'
		b = b[space+1:]
		end := bytes.IndexByte(b, 0)
		if end < 1 || len(b) < end+1+f.size {
			return nil, malformed("a tree is cut short")
		}
		e := treeEntry{uint32(mode), zero, string(b[:end]), ID(b[end+1 : end+1+f.size])}
		b = b[end+1+f.size:]
		switch e.mode & modeType {
		case treeDir, modeFile, treeLink, treeSub:
		default:
			return nil, malformed("a tree has an entry of a mode that does not exist")
		}
		if e.id.isZero() || strings.IndexByte(e.name, '/') >= 0 {
			return nil, malformed("a tree has an entry that cannot be")
		}
		if len(entries) > 0 && entries[len(entries)-1].sortKey() >= e.sortKey() {
			return nil, malformed("a tree is not in order")
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// sortKey: git sorts a directory as if its name ended with a slash.
func (e treeEntry) sortKey() string {
	if e.isDir() {
		return e.name + "/"
	}
	return e.name
}

// harmful tells why a host's git, now or on another system, should never see an entry. It is what git's fsck and
// checkout guard against, so no honest repository has any.
func harmful(name string, mode uint32) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "a name that is no name"
	case strings.ContainsAny(name, "/\\\x00"):
		return "a name with a separator in it"
	case len(name) > 4096:
		return "a name longer than any file's"
	case looksLike(name, "git"):
		return "a name that some system takes for .git"
	case mode&modeType == treeLink && looksLike(name, "gitmodules"):
		return ".gitmodules as a link"
	}
	return ""
}

// looksLike tells whether some filesystem takes name for "." + what: case is folded, HFS+ ignores some code points,
// NTFS ignores trailing dots and spaces, has streams behind a colon and short names.
func looksLike(name, what string) bool {
	var plain strings.Builder
	for _, r := range name {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		default:
			plain.WriteRune(unicode.ToLower(r))
		}
	}
	n, _, _ := strings.Cut(plain.String(), ":")
	n = strings.TrimRight(n, " .")
	if n == "."+what {
		return true
	}
	// Short names: six letters (or a hash of four and more), a tilde, a digit.
	short := what[:min(len(what), 6)]
	head, digit, ok := strings.Cut(n, "~")
	return ok && len(digit) == 1 && digit[0] >= '1' && digit[0] <= '9' && (head == short || what != "git" && strings.HasPrefix(head, "gi7eb"))
}

// harmfulModules tells why a .gitmodules file may not be taken: values that old gits ran or left the folder by.
// Each line is looked at by itself, whatever section it is in, so what git's parser would make of it does not matter.
func harmfulModules(b []byte) string {
	if len(b) > 1<<20 {
		return "more than 1 MiB"
	}
	// A line that is continued is one line to git.
	text := strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(string(b))
	for _, line := range strings.Split(text, "\n") {
		line = strings.ToLower(strings.TrimSpace(line))
		if strings.HasPrefix(line, "[") {
			for _, part := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("/\\\"[] ", r) }) {
				if part == ".." {
					return "a submodule's name that leads out of its place"
				}
			}
			_, line, _ = strings.Cut(line, "]")
			line = strings.TrimSpace(line)
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), "\"")
		switch {
		case (key == "url" || key == "path") && strings.HasPrefix(value, "-"):
			return "a submodule's " + key + " that is an option"
		case key == "url" && (strings.Contains(value, "%0a") || strings.Contains(value, "\\n") || strings.HasPrefix(value, "ext::")):
			return "a submodule's url that is not one"
		case key == "path" && strings.ContainsRune(value, '\r'):
			return "a submodule's path with a control character"
		case key == "update" && strings.HasPrefix(value, "!"):
			return "a submodule's update that is a command"
		}
	}
	return ""
}

// harmfulAttributes: git's fsck says no to such a file, since older gits wrote beyond their memory.
func harmfulAttributes(b []byte) string {
	for line := range bytes.Lines(b) {
		if len(line) > 2048 {
			return "a line of more than 2048 bytes"
		}
	}
	return ""
}

// isBranchName is git check-ref-format for what comes after refs/heads/ or refs/tags/, stricter where a name is
// shown to people: it is printable text.
func isBranchName(name string) bool {
	if name == "" || len(name) > 200 || !utf8.ValidString(name) || strings.HasSuffix(name, ".") || name == "HEAD" || name[0] == '-' {
		return false
	}
	if strings.ContainsAny(name, " ~^:?*[\\\x7f") || strings.Contains(name, "..") || strings.Contains(name, "@{") || name == "@" {
		return false
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(strings.ToLower(part), ".lock") {
			return false
		}
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// shown makes text of a guest's fit for a line: control characters and those that turn the direction become visible.
func shown(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) || r == '\t' {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
