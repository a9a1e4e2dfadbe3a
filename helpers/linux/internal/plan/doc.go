// Package plan turns a machine's configuration into command lines. It opens nothing and starts nothing, so that every
// argument can be tested on any system; internal/machine performs what stands here.
//
// The programs get their sockets and disks as open descriptors, numbered here: what is not named by path needs no
// right to a path, and nobody can put another file under the name between our check and their open.
package plan
