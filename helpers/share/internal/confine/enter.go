//go:build linux

package confine

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Place is a directory by its path, which is opened a second time inside the mount namespace, and by what must be
// found there.
type Place struct {
	Path          string
	Device, Inode uint64
}

// Plan is what Enter needs to know.
type Plan struct {
	// Place is the folder.
	Place
	ReadOnly bool
	// Layer and Store are further directories that are written to; nil where the share has none, which is always
	// so when it is read-only.
	Layer, Store *Place
	// Listen: there is a socket to serve on.
	Listen bool
	// Broker: there is a socket to the broker.
	Broker     bool
	Namespaces Namespaces
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
	} else if trees, err := p.pivot(); err == nil {
		if err := p.take(trees); err != nil {
			return nil, err
		}
		what := map[bool]string{true: ", read-only"}[p.ReadOnly]
		if p.Layer != nil || p.Store != nil {
			what += "; layer and store are mounts of their own without a way up"
		}
		measures = append(measures, active("mount-namespace", "the folder is the whole tree, mounted nosuid, nodev, noexec%s", what))
	} else {
		measures = append(measures, missing("mount-namespace", "%v", err))
	}

	measures = append(measures, limits())
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		measures = append(measures, missing("no-new-privileges", "%v", err))
	} else {
		measures = append(measures, active("no-new-privileges", "no exec gains rights"))
	}
	var beside []int
	for fd := range p.beside() {
		beside = append(beside, fd)
	}
	measures = append(measures, landlock(RootFD, exeFD, p.ReadOnly, beside))
	measures = append(measures, dropCapabilities(p.Namespaces != UserAndMount && unix.Geteuid() == 0))
	return measures, nil
}

// beside gives the directories other than the folder by the descriptor that each has.
func (p Plan) beside() map[int]*Place {
	all := map[int]*Place{}
	if p.Layer != nil {
		all[LayerFD] = p.Layer
	}
	if p.Store != nil {
		all[StoreFD] = p.Store
	}
	return all
}

// take puts descriptors of the new mounts in the place of those that were inherited, which belong to the host's.
func (p Plan) take(trees map[int]int) error {
	for at, fd := range trees {
		if err := unix.Dup3(fd, at, 0); err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// pivot makes the folder the root directory of the mount namespace and gives a new descriptor of it, and of the
// directories beside it, which get mounts that hang nowhere: `..` ends at their own root. When it fails half-way the
// old tree may still be there, so only success counts as a measure.
func (p Plan) pivot() (trees map[int]int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("mounts cannot be made private: %w", err)
	}
	opened := map[int]int{}
	defer func() {
		if err != nil {
			for _, fd := range opened {
				unix.Close(fd)
			}
		}
	}()
	for at, place := range p.beside() {
		folder, tree, err := place.clone(0, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", map[int]string{LayerFD: "the layer", StoreFD: "the store"}[at], err)
		}
		unix.Close(folder)
		opened[at] = tree
	}
	attributes := uint64(0)
	if p.ReadOnly {
		attributes = unix.MOUNT_ATTR_RDONLY
	}
	folder, tree, err := p.clone(unix.AT_RECURSIVE, attributes)
	if err != nil {
		return nil, fmt.Errorf("the folder: %w", err)
	}
	defer unix.Close(folder)
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", folder, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return nil, fmt.Errorf("move_mount: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return nil, fmt.Errorf("fchdir: %w", err)
	}
	// Both roots in one place: the old one lies over the new one until it is taken off (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return nil, fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("the old root cannot be taken off: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return nil, fmt.Errorf("chdir: %w", err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the new root cannot be opened: %w", err)
	}
	opened[RootFD] = root
	return opened, p.sameAs(root)
}

// clone opens the directory in this namespace, as a descriptor from outside belongs to the old namespace's mounts,
// and makes a mount of it that hangs nowhere.
func (p Place) clone(recursive uint, attributes uint64) (folder, tree int, err error) {
	folder, err = unix.Open(p.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("cannot be opened in the namespace: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(folder)
		}
	}()
	if err := p.sameAs(folder); err != nil {
		return -1, -1, err
	}
	tree, err = unix.OpenTree(folder, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|recursive)
	if err != nil {
		return -1, -1, fmt.Errorf("open_tree: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | attributes}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|recursive, &attr); err != nil {
		unix.Close(tree)
		return -1, -1, fmt.Errorf("mount_setattr: %w", err)
	}
	return folder, tree, nil
}

// sameAs holds a descriptor against the directory that is meant.
func (p Place) sameAs(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != p.Device || st.Ino != p.Inode {
		return fmt.Errorf("another directory stands at that path by now")
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

// Exec replaces the process by the same program with the given arguments, keeping the descriptors that p speaks of.
// It returns only on failure.
func (p Plan) Exec(argv []string) error {
	kept := []int{HandoffFD, RootFD, ProcFD}
	for _, fd := range []int{exeFD, ListenFD, LayerFD, StoreFD, BrokerFD} {
		unix.CloseOnExec(fd)
	}
	for fd := range p.beside() {
		kept = append(kept, fd)
	}
	if p.Listen {
		kept = append(kept, ListenFD)
	}
	if p.Broker {
		kept = append(kept, BrokerFD)
	}
	for _, fd := range kept {
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
