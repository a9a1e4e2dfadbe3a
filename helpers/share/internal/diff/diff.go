package diff

import (
	"bytes"
	"hash/maphash"
	"sort"
)

// Edit says that lines [OldFrom, OldTo) of the old text became lines [NewFrom, NewTo) of the new one.
type Edit struct{ OldFrom, OldTo, NewFrom, NewTo int }

// Diff is the difference of two texts.
type Diff struct {
	old, new [][]byte
	edits    []Edit
	hunks    [][2]int // ranges of edits
}

// mergeLines is how many unchanged lines lie at most between two edits of one hunk: three of context for each.
const mergeLines = 6

// What two texts may hold together to be compared; beyond, only sizes and hashes are told.
const (
	MaxBytes = 64 << 20
	MaxLines = 4_000_000
)

// Fits tells whether two texts are within the bounds.
func Fits(old, new []byte) bool {
	return len(old)+len(new) <= MaxBytes && bytes.Count(old, []byte{'\n'})+bytes.Count(new, []byte{'\n'}) <= MaxLines
}

// Of compares two texts that fit, which it keeps without copying.
func Of(old, new []byte) *Diff {
	d := &Diff{old: lines(old), new: lines(new)}
	a, b := intern(d.old, d.new)
	c := &comparison{a: a, b: b, steps: stepBudget}
	c.compare(0, len(a), 0, len(b), maxDepth)
	d.edits = c.edits
	for i, e := range d.edits {
		if i > 0 && e.OldFrom-d.edits[i-1].OldTo <= mergeLines {
			d.hunks[len(d.hunks)-1][1] = i + 1
		} else {
			d.hunks = append(d.hunks, [2]int{i, i + 1})
		}
	}
	return d
}

// lines cuts a text after each newline.
func lines(text []byte) [][]byte {
	list := make([][]byte, 0, bytes.Count(text, []byte{'\n'})+1)
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n') + 1
		if end == 0 {
			end = len(text)
		}
		list = append(list, text[:end:end])
		text = text[end:]
	}
	return list
}

// intern gives equal lines equal numbers. The seed is new each time, so that nobody can prepare lines that collide.
func intern(old, new [][]byte) (a, b []int32) {
	seed := maphash.MakeSeed()
	type entry struct {
		line []byte
		next int32 // another line of the same hash, or -1
	}
	byHash := make(map[uint64]int32, len(old))
	entries := make([]entry, 0, len(old))
	number := func(list [][]byte) []int32 {
		numbers := make([]int32, len(list))
		for i, line := range list {
			h := maphash.Bytes(seed, line)
			first, there := byHash[h]
			if !there {
				first = -1
			}
			at := first
			for at >= 0 && !bytes.Equal(entries[at].line, line) {
				at = entries[at].next
			}
			if at < 0 {
				at = int32(len(entries))
				entries = append(entries, entry{line, first})
				byHash[h] = at
			}
			numbers[i] = at
		}
		return numbers
	}
	return number(old), number(new)
}

const (
	// maxDepth is how often anchors are looked for between anchors.
	maxDepth = 24
	// stepBudget bounds the comparisons of lines outside anchors, for the whole text.
	stepBudget = 40_000_000
	// maxCost is the longest script Myers' algorithm looks for in one stretch; its memory grows with the square.
	maxCost = 1000
)

type comparison struct {
	a, b  []int32
	steps int
	edits []Edit
}

// replaced notes that a stretch differs, joined with the edit before where the two touch.
func (c *comparison) replaced(a0, a1, b0, b1 int) {
	if a0 == a1 && b0 == b1 {
		return
	}
	if n := len(c.edits); n > 0 && c.edits[n-1].OldTo == a0 && c.edits[n-1].NewTo == b0 {
		c.edits[n-1].OldTo, c.edits[n-1].NewTo = a1, b1
		return
	}
	c.edits = append(c.edits, Edit{a0, a1, b0, b1})
}

func (c *comparison) compare(a0, a1, b0, b1, depth int) {
	for a0 < a1 && b0 < b1 && c.a[a0] == c.b[b0] {
		a0, b0 = a0+1, b0+1
	}
	for a0 < a1 && b0 < b1 && c.a[a1-1] == c.b[b1-1] {
		a1, b1 = a1-1, b1-1
	}
	if a0 == a1 || b0 == b1 || depth == 0 {
		c.replaced(a0, a1, b0, b1)
		return
	}
	anchors := c.anchors(a0, a1, b0, b1)
	if len(anchors) == 0 {
		c.shortest(a0, a1, b0, b1)
		return
	}
	for _, at := range anchors {
		c.compare(a0, at[0], b0, at[1], depth-1)
		a0, b0 = at[0]+1, at[1]+1
	}
	c.compare(a0, a1, b0, b1, depth-1)
}

