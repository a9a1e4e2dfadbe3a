package main

import (
	"encoding/json"
	"os"
	"strings"

	"cloche/contract"
)

// A command of the host's, by its words (helpers/contract, "Agent"). The program is started directly: bash would be more than half of
// what a small command costs. What cannot be started so is left to bash with the same words, which knows all the reasons and statuses of a shell.

const commandSubsystem = "command@cloche "

type commandParams struct {
	Argv        []string          `json:"argv"`
	Directory   string            `json:"directory"`
	Make        bool              `json:"make"`
	Environment map[string]string `json:"environment"`
}

// words is a command with its arguments as bytes.
type words struct {
	argv      []string
	directory string
	make      bool
	env       map[string]string
}

func parseCommand(raw json.RawMessage) (*words, error) {
	var p commandParams
	if err := contract.Params(raw, &p); err != nil {
		return nil, err
	}
	if len(p.Argv) < 1 || len(p.Argv) > maxWords {
		return nil, contract.BadParams("argv has not 1 to %d words", maxWords)
	}
	if err := checkGuestPath("directory", p.Directory); err != nil {
		return nil, err
	}
	if err := checkEnvironment(p.Environment); err != nil {
		return nil, err
	}
	w := &words{directory: p.Directory, make: p.Make, env: p.Environment}
	for _, text := range p.Argv {
		b, err := parseBase64("argv", text, maxWordText)
		if err != nil {
			return nil, err
		}
		w.argv = append(w.argv, string(b))
	}
	return w, nil
}

// What bash is told where it has to: $1 is the directory, what follows is the command. `exec` has the shell replaced, so that signals and the
// status are the program's own.
const (
	inDirectory     = `cd -- "$1" || exit 125; shift; exec -- "$@"`
	inMadeDirectory = `{ cd -- "$1" 2>/dev/null || { mkdir -p -- "$1" && cd -- "$1"; }; } || exit 125; shift; exec -- "$@"`
)

// startCommand starts the words as the user, without a shell where it can.
func (x *session) startCommand(w *words) (run func()) {
	for name, value := range w.env {
		x.env = append(x.env, [2]string{name, value})
	}
	x.env = append(x.env, [2]string{"PWD", w.directory})
	env := x.environment()
	script := inDirectory
	if w.make {
		script = inMadeDirectory
	}
	shell := append([]string{"bash", "-c", script, "bash", w.directory}, w.argv...)
	var ways []way
	if path := findProgram(w.argv[0], env); path != "" {
		ways = append(ways, way{path: path, args: w.argv, dir: w.directory})
	}
	return x.start(env, append(ways, x.fromHome("/bin/bash", shell)...)...)
}

// findProgram looks a program up as a shell does; "" is left to one. It looks as root does: what the user may not run fails to start.
func findProgram(name string, env []string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, variable := range env {
		path, isPath := strings.CutPrefix(variable, "PATH=")
		if !isPath {
			continue
		}
		for folder := range strings.SplitSeq(path, ":") {
			if !strings.HasPrefix(folder, "/") {
				return "" // relative to the directory of the command
			}
			if st, err := os.Stat(folder + "/" + name); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return folder + "/" + name
			}
		}
	}
	return ""
}
