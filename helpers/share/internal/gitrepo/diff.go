package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// TextDiff gives the unified diff's hunks of two contents with three lines of context; the file's header lines are
// written here. An error is said in the place of the hunks.
type TextDiff func(old, new []byte) ([]byte, error)

// Bounds of a diff. What is left out is said in it.
const (
	maxDiffBytes   = 8 << 20
	maxDiffFiles   = 2000
	maxDiffFile    = 1 << 20 // of one side
	maxDiffCommits = 200     // of a branch
	maxMessage     = 4 << 10
)

var errFull = errors.New("full")

// limitedWriter ends with errFull.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errFull
	}
	l.left -= len(b)
	return l.w.Write(b)
}

// Diff writes what the guest did as text: for each branch its new commits and what differs between both tips; then
// what is staged only. Whatever the guest wrote is made fit for a terminal but for the files' own lines.
func (r *Repository) Diff(w io.Writer, text TextDiff) error {
	out := &limitedWriter{w, maxDiffBytes}
	err := r.diff(out, text)
	if errors.Is(err, errFull) {
		_, err = fmt.Fprintf(w, "\n# More than %d MiB; the rest is left out.\n", maxDiffBytes>>20)
	}
	return err
}

func (r *Repository) diff(w io.Writer, text TextDiff) error {
	if r.isNew {
		if _, err := fmt.Fprintf(w, "# New repository, %s is checked out\n", cmpText(r.headName(&r.merged), "nothing")); err != nil {
			return err
		}
	} else if a, b := r.headName(&r.lower), r.headName(&r.merged); a != b {
		if _, err := fmt.Fprintf(w, "# Checked out: %s instead of %s\n", cmpText(b, "nothing"), cmpText(a, "nothing")); err != nil {
			return err
		}
	}
	for i := range r.changes {
		if err := r.diffRef(w, &r.changes[i], text); err != nil {
			return err
		}
	}
	return r.diffStaged(w, text)
}

// diffStaged shows what the guest's index has beyond the guest's commit.
func (r *Repository) diffStaged(w io.Writer, text TextDiff) error {
	if r.staged == 0 && !r.isNew || r.guestIndex == nil || len(r.guestIndex.entries) == 0 {
		return nil
	}
	var tree ID
	if id := r.merged.refs.headID(); id != "" {
		c, err := r.readCommit(id)
		if err != nil {
			return err
		}
		tree = c.tree
	}
	committed, err := r.flatten(r.read, tree)
	if err != nil {
		return err
	}
	count := committed.differences(r.guestIndex)
	if count == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "# Staged, not committed: %d\n", count); err != nil {
		return err
	}
	return r.diffFiles(w, committed, r.guestIndex, text)
}

func cmpText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Heading is a branch's line in a list: "branch main: +2 commits".
func (b Branch) Heading() string {
	name := "branch " + b.Name
	if tag, ok := strings.CutPrefix(b.Name, "tags/"); ok {
		name = "tag " + tag
	}
	count := strconv.Itoa(b.Commits)
	if b.More {
		count += "+"
	}
	plural := "s"
	if b.Commits == 1 && !b.More {
		plural = ""
	}
	switch b.Kind {
	case Deleted:
		return name + ": deleted"
	case New:
		if b.Commits == 0 {
			return name + ": new"
		}
		return fmt.Sprintf("%s: new, +%s commit%s", name, count, plural)
	case Rewritten:
		return fmt.Sprintf("%s: rewritten, +%s −%d commits", name, count, b.Behind)
	}
	return fmt.Sprintf("%s: +%s commit%s", name, count, plural)
}

