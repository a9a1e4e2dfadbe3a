//go:build linux

package control

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"cloche/contract"
	"cloche/share/internal/changes"
	"cloche/share/internal/confine"
	"cloche/share/internal/gitrepo"
	"cloche/share/internal/layer"
	"cloche/share/internal/problem"
	"cloche/share/internal/versions"
	"cloche/share/internal/view"
	"cloche/share/internal/writeback"

	"golang.org/x/sys/unix"
)

// The changes of the task to this folder, and what was applied of them.

type changesResult struct {
	Revision uint64       `json:"revision"`
	Changes  []wireChange `json:"changes"`
	Next     string       `json:"next,omitempty"`
	Total    int          `json:"total"`
}

type wireChange struct {
	ID         string          `json:"id"`
	Path       innerPath       `json:"path"`
	From       *innerPath      `json:"from,omitempty"`
	Kind       string          `json:"kind"`
	Type       string          `json:"type"`
	SizeBytes  int64           `json:"sizeBytes"`
	Binary     bool            `json:"binary"`
	Executable bool            `json:"executable"`
	Protected  bool            `json:"protected"`
	LinkTarget *innerPath      `json:"linkTarget,omitempty"`
	Flags      []string        `json:"flags"`
	Conflict   string          `json:"conflict,omitempty"`
	Count      int             `json:"count,omitempty"`
	Repository *wireRepository `json:"repository,omitempty"`
	Seq        uint64          `json:"seq"`
	Token      string          `json:"token"`
}

type wireRepository struct {
	Branches []wireBranch `json:"branches"`
	More     int          `json:"more"`
	Refused  []string     `json:"refused"`
	Reason   string       `json:"reason,omitempty"`
}

type wireBranch struct {
	Name    innerPath `json:"name"`
	Commits int       `json:"commits"`
	Behind  int       `json:"behind,omitempty"`
	Kind    string    `json:"kind"`
}

type diffResult struct {
	Kind       string      `json:"kind"`
	Token      string      `json:"token"`
	Bytes      []byte      `json:"bytes"`
	Next       int64       `json:"next,omitempty"`
	TotalBytes int64       `json:"totalBytes"`
	Hunks      []wireHunk  `json:"hunks"`
	Summary    diffSummary `json:"summary"`
}

type wireHunk struct {
	Index    int `json:"index"`
	OldStart int `json:"oldStart"`
	OldLines int `json:"oldLines"`
	NewStart int `json:"newStart"`
	NewLines int `json:"newLines"`
}

type diffSummary struct {
	OldSizeBytes int64  `json:"oldSizeBytes"`
	NewSizeBytes int64  `json:"newSizeBytes"`
	OldSha256    string `json:"oldSha256,omitempty"`
	NewSha256    string `json:"newSha256,omitempty"`
}

