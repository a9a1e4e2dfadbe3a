//go:build linux

package control

import (
	"encoding/json"
	"errors"
	"sync"

	"cloche/contract"
	"cloche/share/internal/confine"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/view"
)

// served is the folder as this process has it: the host's own files, and over them, where there is one, the task's layer.
type served struct {
	// lower is the folder; read-only for the guest unless the mode is rw.
	lower *hostfs.Tree
	// layer is nil where the task keeps none.
	layer *layer.Layer
	// kept is nil where no versions are kept.
	kept *kept
	// tree is what the guest gets.
	tree ninep.Tree
	// local are the paths where the guest mounts its own disk.
	local []string
	// rules say what is protected in this folder, once it is looked through; nil where the task keeps no layer.
	rules func() *names.Rules
}

// openServed makes the tree that the request asks for. An error is the answer to serve. noRoom is called when a write
// waits for room for a version, refused when it failed for want of it.
func openServed(h *handoff, noRoom func(versions.Room), refused func(versions.Room, string)) (*served, error) {
	p := &h.Serving
	o := hostfs.Options{Root: confine.RootFD, Proc: confine.ProcFD, ReadOnly: p.Mode != "rw", UID: h.UID, GID: h.GID}
	s := &served{}
	var err error
	if h.Plan.Store != nil {
		if s.kept, err = openVersions(h, noRoom, refused); err != nil {
			return nil, err
		}
		o.Versions = s.kept.store
	}
	lower, err := hostfs.New(o)
	if err != nil {
		return nil, folderError(err)
	}
	s.lower, s.tree = lower, lower
	if s.kept != nil {
		if err := s.kept.restoreTo(lower, h); err != nil {
			return nil, err
		}
	}
	root := lower.Root()
	defer root.Drop()
	if *p.LocalFolders {
		s.local = localFolders(root)
	}
	if p.Layer == nil && !*p.HideSecrets && len(s.local) == 0 {
		return s, nil
	}
	object := root.(view.Object)
	base, err := view.Identity(object, "")
	if err != nil {
		return nil, folderError(err)
	}
	v := view.Options{Lower: lower, UID: h.UID, GID: h.GID, Local: s.local}
	switch {
	case p.Layer == nil:
		// Nothing is kept: the view only leaves names out.
		v.Layer, v.ReadOnly = layer.Empty(*base, object.QID().Path), p.Mode == "ro"
		v.Layered = func([]string, bool, view.Look) bool { return false }
	default:
		if s.layer, err = layer.Open(confine.LayerFD, *base, object.QID().Path); err != nil {
			return nil, layerError(err)
		}
		v.Layer, v.Room = s.layer, s.layer.Room
		hostPath, err := decodeRoot(p.Root)
		if err != nil {
			return nil, err
		}
		// It is looked through while the guest boots; whoever needs the rules sooner waits.
		s.rules = sync.OnceValue(func() *names.Rules {
			root := lower.Root()
			defer root.Drop()
			return rulesOf(root, hostPath, h.places())
		})
		go s.rules()
		if p.Mode == "rw" {
			v.Layered = func(path []string, directory bool, look view.Look) bool {
				return s.rules().Protected(path, directory, look)
			}
			v.Carries = func(path []string, look view.Look) bool { return s.rules().Carries(path, look) }
			v.LeadsOut = names.LeadsOut
			v.RoomBelow = layer.RoomAt(confine.RootFD)
		}
	}
	v.Hidden = names.Temporary
	if *p.HideSecrets {
		v.Hidden = func(name string) bool { return names.Temporary(name) || names.Secret(name) }
	}
	if s.tree, err = view.New(v); err != nil {
		return nil, layerError(err)
	}
	return s, nil
}

// layerError says what is wrong with a layer; its files are left as they are.
func layerError(err error) error {
	e := contract.Errorf("share.layer", "The changes that the task has made cannot be read: %v.", err)
	var corrupt *layer.CorruptError
	if errors.As(err, &corrupt) {
		e.Evidence = corrupt.Error()
	}
	return e
}

func (s *serving) secrets(raw json.RawMessage) (any, error) {
	if err := contract.Params(raw, &struct{}{}); err != nil {
		return nil, err
	}
	if s.folder == nil {
		return nil, contract.Errorf("protocol.order", "Nothing is served.")
	}
	root := s.folder.lower.Root()
	defer root.Drop()
	paths, more := secretNames(root)
	return secretsResult{Paths: paths, More: more}, nil
}

func innerPaths(paths []string) []innerPath {
	all := make([]innerPath, len(paths))
	for i, path := range paths {
		all[i] = innerPath(path)
	}
	return all
}
