module cloche/contract

go 1.24
