// The same module built from Debian's packaged Go sources (see build/bootstrap/go.mjs); go.mod is for everybody else.
module cloche/agent

go 1.25

require (
	cloche/contract v0.0.0
	github.com/google/nftables v0.2.0
	github.com/mdlayher/netlink v1.7.2
	golang.org/x/crypto v0.25.0
	golang.org/x/net v0.27.0
	golang.org/x/sys v0.30.0
)

require (
	github.com/josharian/native v1.1.0 // indirect
	github.com/mdlayher/socket v0.5.0 // indirect
	golang.org/x/sync v0.6.0 // indirect
)

replace cloche/contract => ../../helpers/contract/go

replace (
	github.com/google/nftables => /usr/share/gocode/src/github.com/google/nftables
	github.com/mdlayher/netlink => /usr/share/gocode/src/github.com/mdlayher/netlink
	golang.org/x/crypto => /usr/share/gocode/src/golang.org/x/crypto
	golang.org/x/net => /usr/share/gocode/src/golang.org/x/net
	golang.org/x/sys => /usr/share/gocode/src/golang.org/x/sys
)

// What these require.
replace (
	github.com/google/go-cmp => /usr/share/gocode/src/github.com/google/go-cmp
	github.com/josharian/native => /usr/share/gocode/src/github.com/josharian/native
	github.com/mdlayher/socket => /usr/share/gocode/src/github.com/mdlayher/socket
	github.com/vishvananda/netns => /usr/share/gocode/src/github.com/vishvananda/netns
	golang.org/x/sync => /usr/share/gocode/src/golang.org/x/sync
	golang.org/x/term => /usr/share/gocode/src/golang.org/x/term
	golang.org/x/text => /usr/share/gocode/src/golang.org/x/text
)
