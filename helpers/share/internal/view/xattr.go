//go:build linux

package view

import (
	"bytes"
	"sort"
	"strings"
	"syscall"

	"cloche/share/internal/layer"
)

const (
	// maxXattrs bounds the attributes of one node, so that its record stays small.
	maxXattrs     = 64 << 10
	xattrCreate   = 1
	xattrReplace  = 2
	userNamespace = "user."
)

func (n *node) ListXattr() ([]byte, error) {
	s := n.now()
	if n.isLink() || n.local {
		return nil, nil
	}
	names := map[string]bool{}
	if s.low != nil {
		list, err := s.low.ListXattr()
		if err != nil && err != syscall.EOPNOTSUPP {
			return nil, err
		}
		for _, name := range bytes.Split(list, []byte{0}) {
			if len(name) > 0 {
				names[string(name)] = true
			}
		}
	}
	if e := n.entry(s); e != nil {
		for name, value := range e.Xattrs {
			names[name] = value != nil
		}
	}
	var sorted []string
	for name, there := range names {
		if there {
			sorted = append(sorted, name)
		}
	}
	sort.Strings(sorted)
	var list []byte
	for _, name := range sorted {
		list = append(append(list, name...), 0)
	}
	return list, nil
}

func (n *node) GetXattr(name string) ([]byte, error) {
	if !strings.HasPrefix(name, userNamespace) || n.isLink() || n.local {
		return nil, syscall.ENODATA
	}
	s := n.now()
	if e := n.entry(s); e != nil {
		if value, known := e.Xattrs[name]; known {
			if value == nil {
				return nil, syscall.ENODATA
			}
			return value, nil
		}
	}
	if s.low == nil {
		return nil, syscall.ENODATA
	}
	return s.low.GetXattr(name)
}

// SetXattr keeps an attribute in the node; an empty value removes it, as 9P has no other way to say so.
func (n *node) SetXattr(name string, value []byte, flags uint32) error {
	if n.local || n.tree.options.ReadOnly {
		return syscall.EROFS
	}
	s := n.now()
	if s.id == 0 && s.low != nil && !n.layered(n.isDir()) {
		if err := n.ordinary(s.low, n.isDir()); err != nil {
			return err
		}
		if len(value) > 0 {
			if err := n.tree.roomBelow(int64(len(value))); err != nil {
				return err
			}
		}
		return s.low.SetXattr(name, value, flags)
	}
	if !strings.HasPrefix(name, userNamespace) || n.isLink() {
		return syscall.EOPNOTSUPP
	}
	_, err := n.GetXattr(name)
	there := err == nil
	switch {
	case flags&xattrCreate != 0 && there:
		return syscall.EEXIST
	case flags&xattrReplace != 0 && !there:
		return syscall.ENODATA
	}
	t := n.tree
	t.names.Lock()
	defer t.names.Unlock()
	if n.now().gone {
		return syscall.ENOENT
	}
	e, err := n.ensure()
	if err != nil {
		return err
	}
	if e.Xattrs == nil {
		e.Xattrs = map[string][]byte{}
	}
	if len(value) == 0 && flags == xattrReplace {
		value = nil
	} else {
		value = append([]byte{}, value...)
	}
	e.Xattrs[name] = value
	size := 0
	for name, value := range e.Xattrs {
		size += len(name) + len(value)
	}
	if size > maxXattrs {
		return syscall.ENOSPC
	}
	return t.change(layer.Put(e))
}
