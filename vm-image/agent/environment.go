package main

import (
	"encoding/json"
	"maps"
	"sort"
	"strings"

	"cloche/contract"
)

// The variables of everything that runs in the machine. They reach a process in two ways:
//   - with every process that ssh starts (ssh_user.go); the user cannot break it;
//   - /run/cloche/environment, in the shell's words, for what sources it (the login shells' profile, scripts).
const (
	environmentFile = runDir + "/environment"
	// All together they must leave room in what Linux takes for one exec, which is 2 MiB, arguments and all.
	maxEnvironmentBytes = 512 << 10
)

// defaultEnvironment is what a person expects to find set; the host's variables go over it.
func defaultEnvironment(u guestUser, captured bool) map[string]string {
	env := map[string]string{
		"PATH":            u.home() + "/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG":            "C.UTF-8",
		"XDG_RUNTIME_DIR": "/run/user/" + itoa(int(u.UID)),
	}
	if captured {
		maps.Copy(env, trustVariables)
	}
	return env
}

func checkEnvironment(env map[string]string) error {
	total := 0
	for name, value := range env {
		if err := checkVariableName(name); err != nil {
			return err
		}
		if err := checkLength("environment."+name, value, maxVariableValue); err != nil {
			return err
		}
		if strings.IndexByte(value, 0) >= 0 {
			return contract.BadParams("environment.%s holds a NUL, which no variable can", name)
		}
		total += len(name) + len(value) + 4
	}
	if total > maxEnvironmentBytes {
		return contract.BadParams("environment is larger than %d bytes in all", maxEnvironmentBytes)
	}
	return nil
}

// merged gives the pairs in the order of their names, so that the files are the same for the same variables.
func merged(u guestUser, captured bool, env map[string]string) [][2]string {
	all := defaultEnvironment(u, captured)
	for name, value := range env {
		all[name] = value
	}
	pairs := make([][2]string, 0, len(all))
	for name, value := range all {
		pairs = append(pairs, [2]string{name, value})
	}
	sort.Slice(pairs, func(i, j int) bool { return pairs[i][0] < pairs[j][0] })
	return pairs
}

// shellLines writes the pairs for a shell to source.
func shellLines(pairs [][2]string) string {
	var b strings.Builder
	for _, p := range pairs {
		b.WriteString("export " + p[0] + "='" + strings.ReplaceAll(p[1], "'", `'\''`) + "'\n")
	}
	return b.String()
}

type setEnvironmentParams struct {
	Environment map[string]string `json:"environment"`
}

func parseSetEnvironment(raw json.RawMessage) (p setEnvironmentParams, err error) {
	if err = contract.Params(raw, &p); err != nil {
		return p, err
	}
	return p, checkEnvironment(p.Environment)
}

// handleSetEnvironment replaces the host's variables for processes that are started after it.
func (a *agent) handleSetEnvironment(raw json.RawMessage) (any, error) {
	p, err := parseSetEnvironment(raw)
	if err != nil {
		return nil, err
	}
	if err := a.waitConfigured(); err != nil {
		return nil, err
	}
	return nil, a.ssh.setEnvironment(a.user, p.Environment)
}