func (r *Repository) diffRef(w io.Writer, c *refChange, text TextDiff) error {
	b := Branch{Name: displayName(c.name), Kind: c.kind, Commits: len(c.ahead), More: c.more, Behind: c.behind}
	if _, err := fmt.Fprintf(w, "# %s\n", b.Heading()); err != nil {
		return err
	}
	if c.kind == Deleted {
		return nil
	}
	for i, commit := range c.ahead {
		if i == maxDiffCommits {
			if _, err := fmt.Fprintf(w, "# … and more commits\n"); err != nil {
				return err
			}
			break
		}
		if err := writeCommit(w, commit); err != nil {
			return err
		}
	}
	tree := func(id ID) (*ID, error) {
		if id == "" {
			return nil, nil
		}
		id, kind, err := r.peel(id)
		if err != nil || kind != commitType {
			return nil, err
		}
		commit, err := r.readCommit(id)
		return &commit.tree, err
	}
	from := c.old.id
	if c.kind == New {
		// A new branch shows all that its own commits changed: from the host's commit that they began with.
		if len(c.ahead) == 0 || c.more {
			return nil
		}
		from = r.began(c)
	}
	old, err := tree(from)
	if err != nil {
		return err
	}
	now, err := tree(c.new.id)
	if err != nil {
		return err
	}
	d := &treeDiff{r: r, w: w, text: text}
	return d.trees(old, now, "", 0)
}

// began gives the commit of the host's that a new branch grew from, by first parents; empty for a history of its own. Dates tell
// nothing here: a guest that dates its first commit last would have that one's changes left out.
func (r *Repository) began(c *refChange) ID {
	own := make(map[ID]*walked, len(c.ahead))
	for _, w := range c.ahead {
		own[w.id] = w
	}
	at, _, err := r.peel(c.new.id)
	if err != nil {
		return "" // then everything is shown, or the reason why it cannot be
	}
	for w := own[at]; w != nil; w = own[at] {
		if len(w.parents) == 0 || r.boundary[w.id] {
			return ""
		}
		at = w.parents[0]
	}
	return at
}

func writeCommit(w io.Writer, c *walked) error {
	name, rest := c.author, ""
	if end := strings.LastIndexByte(c.author, '>'); end >= 0 {
		name, rest = c.author[:end+1], c.author[end+1:]
	}
	when := ""
	if fields := strings.Fields(rest); len(fields) > 0 {
		if s, err := strconv.ParseInt(fields[0], 10, 64); err == nil && s >= 0 && s < 1<<36 {
			when = time.Unix(s, 0).UTC().Format("2006-01-02 15:04:05 UTC")
		}
	}
	if len(name) > 300 {
		name = name[:300] + "…"
	}
	if _, err := fmt.Fprintf(w, "#\n# commit %s\n# %s  %s\n", c.id, shown(name), when); err != nil {
		return err
	}
	message := c.message
	cut := len(message) > maxMessage
	if cut {
		message = message[:maxMessage]
	}
	for line := range strings.Lines(strings.TrimRight(string(message), "\n") + "\n") {
		if _, err := fmt.Fprintf(w, "#     %s\n", shown(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	if cut {
		_, err := fmt.Fprintf(w, "#     …\n")
		return err
	}
	return nil
}

// treeDiff walks two trees beside each other, into what differs only.
type treeDiff struct {
	r     *Repository
	w     io.Writer
	text  TextDiff
	files int
}

func (d *treeDiff) trees(old, now *ID, prefix string, depth int) error {
	if depth > maxTreeDepth {
		return tooMuch("folders nested deeper than %d", maxTreeDepth)
	}
	var a, b []treeEntry
	var err error
	if old != nil {
		if a, err = d.r.readTree(d.r.read, *old); err != nil {
			return err
		}
	}
	if now != nil {
		if b, err = d.r.readTree(d.r.read, *now); err != nil {
			return err
		}
	}
	for len(a) > 0 || len(b) > 0 {
		var x, y *treeEntry
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].sortKey() < b[0].sortKey():
			x, a = &a[0], a[1:]
		case len(a) == 0 || b[0].sortKey() < a[0].sortKey():
			y, b = &b[0], b[1:]
		default:
			x, y, a, b = &a[0], &b[0], a[1:], b[1:]
			if x.id == y.id && x.mode == y.mode {
				continue
			}
		}
		if x != nil && x.isDir() || y != nil && y.isDir() {
			// Equal keys are directories on both sides, as theirs end with a slash.
			var name string
			var from, to *ID
			if x != nil {
				name, from = x.name, &x.id
			}
			if y != nil {
				name, to = y.name, &y.id
			}
			if err := d.trees(from, to, prefix+name+"/", depth+1); err != nil {
				return err
			}
			continue
		}
		if err := d.file(prefix, x, y); err != nil {
			return err
		}
	}
	return nil
}

// diffFiles does the same for two indexes.
func (r *Repository) diffFiles(w io.Writer, old, now *index, text TextDiff) error {
	d := &treeDiff{r: r, w: w, text: text}
	entry := func(e *indexEntry) *treeEntry { return &treeEntry{mode: e.mode, name: e.path, id: e.id} }
	a, b := old.entries, now.entries
	for len(a) > 0 || len(b) > 0 {
		var x, y *treeEntry
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].path < b[0].path:
			x, a = entry(&a[0]), a[1:]
		case len(a) == 0 || b[0].path < a[0].path:
			y, b = entry(&b[0]), b[1:]
		default:
			same := a[0].key() == b[0].key()
			x, y, a, b = entry(&a[0]), entry(&b[0]), a[1:], b[1:]
			if same {
				continue
			}
		}
		if err := d.file("", x, y); err != nil {
			return err
		}
	}
	return nil
}

