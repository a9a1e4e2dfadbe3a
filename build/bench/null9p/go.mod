module cloche/null9p

go 1.24
