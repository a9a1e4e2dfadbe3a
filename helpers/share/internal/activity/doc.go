// Package activity watches what the guest does to a folder and tells it in short entries: what was opened for writing,
// made, deleted, renamed or refused. It wraps any ninep.Tree and changes nothing of what that answers.
//
// Invariants:
//   - Nothing is dropped. Entries of one kind on one path that come together become one with a count; when a batch is
//     full, the request that filled it hands it over itself, and waits as long as that takes. A reader that is slow, or
//     that cannot write down what it was handed (a full disk), makes the guest slow, and nothing grows.
//   - What the reader keeps grows by a budget: a burst and a rate. A guest that has used it up waits for each further act.
//   - A batch is bounded in entries and in bytes of paths, and is handed over at the latest slowFlushAfter after its first
//     while the reader takes them.
//   - Paths are those that the guest walked, as the names were then: a claim about names and not about objects. A path
//     that is too long for the protocol is told by its end.
package activity
