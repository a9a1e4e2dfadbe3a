package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"
)

// Input is one git directory in both views.
type Input struct {
	// Lower is the host's, nil when the host has none; Merged is what the guest sees. Open takes both over.
	Lower, Merged Dir
	// Moved tells whether the host's file at path, below the git directory, is no longer what it was when the guest
	// made its change there, or whether that is not known. It is asked only about files that the guest changed.
	Moved func(path ...string) bool
	// Branch names the first of the branches that are offered: "cloche/receipts".
	Branch string
}

// view is one side.
type view struct {
	dir   Dir
	refs  *refs
	store *store
}

// Repository is a git directory that was opened in both views. It is used by one goroutine.
type Repository struct {
	*work
	input    Input
	format   *format
	lower    view
	merged   view
	isNew    bool
	boundary map[ID]bool // commits of a shallow clone whose parents are not there
	changes  []refChange
	refused  []string // what the guest did that is never taken over

	hostIndex, guestIndex *index // nil when it cannot be read, with the reason beside
	hostIndexWhy          string
	guestIndexWhy         string
	indexSum              []byte // of the host's, as it is
	staged                int    // entries of the index that differ
}

// Changes of one ref.
const (
	New       = "new"
	Moved     = "moved" // to a descendant
	Rewritten = "rewritten"
	Deleted   = "deleted"
)

type refChange struct {
	name     string // refs/heads/…
	kind     string
	old, new ref
	comparison
}

// Open reads refs, index and what else has a bounded size. An error says why the repository cannot be read; it is
// nothing that the caller did wrong.
func Open(ctx context.Context, in Input) (*Repository, error) {
	r := &Repository{work: &work{ctx, maxWork}, input: in, boundary: map[ID]bool{}, isNew: in.Lower == nil}
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close lets go of all handles.
func (r *Repository) Close() {
	for _, v := range []*view{&r.lower, &r.merged} {
		if v.store != nil {
			v.store.close()
		}
	}
	for _, d := range []Dir{r.input.Lower, r.input.Merged} {
		if d != nil {
			d.Close()
		}
	}
}

func (r *Repository) open() error {
	if r.input.Merged == nil {
		return errors.New("the task removed the whole repository")
	}
	own := r.input.Lower
	if r.isNew {
		own = r.input.Merged
	}
	var err error
	if r.format, err = readFormat(own); err != nil {
		return err
	}
	if err := r.openView(&r.merged, r.input.Merged); err != nil {
		return err
	}
	if r.isNew {
		r.lower.refs = &refs{all: map[string]ref{}}
		r.lower.store, err = openStore(r.work, r.format, nil)
	} else {
		err = r.openView(&r.lower, r.input.Lower)
	}
	if err != nil {
		return err
	}
	if borrowed, err := slurp(own, 1<<20, "objects", "info", "alternates"); err != nil || borrowed != nil {
		return fmt.Errorf("its objects are borrowed from another repository, which is outside what is read (%w)", cmpErr(err, errKind))
	}
	list, err := slurp(own, 4<<20, "shallow")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		if id, ok := r.format.parseID(strings.TrimSpace(line)); ok {
			r.boundary[id] = true
		}
	}
	if err := r.readIndexes(); err != nil {
		return err
	}
	if err := r.findChanges(); err != nil {
		return err
	}
	return r.findRefused()
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (r *Repository) openView(v *view, dir Dir) error {
	v.dir = dir
	objects, err := dir.Dir("objects")
	if err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	if v.store, err = openStore(r.work, r.format, objects); err != nil {
		objects.Close()
		return err
	}
	if v.refs, err = readRefs(r.work, r.format, dir); err != nil {
		return fmt.Errorf("refs: %w", err)
	}
	return nil
}

// readFormat looks for the few things in config that change how the rest is read.
func readFormat(dir Dir) (*format, error) {
	config, err := slurp(dir, 1<<20, "config")
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	f := sha1Format
	section := ""
	for line := range strings.Lines(string(config)) {
		line = strings.ToLower(strings.TrimSpace(line))
		if strings.HasPrefix(line, "[") {
			var rest string
			section, rest, _ = strings.Cut(line[1:], "]")
			line = strings.TrimSpace(rest)
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), "\"")
		switch strings.TrimSpace(section) + "." + key {
		case "core.repositoryformatversion":
			if value != "0" && value != "1" {
				return nil, fmt.Errorf("it is of format %s, newer than what is known here", shown(value))
			}
		case "extensions.objectformat":
			switch value {
			case sha256Format.name:
				f = sha256Format
			case sha1Format.name:
			default:
				return nil, fmt.Errorf("its objects are named by %s, which is not known here", shown(value))
			}
		case "extensions.refstorage":
			if value != "files" {
				return nil, fmt.Errorf("its refs are kept as %s, which is not known here", shown(value))
			}
		}
	}
	return f, nil
}

