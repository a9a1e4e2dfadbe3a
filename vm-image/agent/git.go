package main

import "os"

// What git needs to know for https comes from the host in one variable, a line `host user password` for each host; the password is a
// stand-in of no worth beyond this machine. It becomes a file, which the helper that /etc/gitconfig names reads (vm-image/rootfs), so
// that it holds at once and for programs whose environment was cleared, too.
const (
	gitVariable        = "CLOCHE_GIT_CREDENTIALS"
	gitCredentialsFile = runDir + "/git-credentials"
)

// putGitCredentials takes the variable out of the others.
func putGitCredentials(u guestUser, env map[string]string) (map[string]string, error) {
	text, ok := env[gitVariable]
	if !ok {
		if err := os.Remove(gitCredentialsFile); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		return env, nil
	}
	others := make(map[string]string, len(env))
	for name, value := range env {
		if name != gitVariable {
			others[name] = value
		}
	}
	return others, putFile(gitCredentialsFile, text, 0o600, int(u.UID), int(u.GID))
}
