//go:build linux

package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"cloche/share/internal/diff"
	"cloche/share/internal/gitchange"
	"cloche/share/internal/gitrepo"
	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// Reading a repository is bounded by gitrepo; these are the patience of whoever waits for a list, and for one change.
const (
	summaryTime = 5 * time.Second
	changeTime  = 60 * time.Second
)

// summarized is a repository as it was found for one state of the layer. It also hangs on files of the folder that the
// task never touched (HEAD, other refs, git's locks), so it is old soon.
type summarized struct {
	token   string
	summary *gitrepo.Summary
	at      time.Time
}

const summaryAge = 500 * time.Millisecond

func (s *Set) folder() *gitchange.Folder {
	return &gitchange.Folder{Lower: s.options.Lower, Merged: s.options.Merged, Layer: s.options.Layer, Branch: "cloche/" + s.options.Task}
}

// describeRepository tells what is new in a git directory; false: caches and times were written, no more. One that
// cannot be read in time is listed all the same, and says so.
func (s *Set) describeRepository(c *Change) bool {
	known := s.repositories[c.Path]
	if known == nil || known.token != c.Token || time.Since(known.at) > summaryAge {
		known = &summarized{c.Token, s.summarize(c.Path), time.Now()}
		if len(s.repositories) > 1000 {
			clear(s.repositories)
		}
		s.repositories[c.Path] = known
	}
	c.Summary = known.summary
	if c.Summary.Empty() && c.Summary.Conflict == "" {
		return false
	}
	if c.Kind = Modified; c.Summary.New {
		c.Kind = Added
	}
	c.Conflict = ""
	if c.Summary.Conflict != "" {
		c.Conflict = ConflictChanged
	}
	d := newDigest()
	d.text(c.Token)
	d.text(string(c.Summary.Token[:]))
	c.Token = d.token()
	return true
}

func (s *Set) summarize(path string) *gitrepo.Summary {
	ctx, done := context.WithTimeout(context.Background(), summaryTime)
	defer done()
	summary, err := func() (*gitrepo.Summary, error) {
		r, err := s.folder().Open(ctx, path)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return r.Summary()
	}()
	if err != nil {
		return &gitrepo.Summary{Conflict: "The repository cannot be read: " + err.Error()}
	}
	return summary
}

func (s *Set) compareRepository(c *Change, d *Diff) error {
	ctx, done := context.WithTimeout(context.Background(), changeTime)
	defer done()
	r, err := s.folder().Open(ctx, c.Path)
	if err != nil {
		return fmt.Errorf("%w: %v", errNotAppliable, err)
	}
	defer r.Close()
	// The diff is shown under the token of the list.
	if now, err := r.Summary(); err != nil || now.Token != c.Summary.Token {
		delete(s.repositories, c.Path)
		return ErrMovedOn
	}
	var out bytes.Buffer
	err = r.Diff(&out, func(old, new []byte) ([]byte, error) {
		if !diff.Fits(old, new) {
			return nil, errTooLarge
		}
		text, _ := diff.Of(old, new).Unified("a", "b", 3)
		// The names are above already.
		for range 2 {
			if _, rest, found := bytes.Cut(text, []byte("\n")); found {
				text = rest
			}
		}
		return text, nil
	})
	if err != nil {
		return err
	}
	d.Kind, d.Bytes = "text", out.Bytes()
	d.Total = int64(len(d.Bytes))
	return nil
}

// repositorySteps plans the taking over. The layer forgets the files that both have alike then; the objects stay in it, as the
// guest's own, and count as nothing new.
func (s *Set) repositorySteps(c *Change, w *work, chosen Chosen) ([]writeback.Step, error) {
	if len(chosen.Hunks) > 0 {
		return nil, errParts
	}
	asBranch := chosen.As != ""
	folder := s.folder()
	if asBranch {
		folder.Branch = chosen.As // one that the folder has gets a number
	}
	if c.Conflict != "" && !asBranch {
		return nil, fmt.Errorf("%w: %s", writeback.ErrConflict, c.Summary.Conflict)
	}
	ctx, done := context.WithTimeout(context.Background(), changeTime)
	defer done()
	planned, err := folder.Plan(ctx, c.Path, asBranch, 0)
	if err != nil {
		if errors.Is(err, gitrepo.ErrConflict) {
			return nil, fmt.Errorf("%w: %v", writeback.ErrConflict, err)
		}
		return nil, fmt.Errorf("%w: %v", errNotAppliable, err)
	}
	w.close = planned.Close
	if planned.Token != c.Summary.Token {
		delete(s.repositories, c.Path)
		return nil, ErrMovedOn
	}
	equal := map[string]bool{}
	for _, path := range planned.Equal {
		equal[path] = true
	}
	byNode := map[layer.ID]*part{}
	for i := range c.parts {
		byNode[c.parts[i].node.ID] = &c.parts[i]
	}
	parts := func(path string) *part {
		if n := s.nodeAt(path); n != nil {
			return byNode[n.ID]
		}
		return nil
	}
	for i := range planned.Steps {
		about := note{Quiet: true}
		path := planned.Steps[i].Path
		if p := parts(path); p != nil && equal[path] {
			about = note{Node: p.node.ID, Seq: p.node.Seq}
			if p.file != nil {
				about.Size, about.Mtime, about.Ctime = p.file.Size, p.file.Mtim.Nano(), p.file.Ctim.Nano()
			}
		} else if n := s.nodeAt(path); n != nil && n.Kind == layer.Directory && planned.Steps[i].Op == writeback.MakeDir {
			about = note{Node: n.ID, Seq: n.Seq} // a directory that the folder has from now on
		}
		planned.Steps[i].Note = noteOf(about)
	}
	return append(planned.Steps, s.sharedObjects(c, parts, writeback.MaxSteps-len(planned.Steps))...), nil
}

// sharedObjects makes the directories of loose objects that the guest has and the host has not. The guest's own would hide a
// host's of the same name, and with it the objects that git on the host puts there later: the guest's repository would miss
// what its refs name. Empty ones mean nothing to git, so an undo leaves them.
func (s *Set) sharedObjects(c *Change, parts func(string) *part, most int) []writeback.Step {
	look := newLookout(s.options.Lower)
	defer look.close()
	var steps []writeback.Step
	for i := range 256 {
		path := layer.Join(c.Path, fmt.Sprintf("objects/%02x", i))
		p := parts(path)
		if p == nil || p.node.Kind != layer.Directory || !p.node.Made || p.node.Base != nil || look.base(path) != nil || len(steps) == most {
			continue
		}
		steps = append(steps, writeback.Step{
			Op: writeback.MakeDir, Path: path, Kind: writeback.Directory, Attributes: writeback.Attributes{Mode: 0o755, MtimeNs: time.Now().UnixNano()},
			Stays: true, Note: noteOf(note{Node: p.node.ID, Seq: p.node.Seq}),
		})
	}
	return steps
}

func (s *Set) nodeAt(path string) *layer.Node {
	id := layer.RootID
	var n *layer.Node
	for _, name := range layer.Components(path) {
		if n = s.options.Layer.Child(id, name); n == nil {
			return nil
		}
		id = n.ID
	}
	return n
}
