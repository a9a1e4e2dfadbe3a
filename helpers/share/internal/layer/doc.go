// Package layer keeps what a task did to a folder and the folder does not have yet: a graph of nodes in a checksummed log,
// and files with contents. It knows neither 9P nor the folder; package view puts the two together.
//
//	layer.snapshot   every node as of one sequence number; absent until the first compaction
//	layer.log        records since then, in order
//	content/<n>      bytes of a file, by number
//
// A change of the graph is one record, or several for one that is large: whole or not at all, and in the log before the guest has
// its answer. Sync makes it durable. What was being written when the machine or the process ended is cut off at the next Open (a torn tail); a
// record that is damaged and followed by others is an error that names its place, and nothing is changed then. What follows is told by the log's random mark,
// so that nothing a guest writes into a name or attribute passes for a record.
//
// A change after which the log could not be read again (two nodes at one name, one in no directory or in itself, a field that no record
// holds) is refused whatever the caller meant by it, and nothing of it is written.
//
// A node stands for one name. It has the identity of what it was made from (Base), so that whoever applies it can see whether
// the folder's file is still that one. A name that the task deleted is a node too (Whiteout). Directories in which
// something changed have a node without a change of their own (Passing), so that every node's path is known.
//
// A content file without a node belongs to nobody and is removed at Open. While the process runs, what no node names any more becomes the
// content of a new file, once the log is durable without it: empty, and under a number that was never given before.
package layer
