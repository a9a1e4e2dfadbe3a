module cloche/helper

go 1.25

require (
	cloche/contract v0.0.0
	golang.org/x/sys v0.22.0
)

replace cloche/contract => ../contract/go
