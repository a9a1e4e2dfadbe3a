// The same module built from Debian's packaged Go sources (see build/bootstrap/go.mjs); go.mod is for everybody else.
module cloche/agent

go 1.25

require (
	cloche/contract v0.0.0
	golang.org/x/sys v0.30.0
)

replace cloche/contract => ../../helpers/contract/go

replace golang.org/x/sys => /usr/share/gocode/src/golang.org/x/sys
