// The same module built from Debian's packaged Go sources (see build/bootstrap/go.mjs); go.mod is for everybody else.
module cloche/agent

go 1.25

require (
	cloche/contract v0.0.0
	golang.org/x/crypto v0.25.0
	golang.org/x/sys v0.30.0
)

replace cloche/contract => ../../helpers/contract/go

replace golang.org/x/crypto => /usr/share/gocode/src/golang.org/x/crypto

replace golang.org/x/sys => /usr/share/gocode/src/golang.org/x/sys

// Requirements of x/crypto that nothing here imports.
replace (
	golang.org/x/net => /usr/share/gocode/src/golang.org/x/net
	golang.org/x/term => /usr/share/gocode/src/golang.org/x/term
	golang.org/x/text => /usr/share/gocode/src/golang.org/x/text
)
