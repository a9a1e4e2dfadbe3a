// Package changes tells what a task's layer has that the folder has not, and takes chosen parts of it over, or drops them.
//
// A listing is made of one moment of the layer and of a look at the folder's files beneath. Each change has a token over
// both: the layer's node and content, and what stands in the folder. An apply takes a change only while its token is
// the same, so what was shown is what is written.
//
// Paths are the guest's. What was moved or made above a change is taken over before it, so that they are then the
// folder's too. What takes the name of something that was moved away comes after that, so that neither is lost; two that
// changed places can be neither first, and are refused. Some changes are many files and one line: a repository, a database
// with what lies beside it, what .gitignore names. The first two are taken over whole or not at all. What the folder would lose somewhere
// else by a line is never in it: a file that was moved to an ignored name, or into a repository, is a line of its own.
//
// While a run of an apply or undo is written the guest's names stay where they are: its removals and renames wait.
//
// After an apply the layer forgets what the folder has now, under the layer's lock and only if the node is still what was
// written; what the guest wrote meanwhile stays a change, made from the folder's new file. A process that ends between
// the two is caught up with at the next New: the journal (package writeback) keeps what is not settled.
//
// An undo is the reverse: what it takes out of the folder is put back into the layer and waits again, and the guest goes on seeing it.
// What the guest did at such a place since stays as it is. A process that ends between the two is caught up with in the same way.
//
// A discard drops what was chosen and nothing else. What lies in a directory goes before it; a new directory in which something stays,
// because it was not chosen or came later, is refused; one that was moved goes back with the task's changes in it.
//
// Nothing here touches the folder; writeback does.
package changes
