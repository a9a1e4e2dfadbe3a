package gitrepo

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Branch is a branch or tag that the guest changed.
type Branch struct {
	Name    string // "main", "tags/v1"
	Kind    string
	Commits int  // that the host's side does not have
	More    bool // more than Commits says
	Behind  int  // the host's commits that the guest's side does not have
}

// Summary is what a list shows of a repository.
type Summary struct {
	New      bool   // the host has no repository there
	Head     string // what is checked out on the host: a branch's name or a commit; empty for nothing
	HeadNow  string // the same as the guest has it
	Branches []Branch
	Staged   int      // entries of the index that differ
	Refused  []string // changed by the guest and never taken over, fit to be shown
	// Conflict says why the change cannot be taken over where it is, in the user's words; empty when it can.
	Conflict string
	// Offer are the branches that can be made instead.
	Offer []string
	// Token changes with everything that decides what an apply does.
	Token [sha256.Size]byte
}

// Empty tells that there is nothing to show: caches and times were written anew, no more.
func (s *Summary) Empty() bool {
	return !s.New && s.Head == s.HeadNow && len(s.Branches) == 0 && s.Staged == 0 && len(s.Refused) == 0
}

func (r *Repository) headName(v *view) string {
	h := v.refs.head
	switch {
	case h.bad:
		return ""
	case h.target != "":
		return shown(strings.TrimPrefix(h.target, heads))
	}
	return h.id.short()
}

func displayName(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, heads), "refs/")
}

// Summary tells what the guest did.
func (r *Repository) Summary() (*Summary, error) {
	s := &Summary{New: r.isNew, Head: r.headName(&r.lower), HeadNow: r.headName(&r.merged), Staged: r.staged, Refused: r.refused}
	for _, c := range r.changes {
		s.Branches = append(s.Branches, Branch{Name: displayName(c.name), Kind: c.kind, Commits: len(c.ahead), More: c.more, Behind: c.behind})
	}
	var err error
	if s.Conflict, err = r.conflict(); err != nil {
		return nil, err
	}
	for _, b := range r.offer() {
		s.Offer = append(s.Offer, displayName(b.name))
	}
	h := sha256.New()
	fmt.Fprintf(h, "%t %s %s %x %d %q\n", r.isNew, r.lower.refs.head.exactly(), r.merged.refs.head.exactly(), r.indexSum, r.staged, s.Conflict)
	for _, c := range r.changes {
		fmt.Fprintf(h, "%q %s %s %s\n", c.name, c.old.exactly(), c.new.exactly(), c.kind)
	}
	if r.guestIndex != nil && r.staged > 0 {
		for i := range r.guestIndex.entries {
			e := &r.guestIndex.entries[i]
			fmt.Fprintf(h, "%q %q\n", e.path, e.key())
		}
	}
	h.Sum(s.Token[:0])
	return s, nil
}

// conflict tells why the guest's state cannot simply become the host's; empty when it can.
func (r *Repository) conflict() (string, error) {
	if why := r.midway(&r.merged); why != "" {
		return "The task is in the middle of " + why + ".", nil
	}
	if r.isNew {
		if head := r.merged.refs.head; head.bad || head.target != "" && !isHead(head.target) {
			return "The HEAD of the task's repository names no branch.", nil
		}
		if r.staged > 0 && r.guestIndex == nil {
			return "The task's index cannot be read: " + r.guestIndexWhy + ".", nil
		}
		if r.guestIndex != nil {
			if why := r.guestIndex.unsafe(); why != "" {
				return strings.ToUpper(why[:1]) + why[1:] + ".", nil
			}
		}
		return r.nameConflict(), nil
	}
	if len(r.lower.refs.locks) > 0 {
		return "Git is at work in the folder, or was interrupted: " + shown(r.lower.refs.locks[0]) + " is there.", nil
	}
	if why := r.midway(&r.lower); why != "" {
		return "The folder's repository is in the middle of " + why + ".", nil
	}
	if why := r.nameConflict(); why != "" {
		return why, nil
	}
	elsewhere, err := r.checkedOutElsewhere()
	if err != nil {
		return "", err
	}
	lowerHead, mergedHead := r.lower.refs.head, r.merged.refs.head
	headMoves := !lowerHead.same(mergedHead)
	checkedOut := headMoves
	for i := range r.changes {
		c := &r.changes[i]
		if c.name == lowerHead.target || c.name == mergedHead.target {
			checkedOut = true
		}
		if elsewhere[c.name] {
			return fmt.Sprintf("%s is checked out in another worktree.", displayName(c.name)), nil
		}
		if why := r.refConflict(c); why != "" {
			return why, nil
		}
	}
	if headMoves && (lowerHead.bad || mergedHead.bad || r.input.Moved("HEAD")) {
		return "Another branch was checked out in the folder meanwhile.", nil
	}
	if headMoves && mergedHead.target != "" && !isHead(mergedHead.target) {
		return "The task's HEAD names no branch.", nil
	}
	if r.staged == 0 {
		return "", nil
	}
	switch {
	case r.hostIndex == nil:
		return "The folder's index cannot be read: " + r.hostIndexWhy + ".", nil
	case r.guestIndex == nil:
		return "The task's index cannot be read: " + r.guestIndexWhy + ".", nil
	}
	if why := r.guestIndex.unsafe(); why != "" {
		return strings.ToUpper(why[:1]) + why[1:] + ".", nil
	}
	if r.input.Moved("index") {
		// Git rewrites the index for its caches alone; what counts is whether something would be lost. An index
		// that comes without its commit could take back what the host committed meanwhile.
		if !checkedOut {
			return "The folder's index was changed meanwhile.", nil
		}
		clean, err := r.nothingStaged()
		if err != nil {
			return "", err
		}
		if !clean {
			return "Something was staged in the folder meanwhile.", nil
		}
	}
	return "", nil
}

