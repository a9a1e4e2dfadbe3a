// Package ignore matches paths against .gitignore files as git does (gitignore(5)).
//
// Whoever writes a .gitignore may be hostile. So patterns are split into components and matched without recursion, files
// and patterns are bounded, and a Matcher does a bounded amount of work in its life. What is left out because of a bound
// makes fewer paths ignored, never more: an ignored change is folded away from view, so the error must be on this side.
//
// Why none of the libraries: those packaged for Go turn patterns into regular expressions or backtrack, differ from git
// in nested files and in what a negation can bring back, and have no bounds. This one is proved against `git
// check-ignore` (git_test.go).
//
// Not known here: git's index, by which git does not ignore what is tracked; core.ignoreCase; the user's own
// core.excludesFile, which belongs to the host's user and not to the folder.
package ignore
