// The same module, built from Debian's source packages without a module proxy (see build/bootstrap/go.mjs).
module cloche/helper

go 1.25

require (
	cloche/contract v0.0.0
	golang.org/x/sys v0.22.0
)

replace cloche/contract => ../contract/go

replace golang.org/x/sys => /usr/share/gocode/src/golang.org/x/sys
