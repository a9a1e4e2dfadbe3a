module cloche/test/go-client

go 1.25
