//go:build linux

package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/contract"
)

// folder is an opened, not yet served folder.
type folder struct {
	fd       int // O_PATH
	identity identity
}

// openFolder opens path, whose last component must be a directory and not a link, and tells what it is. Links on
// the way there are the user's own and stay allowed: the identity, not the path, is what was granted.
func openFolder(path string) (*folder, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, folderError(err)
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		unix.Close(fd)
		return nil, folderError(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Close(fd)
		return nil, contract.Errorf("share.not-a-folder", "The path is not a folder, or is a link to one.")
	}
	// O_PATH asks for no right on the folder itself; being able to list it is the least a share needs.
	if err := unix.Faccessat(fd, ".", unix.R_OK|unix.X_OK, 0); err != nil {
		unix.Close(fd)
		return nil, folderError(err)
	}
	return &folder{fd: fd, identity: identityOf(&st)}, nil
}

// places are where the host has the folder, as components: by the way that the user came and by its own, which differ where a link lies on
// the former, and by each git directory above it that has another name but a HEAD.
func (f *folder) places(path string) [][]string {
	split := func(path string) []string { return strings.Split(strings.Trim(filepath.Clean(path), "/"), "/") }
	parts := split(path)
	all := [][]string{parts}
	if own, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(f.fd)); err == nil && !slices.Equal(split(own), parts) {
		parts = split(own)
		all = append(all, parts)
	}
	for depth := 1; depth < len(parts); depth++ {
		var st unix.Stat_t
		if err := unix.Lstat("/"+strings.Join(parts[:depth], "/")+"/HEAD", &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			all = append(all, append([]string{".git"}, parts[depth:]...))
		}
	}
	return all
}

func folderError(err error) error {
	code, message := "share.unreadable", "The folder cannot be opened with this user's rights."
	switch {
	case errors.Is(err, unix.ENOENT):
		code, message = "share.not-found", "The folder does not exist."
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		code, message = "share.not-a-folder", "The path is not a folder, or is a link to one."
	}
	e := contract.Errorf(code, "%s", message)
	e.Native = native(err)
	return e
}

func native(err error) *contract.Native {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	name := unix.ErrnoName(errno)
	if name == "" {
		name = strconv.Itoa(int(errno))
	}
	return &contract.Native{Domain: "errno", Code: name}
}

// filesystemNames are the ones people meet; any other shows as its number.
var filesystemNames = map[int64]string{
	0xEF53: "ext4", 0x9123683E: "btrfs", 0x58465342: "xfs", 0x01021994: "tmpfs", 0x2FC12FC1: "zfs", 0xF2F52010: "f2fs",
	0x794C7630: "overlay", 0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x65735546: "fuse", 0x01021997: "9p",
	0x4D44: "vfat", 0x2011BAB0: "exfat", 0x5346544E: "ntfs", 0x7366746E: "ntfs3", 0xF15F: "ecryptfs", 0xCA451A4E: "bcachefs",
}

// describe tells on which filesystem a folder lies, and whether that is mounted read-only.
func (f *folder) describe() (filesystem string, readOnly bool, err error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(f.fd, &s); err != nil {
		return "", false, folderError(err)
	}
	name := filesystemNames[int64(uint32(s.Type))]
	if name == "" {
		name = fmt.Sprintf("0x%x", uint32(s.Type))
	}
	return name, s.Flags&unix.ST_RDONLY != 0, nil
}

// listenQueue is for a burst of a guest's while this process does not get to run; a kernel that allows less takes less.
const listenQueue = 4096

// listen binds path with mode 0600 from its first moment. An existing path is left alone and refused.
func listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, listenError(err)
	}
	old := unix.Umask(0o177)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	unix.Umask(old)
	if err == nil {
		err = unix.Listen(fd, listenQueue)
	}
	if err != nil {
		unix.Close(fd)
		return -1, listenError(err)
	}
	return fd, nil
}

func listenError(err error) error {
	e := contract.Errorf("share.listen", "The socket cannot be made: %v.", err)
	e.Native = native(err)
	return e
}