// nothingStaged tells whether the host's index is just what its commit has.
func (r *Repository) nothingStaged() (bool, error) {
	var tree ID
	if id := r.lower.refs.headID(); id != "" {
		c, err := r.readCommit(id)
		if err != nil {
			return false, err
		}
		tree = c.tree
	}
	committed, err := r.flatten(r.lower.store.read, tree)
	if err != nil {
		return false, err
	}
	return committed.differences(r.hostIndex) == 0, nil
}

func isHead(name string) bool {
	short, ok := strings.CutPrefix(name, heads)
	return ok && isBranchName(short)
}

// refConflict: a ref may be taken when the host's is what the guest began with, or is part of what the guest has.
func (r *Repository) refConflict(c *refChange) string {
	path := strings.Split(c.name, "/")
	switch c.kind {
	case New:
		// The guest's branch may be one that the host deleted meanwhile.
		if r.input.Moved(path...) {
			return fmt.Sprintf("%s was changed in the folder meanwhile.", displayName(c.name))
		}
		return ""
	case Moved:
		return ""
	}
	if c.old.loose && !r.input.Moved(path...) || !c.old.loose && c.kind == Deleted && !r.input.Moved("packed-refs") {
		return ""
	}
	return fmt.Sprintf("%s was changed in the folder meanwhile, and the task's is no continuation of it.", displayName(c.name))
}

// midway names what git does in several steps and has not ended.
func (r *Repository) midway(v *view) string {
	if v.dir == nil {
		return ""
	}
	for _, state := range [][2]string{
		{"MERGE_HEAD", "a merge"}, {"CHERRY_PICK_HEAD", "a cherry-pick"}, {"REVERT_HEAD", "a revert"},
		{"rebase-merge", "a rebase"}, {"rebase-apply", "a rebase"}, {"BISECT_LOG", "a bisection"},
	} {
		if _, err := v.dir.Kind(state[0]); err == nil {
			return state[1]
		}
	}
	return ""
}

// checkedOutElsewhere names the branches of the host's other worktrees: their indexes would not follow.
func (r *Repository) checkedOutElsewhere() (map[string]bool, error) {
	names, err := namesOf(r.lower.dir, "worktrees")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, name := range names {
		head, err := slurp(r.lower.dir, maxRefFile, "worktrees", name, "HEAD")
		if err != nil {
			return nil, err
		}
		if head != nil {
			found[r.format.parseRef(head).target] = true
		}
	}
	delete(found, "")
	return found, nil
}

// branch is one that is offered.
type branch struct {
	name string
	id   ID
}

// offer gives every tip that the guest made a name that the host does not have. What is checked out gets the
// branch's own.
func (r *Repository) offer() []branch {
	if r.isNew {
		return nil
	}
	var out []branch
	taken := r.hostNames()
	give := func(id ID, suffix string) {
		base := heads + r.input.Branch + suffix
		for n := 1; n < 1000; n++ {
			name := base
			if n > 1 {
				name = fmt.Sprintf("%s-%d", base, n)
			}
			if isHead(name) && taken.conflict(name) == "" && !taken.has(name) {
				taken.add(name)
				out = append(out, branch{name, id})
				return
			}
		}
	}
	head := r.merged.refs.head
	if head.target == "" && !head.bad && !head.same(r.lower.refs.head) {
		give(head.id, "")
	}
	var others []refChange
	for _, c := range r.changes {
		if !strings.HasPrefix(c.name, heads) || c.kind == Deleted {
			continue
		}
		if c.name == head.target {
			give(c.new.id, "")
		} else {
			others = append(others, c)
		}
	}
	for _, c := range others {
		suffix := ""
		if len(out) > 0 || len(others) > 1 {
			suffix = "-" + strings.ReplaceAll(strings.TrimPrefix(c.name, heads), "/", "-")
		}
		give(c.new.id, suffix)
	}
	return out
}
