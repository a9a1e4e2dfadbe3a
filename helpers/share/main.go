//go:build linux

// cloche-share serves one folder of the host to one guest. README.md says what for, internal/control how it starts.
package main

import (
	"os"

	"cloche/share/internal/control"
)

func main() { os.Exit(control.Run(os.Args)) }
