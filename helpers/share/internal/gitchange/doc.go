// Package gitchange makes a git directory one change of a layered folder: it opens gitrepo on the folder and on the
// folder under the layer, tells from the layer what the host changed meanwhile, and turns a plan into one group of
// writeback's steps.
//
// Whether the host moved is told by what the layer noted of each file when the task changed it: the same object, size
// and times, or moved. Where the layer cannot know (a whole directory was replaced), it counts as moved, and a branch is
// offered.
//
// The new pack stays when an apply is undone: git on the host may have found an object in it meanwhile and not written
// it again, so taking it away could break what the user committed since. It harms nothing, and `git gc` clears it.
package gitchange
