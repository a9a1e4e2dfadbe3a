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

replace cloche/contract => ../../helpers/contract/go
