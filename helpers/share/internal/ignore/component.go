package ignore

import "strings"

// component matches one name with a pattern without separators: `*`, `?`, bracket expressions, backslash.
func component(pattern, name string, steps *int) bool {
	i, j := 0, 0
	star, from := -1, 0
	for {
		*steps--
		if *steps < 0 {
			return false
		}
		if i < len(pattern) && pattern[i] == '*' {
			star, from = i, j
			i++
			continue
		}
		if j == len(name) {
			return i == len(pattern)
		}
		if i < len(pattern) {
			hit, length := one(pattern[i:], name[j])
			if length == 0 {
				return false // the pattern is broken here, and reached
			}
			if hit {
				i += length
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
}

// one matches one character and gives the length of its pattern; 0 for one that is broken.
func one(pattern string, c byte) (bool, int) {
	switch pattern[0] {
	case '?':
		return true, 1
	case '[':
		return member(pattern, c)
	case '\\':
		if len(pattern) == 1 {
			return false, 0
		}
		return pattern[1] == c, 2
	}
	return pattern[0] == c, 1
}

// member matches a bracket expression, with wildmatch's rules: `]` first is a member, a backslash escapes, `[:class:]`.
func member(s string, c byte) (hit bool, length int) {
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	previous := byte(0) // the member before, as the start of a range
	for first := true; ; first = false {
		if i >= len(s) {
			return false, 0
		}
		m := s[i]
		switch {
		case m == ']' && !first:
			return hit != negated && c != '/', i + 1
		case m == '\\':
			if i++; i >= len(s) {
				return false, 0
			}
			m = s[i]
			hit = hit || c == m
			previous = m
		case m == '-' && previous != 0 && i+1 < len(s) && s[i+1] != ']':
			i++
			end := s[i]
			if end == '\\' {
				if i++; i >= len(s) {
					return false, 0
				}
				end = s[i]
			}
			hit = hit || previous <= c && c <= end
			previous = 0
		case m == '[' && i+1 < len(s) && s[i+1] == ':':
			end := strings.IndexByte(s[i+2:], ']')
			if end < 0 {
				return false, 0
			}
			if name := s[i+2 : i+2+end]; end > 0 && name[end-1] == ':' {
				in, known := class(name[:end-1], c)
				if !known {
					return false, 0
				}
				hit = hit || in
				i += 2 + end
				previous = 0
			} else {
				hit = hit || c == '['
				previous = '['
			}
		default:
			hit = hit || c == m
			previous = m
		}
		i++
	}
}

func class(name string, c byte) (in, known bool) {
	lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
	graph := '!' <= c && c <= '~'
	switch name {
	case "alnum":
		return lower || upper || digit, true
	case "alpha":
		return lower || upper, true
	case "blank":
		return c == ' ' || c == '\t', true
	case "cntrl":
		return c < ' ' || c == 0x7f, true
	case "digit":
		return digit, true
	case "graph":
		return graph, true
	case "lower":
		return lower, true
	case "print":
		return graph || c == ' ', true
	case "punct":
		return graph && !lower && !upper && !digit, true
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r', true
	case "upper":
		return upper, true
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F', true
	}
	return false, false
}
