package main

import "strings"

// What a name may be, for the resolver and for the first line of a stream alike.

const (
	maxName  = 253
	maxLabel = 63
)

// isHostName: a DNS name of two labels or more, in lower case and without a trailing dot. Underscores occur in names that people use; a
// last label of digits would make it look like an address.
func isHostName(name string) bool {
	if len(name) == 0 || len(name) > maxName || strings.IndexByte(name, '.') < 0 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' || !only(label, lower+digits+"-_") {
			return false
		}
		last = label
	}
	return !only(last, digits)
}

// Names below these are nobody's on the internet: a program that asks for one means something beside it, and there is nothing beside it.
var localSuffixes = []string{"local", "internal", "invalid", "onion", "arpa"}

func isLocalOnly(name string) bool {
	for _, suffix := range localSuffixes {
		if under(name, suffix) {
			return true
		}
	}
	return false
}

// isLocalhost: RFC 6761, 6.3.
func isLocalhost(name string) bool { return under(name, "localhost") }

func under(name, suffix string) bool {
	rest, ok := strings.CutSuffix(name, suffix)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}
