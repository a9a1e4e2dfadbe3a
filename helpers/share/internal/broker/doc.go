// Package broker moves files from the folder into the folder's store. The serving process cannot: the two are
// different mounts for it, and rename between mounts is refused even on one filesystem. So the front process, which
// keeps the host's own mount, does it on request.
//
// The serving process may have been taken over, so the broker trusts nothing of a request. It walks from the folder
// one component at a time, follows no link and enters no other filesystem; what it moves must be the regular file, of this name
// alone, or the link that was named by its inode; the target's directory is the writer's own in the store; nothing is replaced.
// It opens no content: before its first request it confines itself (confine.SealBroker) to renaming within these two
// directories. The worst it can be made to do is to move a file of the folder, which the serving process could remove
// anyway, to the store, where it is kept.
//
// The socket is SOCK_SEQPACKET: one request, one answer, each a single message.
//
//	hello    the byte 'h'; answered by the measures of confinement as JSON
//	move     'm', device, inode, directory (8 bytes each, little-endian), the path, a slash, the name in the store;
//	         answered by the errno (4 bytes)
package broker