func (d *treeDiff) file(prefix string, x, y *treeEntry) error {
	if d.files++; d.files > maxDiffFiles {
		return errFull
	}
	name := ""
	from, to := "/dev/null", "/dev/null"
	if x != nil {
		name = prefix + x.name
		from = quoted("a/" + name)
	}
	if y != nil {
		name = prefix + y.name
		to = quoted("b/" + name)
	}
	head := fmt.Sprintf("diff --git %s %s\n", quoted("a/"+name), quoted("b/"+name))
	switch {
	case x == nil:
		head += fmt.Sprintf("new file mode %06o\n", y.mode)
	case y == nil:
		head += fmt.Sprintf("deleted file mode %06o\n", x.mode)
	case x.mode != y.mode:
		head += fmt.Sprintf("old mode %06o\nnew mode %06o\n", x.mode, y.mode)
	}
	if _, err := io.WriteString(d.w, head); err != nil {
		return err
	}
	old, oldWhy, err := d.content(x)
	if err != nil {
		return err
	}
	now, nowWhy, err := d.content(y)
	if err != nil {
		return err
	}
	if why := cmpText(oldWhy, nowWhy); why != "" {
		_, err := fmt.Fprintf(d.w, "# %s\n", why)
		return err
	}
	if bytes.Equal(old, now) {
		return nil
	}
	if err := d.r.spend(int64(len(old) + len(now))); err != nil {
		return err
	}
	hunks, err := d.text(old, now)
	if err != nil {
		_, err := fmt.Fprintf(d.w, "# Not shown: %s.\n", shown(err.Error()))
		return cmpErr(d.r.ctx.Err(), err)
	}
	_, err = fmt.Fprintf(d.w, "--- %s\n+++ %s\n%s", from, to, hunks)
	return err
}

// content gives what is compared as text, or why that is not.
func (d *treeDiff) content(e *treeEntry) ([]byte, string, error) {
	if e == nil {
		return nil, "", nil
	}
	if e.isSub() {
		return []byte("Subproject commit " + e.id.String() + "\n"), "", nil
	}
	kind, size, r, err := d.r.lower.store.open(e.id)
	if isMissing(err) {
		kind, size, r, err = d.r.merged.store.open(e.id)
	}
	if isMissing(err) {
		return nil, "The content is not there.", d.r.ctx.Err()
	}
	if err != nil {
		return nil, "", err
	}
	if c, ok := r.(*closing); ok {
		defer c.abandon()
	}
	if kind != blobType {
		return nil, "", malformed("%s is no file", e.id.short())
	}
	if size > maxDiffFile {
		return nil, fmt.Sprintf("Not shown: %d bytes.", size), nil
	}
	b, err := readSized(r, size)
	if err != nil {
		return nil, "", err
	}
	h := d.r.format.hasher(kind, size)
	h.Write(b)
	if ID(h.Sum(nil)) != e.id {
		return nil, "", malformed("%s has other content than its name says", e.id.short())
	}
	if bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0 {
		return nil, fmt.Sprintf("Binary, %d bytes.", size), nil
	}
	return b, "", nil
}

// quoted is a name as git writes it in a diff: as it is, or as a string where it has anything special.
func quoted(name string) string {
	for _, r := range name {
		if r == '"' || r == '\\' || shown(string(r)) != string(r) || r == '\t' {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}
