package gitrepo

import (
	"container/heap"
	"fmt"
)

// Reading commits and trees for what is shown. The host's objects come first.

// read gives an object of either side.
func (r *Repository) read(id ID) (object, error) {
	if o, err := r.lower.store.read(id); err == nil {
		return o, nil
	} else if !isMissing(err) {
		return object{}, err
	}
	return r.merged.store.read(id)
}

func (r *Repository) readCommit(id ID) (commit, error) {
	o, err := r.read(id)
	if err != nil {
		return commit{}, fmt.Errorf("commit %s: %w", id.short(), err)
	}
	if o.kind != commitType {
		return commit{}, malformed("%s is no commit", id.short())
	}
	return r.format.parseCommit(o.data)
}

func (r *Repository) readTree(read func(ID) (object, error), id ID) ([]treeEntry, error) {
	o, err := read(id)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id.short(), err)
	}
	if o.kind != treeType {
		return nil, malformed("%s is no tree", id.short())
	}
	return r.format.parseTree(o.data)
}

// peel follows tags to what they name.
func (r *Repository) peel(id ID) (ID, objectType, error) {
	for range 16 {
		o, err := r.read(id)
		if err != nil {
			return "", 0, err
		}
		if o.kind != tagType {
			return id, o.kind, nil
		}
		if id, _, err = r.format.tagTarget(o.data); err != nil {
			return "", 0, err
		}
	}
	return "", 0, tooMuch("a tag of a tag of a tag …")
}

const (
	ofNew = 1 << iota
	ofOld
)

type walked struct {
	commit
	id     ID
	sides  int // which tips reach it, as far as known
	queued bool
}

// byDate has the newest commit first.
type byDate []*walked

func (q byDate) Len() int           { return len(q) }
func (q byDate) Less(i, k int) bool { return q[i].date > q[k].date }
func (q byDate) Swap(i, k int)      { q[i], q[k] = q[k], q[i] }
func (q *byDate) Push(x any)        { *q = append(*q, x.(*walked)) }
func (q *byDate) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// comparison of two tips.
type comparison struct {
	ahead  []*walked // what only the new one reaches, newest first; at most maxCounted
	more   bool      // there are more
	behind int       // how many only the old ones reach
	unsure bool      // too long a way to tell what they have in common
}

// compare walks from both sides by date until nothing is left that one side alone reaches. Dates are a guest's to
// choose: a commit that turns out to be reached by the other side too is walked again, so they cost time and no truth.
func (r *Repository) compare(tip ID, old ...ID) (comparison, error) {
	seen := map[ID]*walked{}
	var queue byDate
	one := 0 // how many in the queue are of one side only
	both := ofNew | ofOld
	reach := func(id ID, sides int) error {
		w := seen[id]
		if w == nil {
			c, err := r.readCommit(id)
			if err != nil {
				return err
			}
			w = &walked{commit: c, id: id}
			seen[id] = w
		}
		if w.sides|sides == w.sides {
			return nil
		}
		if w.queued && w.sides != both {
			one--
		}
		w.sides |= sides
		if w.sides != both {
			one++
		}
		if !w.queued {
			w.queued = true
			heap.Push(&queue, w)
		}
		return nil
	}
	if err := reach(tip, ofNew); err != nil {
		return comparison{}, err
	}
	for _, id := range old {
		if err := reach(id, ofOld); err != nil {
			return comparison{}, err
		}
	}
	var c comparison
	for len(queue) > 0 {
		// Past the last one of one side only a little is walked on, for dates that are wrong.
		if one == 0 && len(queue) > 0 && len(seen) > 64 {
			break
		}
		if len(seen) > maxWalked || len(old) == 0 && len(seen) > maxCounted {
			c.unsure = true
			break
		}
		w := heap.Pop(&queue).(*walked)
		w.queued = false
		if w.sides != both {
			one--
		}
		if r.boundary[w.id] {
			continue
		}
		for _, parent := range w.parents {
			if err := reach(parent, w.sides); err != nil {
				return comparison{}, err
			}
		}
	}
	// What was reached from both sides passes that on within what was seen.
	var rest []*walked
	for _, w := range seen {
		if w.sides == both {
			rest = append(rest, w)
		}
	}
	for len(rest) > 0 {
		w := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		for _, parent := range w.parents {
			if p := seen[parent]; p != nil && p.sides != both {
				p.sides = both
				rest = append(rest, p)
			}
		}
	}
	var ahead byDate
	for _, w := range seen {
		switch w.sides {
		case ofNew:
			heap.Push(&ahead, w)
		case ofOld:
			c.behind++
		}
	}
	for len(ahead) > 0 && len(c.ahead) < maxCounted {
		c.ahead = append(c.ahead, heap.Pop(&ahead).(*walked))
	}
	c.more = len(ahead) > 0 || c.unsure && len(c.ahead) == maxCounted
	return c, nil
}
