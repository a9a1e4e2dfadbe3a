// Package writeback writes chosen changes to a folder and takes them back: journaled, safe against a crash at any step,
// and against whoever else changes the folder meanwhile.
//
//	applies/<writer>.log   the journal: one line per record, CRC-32C in hex, a blank, JSON; the first names the format
//	applies/<writer>/<n>   what an apply took out of the folder, for undo; the directory is locked (flock(2)) while its process runs
//	lock                   flock(2): one apply or undo at a time for the folder, also between tasks
//
// Steps come in slices. A slice is written down (begin) before anything of it is in the folder. What is new is made whole
// and durable under a hidden name in the directory where it will stand, and its inode written down (prepared) before it
// gets its name. A name changes hands by renameat2: an exchange where something is replaced, so that what was there is
// looked at after it was taken out; had it been changed, it is put back and the step is refused. What was taken out is
// copied to the store, and the copy is durable before the slice is written down as done; only then its hidden name goes.
//
// A slice without its done is rolled back at the next Open by what stands under the two names. So each file is as before or
// as after, and steps of one group are so together.
//
// Whoever opens the folder removes the journal of a writer, and then what that kept, when all in it is done, older than Keep and told to its
// task, and no process of that writer runs: a removed task has nobody else to do it. A damaged journal is never removed, and keeps the folder
// from being opened, as it may hide a slice that is half in the folder.
//
// Invariants:
//   - Names are walked one component at a time from the root's handle, no link is followed, no mount is crossed.
//   - Nothing of the folder is unlinked that is not in the store, durable, or was made by the same slice.
//   - No attribute is set on a file that has another name, which may lie outside: a copy takes its place.
//   - A directory that is not where it was walked to any more after a step is a refusal, and the step is taken back.
//   - Undo is an apply of the reverse steps under the same rules: a file that was changed since is refused.
package writeback
