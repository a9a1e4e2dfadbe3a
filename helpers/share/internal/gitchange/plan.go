//go:build linux

package gitchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"cloche/share/internal/gitrepo"
	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// Planned is the taking over of one git directory, as steps of one group.
type Planned struct {
	Steps []writeback.Step
	// Applied names the branches and tags that are set.
	Applied []string
	// Equal are the files, from the folder, that the host has as the task has them once the steps are done: the layer's
	// own can go. Empty when a branch is made instead.
	Equal []string
	// Token is the summary's at this moment.
	Token [32]byte

	layer    *layer.Layer
	contents []uint64
}

// Close lets go of the contents. It comes after the steps are done.
func (p *Planned) Close() { p.layer.DropContent(p.contents...) }

// Plan makes the steps that take a git directory over, as a branch or where it is. An error that is gitrepo.ErrConflict
// says that the folder changed; any other, that the task's repository cannot be taken.
func (f *Folder) Plan(ctx context.Context, dir string, asBranch bool, group int) (_ *Planned, err error) {
	r, err := f.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	summary, err := r.Summary()
	if err != nil {
		return nil, err
	}
	plan, err := r.Plan(asBranch)
	if err != nil {
		return nil, err
	}
	p := &Planned{Applied: plan.Applied, Token: summary.Token, layer: f.Layer}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	var pack uint64
	if plan.Objects() > 0 {
		if pack, err = p.content(plan.WritePack); err != nil {
			return nil, err
		}
	}
	steps, err := plan.Steps()
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	for _, s := range steps {
		path := dir
		for _, name := range s.Path {
			path = layer.Join(path, name)
		}
		at, err := f.identity(layer.Components(path))
		if err != nil {
			return nil, err
		}
		step := writeback.Step{Group: group, Path: path, Stays: s.Stays, Attributes: writeback.Attributes{Mode: s.Mode, MtimeNs: now}}
		switch s.Do {
		case gitrepo.MakeDir:
			if at != nil {
				continue
			}
			step.Op, step.Kind = writeback.MakeDir, writeback.Directory
		case gitrepo.Create, gitrepo.Replace, gitrepo.Remove:
			if (at != nil) != (s.Do != gitrepo.Create) {
				return nil, fmt.Errorf("%w: %q was changed in the folder meanwhile", gitrepo.ErrConflict, path)
			}
			step.Op, step.Kind, step.Expect = writeback.Put, writeback.File, expected(at)
			if s.Do == gitrepo.Remove {
				step.Op = writeback.Remove
				break
			}
			number := pack
			if !s.Pack {
				if number, err = p.content(func(w io.Writer) error { _, err := w.Write(s.Content); return err }); err != nil {
					return nil, err
				}
			}
			step.Content = func() (*os.File, error) { return f.Layer.OpenContent(number) }
			if s.Do == gitrepo.Replace && at.Mode != 0 {
				step.Attributes.Mode = at.Mode
			}
		default:
			return nil, fmt.Errorf("no step is called %q", s.Do)
		}
		if s.Lock != "" && !asBranch {
			p.Equal = append(p.Equal, path)
		}
		p.Steps = append(p.Steps, step)
	}
	if len(p.Steps) == 0 {
		return nil, errors.New("there is nothing of it that is ever taken over")
	}
	if len(p.Steps) > writeback.MaxSteps {
		return nil, fmt.Errorf("%w: %d branches and tags at once", gitrepo.ErrLimit, len(p.Applied))
	}
	// The identities above are older than this look, so they stand for the content that the plan was made from.
	still := func() error { return f.verify(plan, dir) }
	if err := still(); err != nil {
		return nil, err
	}
	p.Steps[0].Still = still // before any step of the group has its name
	return p, nil
}

func (f *Folder) verify(plan *gitrepo.Plan, dir string) error {
	lower, err := openDir(f.Lower, dir)
	if err != nil {
		return err
	}
	if lower == nil {
		return plan.Verify(nothing{})
	}
	defer lower.Close()
	return plan.Verify(lower)
}

// nothing is a directory that is not there yet.
type nothing struct{}

func (nothing) Names(int) ([]string, error)            { return nil, fs.ErrNotExist }
func (nothing) Kind(string) (gitrepo.Kind, error)      { return 0, fs.ErrNotExist }
func (nothing) Dir(string) (gitrepo.Dir, error)        { return nil, fs.ErrNotExist }
func (nothing) File(name string) (gitrepo.File, error) { return nil, fs.ErrNotExist }
func (nothing) Close()                                 {}

// content writes a content file of the layer's that no node names.
func (p *Planned) content(write func(io.Writer) error) (uint64, error) {
	number, file, err := p.layer.NewContent()
	if err != nil {
		return 0, err
	}
	p.contents = append(p.contents, number)
	err = write(file)
	if e := file.Close(); err == nil {
		err = e
	}
	return number, err
}

// expected is what writeback has to find.
func expected(b *layer.Base) *writeback.Identity {
	if b == nil {
		return nil
	}
	kind := map[layer.Kind]writeback.Kind{layer.File: writeback.File, layer.Directory: writeback.Directory, layer.Link: writeback.Link}[b.Kind]
	return &writeback.Identity{
		Object: writeback.Object{Device: b.Device, Inode: b.Inode}, Kind: kind, Mode: b.Mode, Size: b.Size, MtimeNs: b.MtimeNs, CtimeNs: b.CtimeNs,
	}
}