func (r *Repository) readIndexes() error {
	guest, err := slurp(r.merged.dir, maxIndex, "index")
	if err != nil {
		r.guestIndexWhy = err.Error()
	} else if r.guestIndex, err = r.format.parseIndex(r.work, guest); err != nil {
		r.guestIndexWhy = err.Error()
	}
	r.hostIndex = &index{}
	if r.isNew {
		return r.ctx.Err()
	}
	host, err := slurp(r.lower.dir, maxIndex, "index")
	if err == nil {
		r.indexSum = sum(host)
		if bytes.Equal(host, guest) {
			r.hostIndex, r.hostIndexWhy = r.guestIndex, r.guestIndexWhy
			return r.ctx.Err()
		}
		r.hostIndex, err = r.format.parseIndex(r.work, host)
	}
	if err != nil {
		r.hostIndex, r.hostIndexWhy = nil, err.Error()
	}
	if r.hostIndex == nil || r.guestIndex == nil {
		r.staged = 1 // they differ; how much is not known
	} else {
		r.staged = r.hostIndex.differences(r.guestIndex)
	}
	return r.ctx.Err()
}

func (r *Repository) findChanges() error {
	names := map[string]bool{}
	for _, v := range []*view{&r.lower, &r.merged} {
		for name := range v.refs.all {
			names[name] = true
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	var hostTips []ID
	add := func(id ID) {
		if id != "" && len(hostTips) < 100 {
			hostTips = append(hostTips, id)
		}
	}
	add(r.lower.refs.headID())
	for _, name := range sorted {
		if strings.HasPrefix(name, heads) {
			add(r.lower.refs.all[name].id)
		}
	}
	left := map[string]bool{}
	for _, name := range sorted {
		old, hadOld := r.lower.refs.all[name]
		now, hasNow := r.merged.refs.all[name]
		if hadOld == hasNow && old.same(now) {
			continue
		}
		short, ours := strings.CutPrefix(name, heads)
		if !ours {
			short, ours = strings.CutPrefix(name, tags)
		}
		switch {
		case !ours:
			// What a fetch noted of remotes is no work of the task's.
			if group := strings.Join(strings.SplitN(name, "/", 3)[:2], "/"); group != "refs/remotes" && !left[group] {
				left[group] = true
				r.refuse("%s", group)
			}
			continue
		case hasNow && !isBranchName(short):
			r.refuse("%s: not a name for a branch", name)
			continue
		case hasNow && (now.bad || now.target != ""), hadOld && (old.bad || old.target != ""):
			r.refuse("%s: not a plain ref", name)
			continue
		}
		c := refChange{name: name, old: old, new: now}
		var err error
		switch {
		case len(r.changes) == maxChanges:
			return tooMuch("more than %d branches and tags changed", maxChanges)
		case !hasNow:
			c.kind = Deleted
		case r.isNew && name != r.merged.refs.head.target:
			c.kind = New
		case !hadOld:
			c.kind = New
			err = r.compareRef(&c, hostTips)
		default:
			err = r.compareRef(&c, []ID{old.id})
			if c.kind = Rewritten; c.behind == 0 && !c.unsure {
				c.kind = Moved
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", shown(name), err)
		}
		r.changes = append(r.changes, c)
	}
	return nil
}

// compareRef counts commits; tags of something else have none.
func (r *Repository) compareRef(c *refChange, old []ID) error {
	tip, kind, err := r.peel(c.new.id)
	if err != nil {
		return err
	}
	if kind != commitType {
		if strings.HasPrefix(c.name, heads) {
			return malformed("%s is no commit", tip.short())
		}
		c.behind = len(old) // rewritten, if it was there
		return nil
	}
	var tips []ID
	for _, id := range old {
		id, kind, err := r.peel(id)
		if err != nil {
			return err
		}
		if kind == commitType {
			tips = append(tips, id)
		}
	}
	c.comparison, err = r.compare(tip, tips...)
	if len(tips) < len(old) && c.kind != New {
		c.behind++
	}
	return err
}

const maxRefused = 100

func (r *Repository) refuse(format string, args ...any) {
	if len(r.refused) < maxRefused {
		r.refused = append(r.refused, shown(fmt.Sprintf(format, args...)))
	}
}

// findRefused names what the guest changed that git reads as settings or runs as programs, and other worktrees.
func (r *Repository) findRefused() error {
	for _, path := range [][]string{
		{"config"}, {"config.worktree"}, {"shallow"}, {"commondir"}, {"gitdir"}, {"objects", "info", "alternates"},
		{"info", "attributes"}, {"info", "exclude"}, {"info", "grafts"}, {"info", "sparse-checkout"},
	} {
		if r.isNew && path[0] == "shallow" {
			continue // read above
		}
		guest, err := slurp(r.merged.dir, 4<<20, path...)
		var host []byte
		if err == nil && !r.isNew {
			host, err = slurp(r.lower.dir, 4<<20, path...)
		}
		if r.isNew && path[0] == "info" && onlyComments(guest) {
			continue
		}
		if err != nil || !bytes.Equal(guest, host) {
			r.refuse("%s", strings.Join(path, "/"))
		}
	}
	if err := r.refuseBelow("hooks"); err != nil {
		return err
	}
	return r.refuseBelow("worktrees")
}

func onlyComments(b []byte) bool {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// refuseBelow names what is other in one directory: files by their content, all else by being there. Git never runs
// a hook that is called a sample.
func (r *Repository) refuseBelow(name string) error {
	guest, err := namesOf(r.merged.dir, name)
	if err != nil {
		r.refuse("%s", name)
		return r.ctx.Err()
	}
	host := map[string]bool{}
	if !r.isNew {
		list, err := namesOf(r.lower.dir, name)
		if err != nil {
			return err
		}
		for _, n := range list {
			host[n] = true
		}
	}
	for _, n := range guest {
		if strings.HasSuffix(n, ".sample") {
			continue
		}
		if host[n] {
			delete(host, n)
			ours, errOurs := slurp(r.lower.dir, 4<<20, name, n)
			theirs, err := slurp(r.merged.dir, 4<<20, name, n)
			if errors.Is(err, errKind) && errors.Is(errOurs, errKind) || err == nil && errOurs == nil && bytes.Equal(ours, theirs) {
				continue
			}
		}
		r.refuse("%s/%s", name, n)
	}
	gone := make([]string, 0, len(host))
	for n := range host {
		if !strings.HasSuffix(n, ".sample") {
			gone = append(gone, n)
		}
	}
	sort.Strings(gone)
	for _, n := range gone {
		r.refuse("%s/%s", name, n)
	}
	return nil
}

func namesOf(d Dir, name string) ([]string, error) {
	below, err := d.Dir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer below.Close()
	names, err := below.Names(1000)
	sort.Strings(names)
	return names, err
}

func isMissing(err error) bool { return errors.Is(err, errNotFound) }
