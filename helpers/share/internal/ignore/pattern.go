package ignore

import (
	"bytes"
	"strings"
)

const (
	maxFile     = 256 << 10 // bytes of one file; what follows is not looked at
	maxPatterns = 4096      // of one file
)

// Patterns are those of one file, relative to the directory it lies in.
type Patterns struct{ list []pattern }

type pattern struct {
	segments  []string // between slashes; the escape of a slash is gone, other escapes are kept
	base      bool     // without a slash: matches a name at any depth
	directory bool     // matches directories only
	negated   bool
}

// Parse reads a .gitignore or .git/info/exclude.
func Parse(file []byte) *Patterns {
	p := &Patterns{}
	if len(file) > maxFile {
		file = file[:bytes.LastIndexByte(file[:maxFile], '\n')+1] // half a pattern may match more than the whole
	}
	file = bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	for line := range bytes.Lines(file) {
		if len(p.list) == maxPatterns {
			break
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if parsed, ok := parse(string(line)); ok {
			p.list = append(p.list, parsed)
		}
	}
	return p
}

func parse(line string) (pattern, bool) {
	// git ends a pattern at a NUL
	line, _, _ = strings.Cut(line, "\x00")
	if line == "" || line[0] == '#' {
		return pattern{}, false
	}
	line = trimSpaces(line)
	var p pattern
	if strings.HasPrefix(line, "!") {
		p.negated = true
		line = line[1:]
	}
	if strings.HasSuffix(line, "/") {
		p.directory = true
		line = line[:len(line)-1]
	}
	p.base = strings.IndexByte(line, '/') < 0
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return pattern{}, false
	}
	if p.base {
		p.segments = []string{line}
		return p, true
	}
	segments, ok := split(line)
	p.segments = segments
	return p, ok
}

// trimSpaces cuts spaces from the end, up to one that a backslash escapes.
func trimSpaces(line string) string {
	end := 0 // behind the last byte that stays
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case ' ':
			continue
		case '\\':
			i++
			if i == len(line) {
				return line
			}
		}
		end = i + 1
	}
	return line[:end]
}

// split cuts a pattern at its slashes. One inside of a bracket expression is a member that matches nothing. A pattern
// with an unfinished bracket matches nothing at all.
func split(line string) ([]string, bool) {
	var segments []string
	var segment strings.Builder
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '/':
			segments = append(segments, segment.String())
			segment.Reset()
		case '\\':
			if i+1 < len(line) && line[i+1] == '/' {
				if any(segment.String()) {
					segments = append(segments, "*") // before an escaped slash, stars stand for one component at least
				}
				continue
			}
			segment.WriteByte('\\')
			if i+1 < len(line) {
				i++
				segment.WriteByte(line[i])
			}
		case '[':
			length := bracket(line[i:])
			if length == 0 {
				return nil, false
			}
			segment.WriteString(line[i : i+length])
			i += length - 1
		default:
			segment.WriteByte(line[i])
		}
	}
	return append(segments, segment.String()), true
}

// bracket gives the length of the bracket expression that s begins with, 0 if it has no end.
func bracket(s string) int {
	_, length := member(s, 0)
	return length
}

type verdict int8

const (
	unknown verdict = iota
	ignored
	included
)

// match gives what the last pattern that matches says. steps is lowered by the work done.
func (p *Patterns) match(path []string, directory bool, steps *int) verdict {
	for i := len(p.list) - 1; i >= 0; i-- {
		pattern := &p.list[i]
		*steps--
		if pattern.directory && !directory {
			continue
		}
		if pattern.matches(path, steps) {
			if pattern.negated {
				return included
			}
			return ignored
		}
		if *steps < 0 {
			return unknown
		}
	}
	return unknown
}

func (p *pattern) matches(path []string, steps *int) bool {
	if p.base {
		return component(p.segments[0], path[len(path)-1], steps)
	}
	// As for characters, so for components: `**` is the star here, and only the last one seen has to be tried again.
	i, j := 0, 0
	star, from := -1, 0
	for j < len(path) {
		*steps--
		switch {
		case *steps < 0:
			return false
		case i < len(p.segments) && any(p.segments[i]):
			star, from = i, j
			i++
			if i == len(p.segments) {
				return true // at the end it stands for one component at least
			}
			continue
		case i < len(p.segments) && component(p.segments[i], path[j], steps):
			i++
			j++
			continue
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
	return i == len(p.segments)
}

// any tells a segment of stars alone, at least two: any number of components.
func any(segment string) bool {
	return len(segment) > 1 && strings.Trim(segment, "*") == ""
}
