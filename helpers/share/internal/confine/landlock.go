//go:build linux

package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights on files, grown with Landlock's versions (ABI): 13 in the first, REFER in 2, TRUNCATE in 3, IOCTL_DEV in 5.
const (
	landlockAll1     = 1<<13 - 1
	landlockIoctlDev = 1 << 15

	landlockReads  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockWrites = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// Left out on purpose: EXECUTE, MAKE_CHAR, MAKE_BLOCK, MAKE_FIFO, MAKE_SOCK, IOCTL_DEV.
)

// landlockAttr is struct landlock_ruleset_attr as of ABI 6; an older kernel takes a shorter one.
type landlockAttr struct {
	files, net, scoped uint64
}

// Scopes of Landlock, from ABI 6 on.
const (
	scopeAbstractSockets = 1 << 0
	scopeSignals         = 1 << 1
)

// newRuleset makes a Landlock ruleset that handles all that this kernel knows, and of the scopes those that are given.
func newRuleset(scopes uint64) (rules int, attr landlockAttr, abi int, err error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return -1, attr, 0, fmt.Errorf("this kernel has it not or not on: %w", errno)
	}
	attr.files = landlockAll1
	size := unsafe.Sizeof(attr.files)
	if version >= 2 {
		attr.files |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.files |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(attr.scoped)
	}
	if version >= 5 {
		attr.files |= landlockIoctlDev
	}
	if version >= 6 {
		attr.scoped = scopes
		size = unsafe.Sizeof(attr)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return -1, attr, 0, fmt.Errorf("no ruleset: %w", errno)
	}
	return int(fd), attr, int(version), nil
}

// landlock lets the calling thread reach files beneath root and the directories beside it only, and start exe once
// more.
func landlock(root, exe int, readOnly bool, beside []int) Measure {
	const name = "landlock"
	rules, attr, abi, err := newRuleset(scopeAbstractSockets | scopeSignals)
	if err != nil {
		return missing(name, "%v", err)
	}
	defer unix.Close(rules)
	also := ""
	if attr.net != 0 {
		also = ", no TCP"
	}
	if attr.scoped != 0 {
		also += ", no signals or abstract sockets outside"
	}
	rights := uint64(landlockReads)
	if !readOnly {
		rights |= landlockWrites
	}
	if err := allow(rules, root, rights&attr.files); err != nil {
		return missing(name, "no rule for the folder: %v", err)
	}
	for _, fd := range beside {
		if err := allow(rules, fd, (landlockReads|landlockWrites)&attr.files); err != nil {
			return missing(name, "no rule for layer or store: %v", err)
		}
	}
	if err := allow(rules, exe, unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_READ_FILE); err != nil {
		return missing(name, "no rule for the program: %v", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return missing(name, "cannot be applied: %v", errno)
	}
	limit := ""
	if abi < 3 {
		limit = "; truncating files elsewhere is not covered before ABI 3"
	}
	what := map[bool]string{true: "reads beneath the folder only", false: "files beneath the folder only"}[readOnly]
	if len(beside) > 0 {
		what = "files beneath the folder, its layer and its store only"
	}
	return active(name, "ABI %d: %s%s%s", abi, what, also, limit)
}

func allow(rules, fd int, rights uint64) error {
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule: %w", errno)
	}
	return nil
}