// anchors are lines that occur once in each of the two stretches, as many as keep their order.
func (c *comparison) anchors(a0, a1, b0, b1 int) [][2]int {
	type place struct{ a, b int32 } // -1: not seen, -2: seen more than once
	places := make(map[int32]place, a1-a0)
	for i := a0; i < a1; i++ {
		if _, seen := places[c.a[i]]; seen {
			places[c.a[i]] = place{-2, -1}
		} else {
			places[c.a[i]] = place{int32(i), -1}
		}
	}
	for i := b0; i < b1; i++ {
		p, there := places[c.b[i]]
		switch {
		case !there || p.a < 0:
		case p.b != -1:
			places[c.b[i]] = place{-2, -1}
		default:
			places[c.b[i]] = place{p.a, int32(i)}
		}
	}
	// The longest rising run of b's places in the order of a (patience sorting).
	var found [][2]int
	for i := a0; i < a1; i++ {
		if p := places[c.a[i]]; p.a >= 0 && p.b >= 0 {
			found = append(found, [2]int{i, int(p.b)})
		}
	}
	tops := make([]int, 0, len(found))
	before := make([]int, len(found))
	for i, f := range found {
		pile := sort.Search(len(tops), func(k int) bool { return found[tops[k]][1] >= f[1] })
		before[i] = -1
		if pile > 0 {
			before[i] = tops[pile-1]
		}
		if pile == len(tops) {
			tops = append(tops, i)
		} else {
			tops[pile] = i
		}
	}
	if len(tops) == 0 {
		return nil
	}
	run := make([][2]int, len(tops))
	for k, i := len(tops)-1, tops[len(tops)-1]; k >= 0; k, i = k-1, before[i] {
		run[k] = found[i]
	}
	return run
}

// shortest is Myers' greedy algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986, figure 2), given up
// where the script grows past maxCost or the budget ends.
func (c *comparison) shortest(a0, a1, b0, b1 int) {
	a, b := c.a[a0:a1], c.b[b0:b1]
	n, m := len(a), len(b)
	limit := min(n+m, maxCost)
	v := make([]int32, 2*limit+3)
	var trace [][]int32
	for d := 0; d <= limit; d++ {
		for k := -d; k <= d; k += 2 {
			at := limit + 1 + k
			var x int
			if k == -d || k != d && v[at-1] < v[at+1] {
				x = int(v[at+1])
			} else {
				x = int(v[at-1]) + 1
			}
			from := x
			for y := x - k; x < n && y < m && y >= 0 && a[x] == b[y]; x, y = x+1, y+1 {
			}
			c.steps -= x - from + 1
			v[at] = int32(x)
			if x >= n && x-k >= m {
				c.walkBack(trace, d, limit, a0, b0, n, m)
				return
			}
		}
		if c.steps < 0 {
			break
		}
		trace = append(trace, append([]int32(nil), v[limit+1-d:limit+2+d]...))
	}
	c.replaced(a0, a1, b0, b1)
}

// walkBack turns the furthest points of each cost into edits.
func (c *comparison) walkBack(trace [][]int32, d, limit, a0, b0, n, m int) {
	type single struct{ x, y, dx, dy int }
	script := make([]single, 0, d)
	x, y := n, m
	for ; d > 0; d-- {
		furthest := func(k int) int32 { // of cost d-1; out of its range as v was before
			if k < -(d-1) || k > d-1 {
				return 0
			}
			return trace[d-1][k+d-1]
		}
		k := x - y
		down := k == -d || k != d && furthest(k-1) < furthest(k+1)
		if down {
			x = int(furthest(k + 1))
			y = x - (k + 1)
			script = append(script, single{x, y, 0, 1})
		} else {
			x = int(furthest(k - 1))
			y = x - (k - 1)
			script = append(script, single{x, y, 1, 0})
		}
	}
	for i := len(script) - 1; i >= 0; i-- {
		s := script[i]
		c.replaced(a0+s.x, a0+s.x+s.dx, b0+s.y, b0+s.y+s.dy)
	}
}
