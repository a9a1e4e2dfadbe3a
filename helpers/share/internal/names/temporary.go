package names

import "strings"

// TemporaryPrefix begins every name that Cloche gives to something in a user's folder for a moment: a copy that is about to take a file's
// place, what is being restored, what an apply or undo makes and takes out.
const TemporaryPrefix = ".cloche-"

// Temporary tells such a name. Neither it nor what has it is any guest's: it has another name in a moment, which the guest may have no right
// to, or had one.
func Temporary(name string) bool { return strings.HasPrefix(name, TemporaryPrefix) }
