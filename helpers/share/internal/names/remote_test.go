package names

import "testing"

func TestATokenInARemotesAddressIsNoticed(t *testing.T) {
	for config, want := range map[string]bool{
		"[remote \"origin\"]\n\turl = https://me:word@forge.example/a.git\n":                      true,
		"[remote \"origin\"]\n\turl = https://x-token-0123456789abcdef0123@forge.example/a.git\n": true,
		"[url \"https://me:word@forge.example/\"]\n\tinsteadOf = https://forge.example/\n":        true,
		"[remote \"origin\"]\n\turl = https://forge.example/a.git\n":                              false,
		"[remote \"origin\"]\n\turl = https://me@forge.example/a@b:c.git\n":                       false,
		"[remote \"origin\"]\n\turl = git@forge.example:a.git\n":                                  false,
		"": false,
	} {
		if got := TokenInRemote([]byte(config)); got != want {
			t.Errorf("%q: %v", config, got)
		}
	}
}
