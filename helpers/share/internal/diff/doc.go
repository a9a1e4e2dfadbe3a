// Package diff compares two texts by lines, writes the difference as a unified diff and applies chosen hunks of it.
//
// It is fed with what a guest wrote, so its cost is bounded whatever the texts are: lines that occur once on both sides
// are anchors (patience), what lies between them is compared by Myers' algorithm within a budget of steps, and where the
// budget ends the rest is told as replaced. The result is always a true difference, only not always the shortest.
//
// Texts are bytes. A line ends with "\n" and keeps its "\r"; the last one may have no end.
//
// Hunks are the same for every width of context: two edits are one hunk when at most 6 lines lie between them. More
// context widens a hunk up to half-way to its nearer neighbour. So an index names the same lines to everybody.
package diff
