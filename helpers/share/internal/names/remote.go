package names

import "strings"

// TokenInRemote tells whether a git configuration has an address that carries a password or a token: `https://name:word@host/…`,
// or a name so long that it is one itself.
func TokenInRemote(config []byte) bool {
	for _, line := range strings.Split(string(config), "\n") {
		_, rest, found := strings.Cut(line, "://")
		if !found {
			continue
		}
		authority, _, _ := strings.Cut(rest, "/")
		user, _, found := strings.Cut(authority, "@")
		if !found {
			continue
		}
		name, password, _ := strings.Cut(user, ":")
		if password != "" || len(name) >= shortestToken {
			return true
		}
	}
	return false
}

// shortestToken is shorter than the tokens that forges give out and longer than the names people have there.
const shortestToken = 20
