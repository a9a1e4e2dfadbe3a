// Package names decides by name: which places of a folder a program on the host obeys without being asked
// (protected names), which names look like secrets, and which folders hold what a package manager can fetch again.
//
// Invariants:
//   - Pure functions of path components. No file is looked at, so an answer cannot be raced, and the same path always
//     gives the same answer. Rules add what one folder has of the host's own, which a guest cannot make: where the host has it,
//     whether a directory has a HEAD (asked through Look, of the handles that a change would use), and where links in protected
//     places lead.
//   - A name counts as protected if any filesystem that a host may have takes it for a protected one: case folding,
//     code points that a comparison ignores, trailing dots and spaces, NTFS short names and streams (fold.go). That the
//     folder at hand happens to be on a filesystem that tells them apart changes nothing; the folder may be copied.
//   - Below a protected name all is protected.
//   - One entry too many costs a click. One too few costs the host. In doubt an entry stands in the table (table.go).
package names
