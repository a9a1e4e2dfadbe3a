//go:build linux

// cloche-share serves one folder to one guest; doc.go tells how.
package main

import (
	"fmt"
	"os"

	"cloche/share/internal/control"
)

func main() {
	if err := control.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "cloche-share:", err)
		os.Exit(1)
	}
}
