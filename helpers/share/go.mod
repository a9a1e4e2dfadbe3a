module cloche/share

go 1.24

require (
	cloche/contract v0.0.0
	golang.org/x/sys v0.30.0
)

replace cloche/contract => ../contract/go