type wireRefusal struct {
	ID      string    `json:"id,omitempty"`
	Path    innerPath `json:"path"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

type sliceResult struct {
	Batch     string        `json:"batch"`
	Refused   []wireRefusal `json:"refused"`
	Remaining int           `json:"remaining"`
	Applied   *[]string     `json:"applied,omitempty"`
	Discarded *[]string     `json:"discarded,omitempty"`
	Apply     string        `json:"apply,omitempty"`
	Restored  *int          `json:"restored,omitempty"`
}

type appliesResult struct {
	Applies []wireApplied `json:"applies"`
	More    bool          `json:"more"`
}

type wireApplied struct {
	Apply  string `json:"apply"`
	TimeMs int64  `json:"timeMs"`
	Files  int    `json:"files"`
	Undone bool   `json:"undone"`
}

type changedNotice struct {
	Revision uint64 `json:"revision"`
}

// Bounds of protocol.ts for answers.
const (
	maxBranches   = 64
	maxRefused    = 32
	maxApplies    = 200
	changedPeriod = 250 * time.Millisecond
)

// worked is the folder's changes as this process has them.
type worked struct {
	set *changes.Set
}

// openChanges makes the changes of a served folder. What an earlier process left unfinished in the folder is taken back
// here, before the guest sees it.
func openChanges(h *handoff, f *served) (*worked, error) {
	merged, ok := f.tree.(*view.Tree)
	if !ok || f.layer == nil || f.kept == nil {
		return nil, contract.Errorf(problem.Layer, "A folder with changes has a layer, a store and a view.")
	}
	store := f.kept.store
	write, err := writeback.Open(writeback.Options{
		Root: confine.RootFD, Store: confine.StoreFD, Proc: confine.ProcFD, Writer: *h.Serving.Writer,
		Keep: time.Duration(*h.Serving.KeepDays) * 24 * time.Hour,
		Version: func(path string, fd int, undo bool) error {
			reason := versions.Applied
			if undo {
				reason = versions.Undone
			}
			return store.Keep(versions.Victim{Path: strings.Split(path, "/"), FD: fd, Reason: reason})
		},
	})
	if err != nil {
		return nil, writeError(err)
	}
	task, _, _ := strings.Cut(*h.Serving.Writer, "-")
	set, err := changes.New(changes.Options{Layer: f.layer, Lower: f.lower, Merged: merged, Write: write, Holder: merged, Task: task, Rules: f.rules})
	if err != nil {
		return nil, layerError(err)
	}
	return &worked{set: set}, nil
}

// writeError says why the folder could not be written to, or its journal not be read.
func writeError(err error) error {
	code, message := problem.Store, "The journal of what was applied to the folder cannot be used: %v."
	var damage *writeback.Damage
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		code, message = problem.NoRoom, "A disk is full: %v. What was not written waits as before."
	case errors.Is(err, writeback.ErrBusy):
		code, message = problem.Busy, "The folder is busy: %v."
	case errors.Is(err, changes.ErrUnknown):
		code, message = problem.ChangeUnknown, "It is not there any more: %v."
	case errors.Is(err, writeback.ErrNotUndoable):
		code, message = problem.NotUndoable, "Nothing was taken back: %v."
	}
	e := contract.Errorf(code, message, err)
	if errors.As(err, &damage) {
		e.Evidence = damage.Error()
	}
	e.Native = native(err)
	return e
}

func (w *worked) changes(raw json.RawMessage) (any, error) {
	p, err := parseChanges(raw)
	if err != nil {
		return nil, err
	}
	page, err := w.set.List(p.After, p.Limit)
	if err != nil {
		if !errors.Is(err, changes.ErrCursor) {
			return nil, layerError(err)
		}
		return nil, contract.BadParams("after: %v", err)
	}
	result := changesResult{Revision: page.Revision, Changes: []wireChange{}, Next: page.Next, Total: page.Total}
	bytes := 0
	for i, c := range page.Changes {
		one := wireOf(c)
		size := 2*(len(c.Path)+len(c.From)+len(c.LinkTarget)) + 512
		if one.Repository != nil {
			size += len(one.Repository.Refused) * 300
			for _, b := range one.Repository.Branches {
				size += 2*len(b.Name) + 100
			}
		}
		if bytes += size; bytes > maxPageBytes && i > 0 {
			result.Next = changes.CursorAt(page, p.After, i)
			break
		}
		result.Changes = append(result.Changes, one)
	}
	return result, nil
}

// cutPath gives the end of a path that is too long to be told whole.
func cutPath(path string) innerPath { return innerPath(path[max(0, len(path)-maxInnerPath):]) }

func wireOf(c *changes.Change) wireChange {
	one := wireChange{
		ID: c.ID, Path: cutPath(c.Path), Kind: c.Kind, Type: c.Type, SizeBytes: c.Size, Binary: c.Binary, Executable: c.Executable,
		Protected: c.Protected, Flags: append([]string{}, c.Flags...), Conflict: c.Conflict, Count: c.Count, Seq: c.Seq, Token: c.Token,
	}
	if c.From != "" {
		from := cutPath(c.From)
		one.From = &from
	}
	if c.LinkTarget != "" {
		target := innerPath(c.LinkTarget[:min(len(c.LinkTarget), maxInnerPath)])
		one.LinkTarget = &target
	}
	if c.Summary != nil {
		one.Repository = repositoryOf(c.Summary)
	}
	return one
}

func repositoryOf(s *gitrepo.Summary) *wireRepository {
	r := &wireRepository{Branches: []wireBranch{}, Refused: []string{}, Reason: contract.Tail(s.Conflict, 512)}
	for _, b := range s.Branches {
		if len(r.Branches) == maxBranches {
			r.More++
			continue
		}
		r.Branches = append(r.Branches, wireBranch{Name: innerPath(b.Name[:min(len(b.Name), maxBranchName)]), Commits: b.Commits, Behind: b.Behind, Kind: b.Kind})
	}
	for _, what := range s.Refused {
		if len(r.Refused) < maxRefused {
			r.Refused = append(r.Refused, contract.Tail(what, 256))
		}
	}
	return r
}

func (w *worked) diff(raw json.RawMessage) (any, error) {
	p, err := parseDiff(raw)
	if err != nil {
		return nil, err
	}
	d, err := w.set.Diff(p.ID, p.Side, p.Context, p.Offset, p.Limit)
	if errors.Is(err, changes.ErrUnknown) {
		return nil, contract.Errorf(problem.ChangeUnknown, "There is no such change any more.")
	}
	if err != nil {
		e := contract.Errorf(problem.Native, "The change cannot be compared: %v.", err)
		e.Native = native(err)
		return nil, e
	}
	result := diffResult{
		Kind: d.Kind, Token: d.Token, Bytes: d.Bytes, Next: d.Next, TotalBytes: d.Total, Hunks: []wireHunk{},
		Summary: diffSummary{OldSizeBytes: d.OldSize, NewSizeBytes: d.NewSize, OldSha256: d.OldSum, NewSha256: d.NewSum},
	}
	if result.Bytes == nil {
		result.Bytes = []byte{}
	}
	for i, h := range d.Hunks {
		result.Hunks = append(result.Hunks, wireHunk{i, h.OldStart, h.OldLines, h.NewStart, h.NewLines})
	}
	return result, nil
}

// what turns a request's choice into the package's.
func (c *chosen) what() changes.What {
	what := changes.What{All: c.All}
	if c.Revision != nil {
		what.Revision = uint64(*c.Revision)
		what.Shown = !c.All
	}
	for _, one := range c.Changes {
		as := ""
		if one.As != nil {
			as = string(*one.As)
		}
		what.Changes = append(what.Changes, changes.Chosen{ID: one.ID, Token: one.Token, Hunks: one.Hunks, As: as, Below: one.Below != nil})
	}
	return what
}

func toSlice(s *changes.Slice) sliceResult {
	result := sliceResult{Batch: s.Batch, Refused: []wireRefusal{}, Remaining: s.Remaining}
	for _, r := range s.Refused {
		result.Refused = append(result.Refused, wireRefusal{ID: r.ID, Path: cutPath(r.Path), Code: r.Code, Message: strings.ToValidUTF8(r.Message, "?")})
	}
	return result
}

func ids(done []string) *[]string {
	if done == nil {
		done = []string{}
	}
	return &done
}

func (w *worked) apply(raw json.RawMessage) (any, error) {
	return w.sliced(raw, parseApply, w.set.Apply, w.set.ApplyMore, func(r *sliceResult, s *changes.Slice) { r.Applied = ids(s.Done) })
}

func (w *worked) discard(raw json.RawMessage) (any, error) {
	return w.sliced(raw, parseDiscard, w.set.Discard, w.set.DiscardMore, func(r *sliceResult, s *changes.Slice) { r.Discarded = ids(s.Done) })
}

func (w *worked) sliced(raw json.RawMessage, parse func(json.RawMessage) (sliced, error), begin func(changes.What) (*changes.Slice, error), more func(string) (*changes.Slice, error), fill func(*sliceResult, *changes.Slice)) (any, error) {
	p, err := parse(raw)
	if err != nil {
		return nil, err
	}
	var s *changes.Slice
	if p.What != nil {
		s, err = begin(p.What.what())
	} else {
		s, err = more(p.Batch)
	}
	if err != nil {
		return nil, writeError(err)
	}
	result := toSlice(s)
	fill(&result, s)
	return result, nil
}

func (w *worked) applies(raw json.RawMessage) (any, error) {
	if _, err := parseNothing(raw); err != nil {
		return nil, err
	}
	result := appliesResult{Applies: []wireApplied{}}
	for _, a := range w.set.Applies() {
		if len(result.Applies) == maxApplies {
			result.More = true
			break
		}
		result.Applies = append(result.Applies, wireApplied{a.Apply, a.TimeMs, a.Files, a.Undone})
	}
	return result, nil
}

func (w *worked) undo(raw json.RawMessage) (any, error) {
	p, err := parseUndo(raw)
	if err != nil {
		return nil, err
	}
	var s *changes.Slice
	var apply string
	if p.Batch != "" {
		s, apply, err = w.set.UndoMore(p.Batch)
	} else {
		s, apply, err = w.set.Undo(p.Apply)
	}
	if err != nil {
		return nil, writeError(err)
	}
	result := toSlice(s)
	result.Apply, result.Restored = apply, &s.Restored
	return result, nil
}

// tellChanged calls tell when the layer has changed, at once and then at most once in a period.
func tellChanged(l *layer.Layer, tell func(revision uint64)) {
	var mu sync.Mutex
	var latest uint64
	waiting := false
	var last time.Time
	l.OnChange(func(seq uint64) {
		mu.Lock()
		defer mu.Unlock()
		latest = seq
		if waiting {
			return
		}
		waiting = true
		time.AfterFunc(max(0, changedPeriod-time.Since(last)), func() {
			mu.Lock()
			waiting, last = false, time.Now()
			revision := latest
			mu.Unlock()
			tell(revision)
		})
	})
}
