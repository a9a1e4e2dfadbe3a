// Package gitrepo reads a git directory as the host has it (lower) and as the guest sees it (merged), tells what the
// guest did in it, and plans how that is taken over: objects and refs together or not at all.
//
// Everything that is read is hostile, the host's side too: a guest with a `rw` folder may have written it. Hence:
//   - Files are reached through Dir alone, one name at a time, and nothing but regular files and directories is
//     opened. No link is followed and no `gitdir:`, alternates or worktree pointer is.
//   - Sizes, counts, depths and the sum of all work have limits (limits.go); every operation ends with its context.
//   - An object counts only when its bytes have the hash that names it. An index of a pack may lie; then nothing is found.
//   - The lower objects come first: the guest cannot put another content under a name that the host has.
//
// What goes to the host is made here and never copied: one pack, written by us from objects that were read and
// checked, with its index; refs, HEAD and an index that we write. So no byte of the guest's that git parses on the
// host (a pack's or an index's structure, a config, a hook) comes from the guest, only commits, trees, tags and
// blobs, whose names and modes were checked as git's own fsck does where it guards the user. Refs other than
// branches and tags, hooks, config, info, alternates, worktrees, reflogs and states of a merge are never taken.
//
// The closure is whole: every object reachable from a taken tip is in the host's repository already or in our pack,
// so a commit whose tree is missing is refused.
//
// Why no library: go-git resolves a delta's base by recursion without a bound on depth (a delta that names itself
// overflows the stack, which in Go cannot be recovered), takes sizes from pack and index as it finds them, has had
// advisories of that kind in each of packs, indexes of packs and the index, and wants a whole filesystem by path
// (billy). What is needed here, reading and one way of writing, is small.
//
// Known limit: SHA-1 collisions are not looked for. git itself does, and stops at such an object.
package gitrepo
