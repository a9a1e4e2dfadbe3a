//go:build linux

package control

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/confine"
)

// keptPlace opens a directory of ours beside the folder: a layer or a store. It must be the user's own and closed to others, as
// what lies in it decides what reaches the folder.
func keptPlace(path, what, code string) (*os.File, *confine.Place, error) {
	refuse := func(why error) error {
		e := contract.Errorf(code, "The directory of the %s cannot be used: %v.", what, why)
		e.Native = native(why)
		return e
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, refuse(err)
	}
	f := os.NewFile(uintptr(fd), what)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, nil, refuse(err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		f.Close()
		return nil, nil, refuse(errors.New("it is not this user's alone (" + fs.FileMode(st.Mode&0o777).String() + ")"))
	}
	return f, &confine.Place{Path: path, Device: st.Dev, Inode: st.Ino}, nil
}

// openKept opens the layer and the store that p names; nil for what it does not.
func openKept(p *serve) (layer, store *os.File, layerPlace, storePlace *confine.Place, err error) {
	if p.Layer != nil {
		if layer, layerPlace, err = keptPlace(*p.Layer, "layer", "share.layer"); err != nil {
			return nil, nil, nil, nil, err
		}
	}
	if p.Store != nil {
		if store, storePlace, err = keptPlace(*p.Store, "store", "share.store"); err != nil {
			if layer != nil {
				layer.Close()
			}
			return nil, nil, nil, nil, err
		}
	}
	return layer, store, layerPlace, storePlace, nil
}
