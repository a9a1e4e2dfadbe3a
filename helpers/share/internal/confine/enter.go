//go:build linux

package confine

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Plan is what Enter needs to know.
type Plan struct {
	// Path is the folder's path, opened a second time inside the mount namespace.
	Path string
	// Device and Inode are what must be found there.
	Device, Inode uint64
	ReadOnly      bool
	Namespaces    Namespaces
	// Why tells why not more namespaces; empty when all that were wanted are there.
	Why string
}

// Enter confines the calling thread, to which it locks the goroutine for good.
func Enter(p Plan) ([]Measure, error) {
	runtime.LockOSThread()
	var measures []Measure
	switch p.Namespaces {
	case UserAndMount:
		measures = append(measures, active("user-namespace", "own user namespace with this user's ids alone"))
	case MountOnly:
		measures = append(measures, missing("user-namespace", "runs as root, which needs none to make a mount namespace"))
	default:
		measures = append(measures, missing("user-namespace", "%s", p.Why))
	}
	// Before the mounts go: the way to open a handle again, see hostfs.
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc/self/fd cannot be opened: %w", err)
	}
	if err := unix.Dup3(proc, ProcFD, 0); err != nil {
		return nil, err
	}
	unix.Close(proc)

	if p.Namespaces == NoNamespaces {
		measures = append(measures, missing("mount-namespace", "%s", p.Why))
	} else if root, err := pivot(p); err == nil {
		if err := unix.Dup3(root, RootFD, 0); err != nil {
			return nil, err
		}
		unix.Close(root)
		measures = append(measures, active("mount-namespace", "the folder is the whole tree, mounted nosuid, nodev, noexec%s", map[bool]string{true: ", read-only"}[p.ReadOnly]))
	} else {
		measures = append(measures, missing("mount-namespace", "%v", err))
	}

	measures = append(measures, limits())
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		measures = append(measures, missing("no-new-privileges", "%v", err))
	} else {
		measures = append(measures, active("no-new-privileges", "no exec gains rights"))
	}
	measures = append(measures, landlock(RootFD, exeFD, p.ReadOnly))
	measures = append(measures, dropCapabilities(p.Namespaces != UserAndMount && unix.Geteuid() == 0))
	return measures, nil
}

// pivot makes the folder the root directory of the mount namespace and gives a new descriptor of it. When it fails
// half-way the old tree may still be there, so only success counts as a measure.
func pivot(p Plan) (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("mounts cannot be made private: %w", err)
	}
	// A descriptor from outside belongs to the old namespace's mounts, so the path is opened once more.
	folder, err := unix.Open(p.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("the folder cannot be opened in the namespace: %w", err)
	}
	defer unix.Close(folder)
	if err := p.sameFolder(folder); err != nil {
		return -1, err
	}
	tree, err := unix.OpenTree(folder, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if p.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return -1, fmt.Errorf("mount_setattr: %w", err)
	}
	if err := unix.MoveMount(tree, "", folder, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("move_mount: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return -1, fmt.Errorf("fchdir: %w", err)
	}
	// Both roots in one place: the old one lies over the new one until it is taken off (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return -1, fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return -1, fmt.Errorf("the old root cannot be taken off: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return -1, fmt.Errorf("chdir: %w", err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("the new root cannot be opened: %w", err)
	}
	if err := p.sameFolder(root); err != nil {
		unix.Close(root)
		return -1, err
	}
	return root, nil
}

func (p Plan) sameFolder(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != p.Device || st.Ino != p.Inode {
		return fmt.Errorf("another folder stands at that path by now")
	}
	return nil
}

// limits raises what handles need and takes the rest.
func limits() Measure {
	const name = "limits"
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return missing(name, "%v", err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return missing(name, "%v", err)
	}
	files.Max = min(files.Max, maxDescriptors)
	files.Cur = files.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return missing(name, "%v", err)
	}
	unix.Umask(0) // the guest says which mode a new file has
	return active(name, "no core dump, %d descriptors", files.Cur)
}

// maxDescriptors is two for each of ninep.DefaultFids and as many for directories on the way.
const maxDescriptors = 4 * 65536

// Exec replaces the process by the same program with the given arguments, keeping the descriptors above. It returns
// only on failure.
func Exec(argv []string) error {
	unix.CloseOnExec(exeFD)
	for _, fd := range []int{HandoffFD, ListenFD, RootFD, ProcFD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	empty, env := byte(0), [1]*byte{}
	// By descriptor, as the program's path is gone.
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, exeFD, uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("the serving process cannot be started: %w", errno)
}
