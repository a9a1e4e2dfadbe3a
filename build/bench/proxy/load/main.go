//go:build linux

// load is what the proxies of the bench stand between: the origin, and the one client that drives each of them and, for comparison,
// the origin itself. It is Go, as a client in Node would be slower than some of what it measures.
//
//	load certificates DIR NAME     an authority, a leaf of it for NAME, and an authority for peers
//	load origin DIR ADDRESS        TLS with both protocols; /small, /bytes/N
//	load latency|connect|download|rate|idle FLAGS    one measurement, as a line of JSON on stdout
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("load certificates|origin|latency|connect|download|rate|idle"))
	}
	verb, args := os.Args[1], os.Args[2:]
	var result any
	var err error
	switch verb {
	case "certificates":
		err = makeCertificates(args[0], args[1])
	case "origin":
		err = serveOrigin(args[0], args[1])
	default:
		result, err = measure(verb, args)
	}
	if err != nil {
		fail(err)
	}
	if result != nil {
		tell(result)
	}
}

func tell(result any) {
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
