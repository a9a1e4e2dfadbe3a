//go:build linux

package control

import (
	"encoding/json"
	"errors"

	"cloche/contract"
	"cloche/share/internal/confine"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
)

// served is the folder as this process has it: the host's own files, and over them, where there is one, the task's layer.
type served struct {
	// lower is the folder; read-only for the guest unless the mode is rw.
	lower *hostfs.Tree
	// layer is nil where the task keeps none.
	layer *layer.Layer
	// tree is what the guest gets.
	tree ninep.Tree
	// local are the paths where the guest mounts its own disk.
	local []string
}

// openServed makes the tree that the request asks for. An error is the answer to serve.
func openServed(h *handoff) (*served, error) {
	p := &h.Serving
	lower, err := hostfs.New(hostfs.Options{Root: confine.RootFD, Proc: confine.ProcFD, ReadOnly: p.Mode != "rw", UID: h.UID, GID: h.GID})
	if err != nil {
		return nil, folderError(err)
	}
	s := &served{lower: lower, tree: lower}
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
	o := view.Options{Lower: lower, UID: h.UID, GID: h.GID, Local: s.local}
	switch {
	case p.Layer == nil:
		// Nothing is kept: the view only leaves names out.
		o.Layer, o.ReadOnly = layer.Empty(*base, object.QID().Path), p.Mode == "ro"
		o.Layered = func([]string, bool) bool { return false }
	default:
		if s.layer, err = layer.Open(confine.LayerFD, *base, object.QID().Path); err != nil {
			return nil, layerError(err)
		}
		o.Layer = s.layer
		if p.Mode == "rw" {
			o.Layered, o.Carries = protected, names.Carries
		}
	}
	if *p.HideSecrets {
		o.Hidden = names.Secret
	}
	if s.tree, err = view.New(o); err != nil {
		return nil, layerError(err)
	}
	return s, nil
}

// protected tells whether a write in rw lands in the layer.
func protected(path []string, directory bool) bool {
	if directory {
		return names.ProtectedDirectory(path)
	}
	return names.Protected(path)
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
