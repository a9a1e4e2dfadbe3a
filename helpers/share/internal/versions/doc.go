// Package versions keeps what a task would destroy in a folder: the content of files that are removed, replaced or
// overwritten, so that it can be brought back byte for byte.
//
// The store belongs to the folder and is shared by all tasks. Each writer (one task with one share) has a log and a
// directory that no other writer changes while it runs:
//
//	versions/<writer>.log        one line per record: CRC-32C in hex, a blank, JSON. The first names the format's version.
//	versions/<writer>/<n>        content of version n, copied or sharing blocks; of a large file the saved blocks alone, see Part
//	versions/<writer>/d<k>/name  files moved here as they were, all from one directory of the folder, which the record
//	                             of d<k> names
//	versions/counters            the next number and the bytes in use, of all writers; remade from the logs at each open;
//	                             then the last of the ended writers that an open looked through, the next one goes on there
//
// Invariants:
//   - Content and what is needed to find it again are durable before the step that destroys it. For a copy: content,
//     its directory entry and its record are synced. For a move: the record of d<k> was synced before anything could
//     be moved there, and the rename itself is the destructive step, which the filesystem does wholly or not at all.
//     The move's own record is written afterwards without a sync; when it is missing, Open makes it anew from d<k>.
//   - A writer's directory is locked by who changes what is that writer's: its own process, or an Open that forgets what
//     is too old. That one removes an ended writer with nothing left, log first, directory last, and so the lock: who
//     locks a directory looks whether it still is the one of that name.
//   - A log is only appended to; Open alone rewrites or removes it, for retention. A torn tail is cut, any other damage is an
//     error that names the place, and the file stays as it is.
//   - A failure leaves the folder as it was: the caller must not go on with the destructive step.
package versions
