module cloche/share

go 1.24

require (
	cloche/contract v0.0.0
	golang.org/x/sys v0.30.0
)

replace cloche/contract => ../contract/go

// For bench/ only.
require (
	github.com/hugelgupf/p9 v0.3.1
	github.com/u-root/uio v0.0.0-20240224005618-d2acac8f3701 // indirect
)
