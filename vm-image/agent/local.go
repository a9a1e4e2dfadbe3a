package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// Local folders: directories of the task's own disk in place of directories of a shared folder, for what programs fetch and
// build there. The share server shows empty directories at their places. They are a convenience: a place that has gone, or is
// none any more, is told and left to the folder itself.
//
//	local/<disk>/<hash of the path>   on the data disk, beside the root's upper layer, out of the user's way

const (
	maxLocalFolders  = 100
	maxLocalPathText = 5464
	maxDiskName      = 64
)

type localParams struct {
	Disk  string   `json:"disk"`
	Paths []string `json:"paths"`
}

type localFolders struct {
	disk  string
	paths []string
}

func (p *localParams) parse() (*localFolders, error) {
	if p == nil {
		return nil, nil
	}
	if len(p.Disk) < 1 || len(p.Disk) > maxDiskName || !only(p.Disk, lower+digits+"-") {
		return nil, contract.BadParams("localFolders.disk is not a name")
	}
	if len(p.Paths) < 1 || len(p.Paths) > maxLocalFolders {
		return nil, contract.BadParams("localFolders.paths are not 1 to %d", maxLocalFolders)
	}
	l := &localFolders{disk: p.Disk}
	for _, text := range p.Paths {
		b, err := parseBase64("localFolders.paths", text, maxLocalPathText)
		if err != nil {
			return nil, err
		}
		path := string(b)
		for _, part := range strings.Split(path, "/") {
			if part == "" || part == "." || part == ".." || len(part) > 255 || strings.IndexByte(part, 0) >= 0 {
				return nil, contract.BadParams("localFolders.paths has %q, which is no path below a folder", path)
			}
		}
		l.paths = append(l.paths, path)
	}
	return l, nil
}

// mountLocal puts each local folder in its place below the mounted share.
func (a *agent) mountLocal(share int, l *localFolders) {
	if l == nil {
		return
	}
	store, err := openStore(a.root.dataFd, l.disk)
	if err != nil {
		a.tell("warning", "dependency folders stay in the shared folder: %v", err)
		return
	}
	defer unix.Close(store)
	for _, path := range l.paths {
		if err := mountLocalFolder(store, share, path, a.user); err != nil {
			a.tell("warning", "%s stays in the shared folder: %v", strconv.Quote(path), err)
		}
	}
}

// openStore opens the directory of one shared folder's local folders on the data disk.
func openStore(data int, disk string) (int, error) {
	if data < 0 {
		return -1, os.NewSyscallError("local folders", unix.ENODEV)
	}
	all, err := openOrMakePrivate(data, "local")
	if err != nil {
		return -1, err
	}
	defer unix.Close(all)
	return openOrMakePrivate(all, disk)
}

func openOrMakePrivate(at int, name string) (int, error) {
	if err := unix.Mkdirat(at, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

func mountLocalFolder(store, share int, path string, u guestUser) error {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	place, err := unix.Openat2(share, path, &how)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	hash := sha256.Sum256([]byte(path))
	name := hex.EncodeToString(hash[:16])
	switch err := unix.Mkdirat(store, name, 0o755); err {
	case nil: // what the user made of its owner and mode since is kept
		if err := unix.Fchownat(store, name, int(u.UID), int(u.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	case unix.EEXIST:
	default:
		return err
	}
	tree, err := unix.OpenTree(store, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}
