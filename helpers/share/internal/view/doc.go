// Package view is the folder as a task sees it: the host's own files (hostfs, "lower") under the task's layer.
//
//	mode review   every change lands in the layer; the folder is opened read-only and nothing of it is ever written
//	mode rw       changes go through to the folder, but those of protected names and links that lead out of it, which land in the layer
//
// A node is one object of the guest, found by its qid, so that two handles on a file share what happens to it. It is backed
// by the lower's object, by a node of the layer, or by both: a copy-up (the first write to a file) turns the one into the
// other under the same qid. README.md has the table of what is seen, listed, applied and refused for each pair of states.
//
// Locks, outermost first: node.copying (one copy-up of a file at a time), Tree.names (one change of names at a time),
// Tree.mu (who is who). Reading takes none of the first two, so a slow copy or a stalled folder holds up no reader.
//
// Nothing here makes a system call on the folder; hostfs does.
package view
