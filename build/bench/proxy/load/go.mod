module cloche/load

go 1.24
