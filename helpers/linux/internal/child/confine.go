package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confinement is what a child may still reach by path. What it needs beyond that it gets as open descriptors.
// Landlock is used where the kernel has it; without it the list in Held says so and the child runs all the same,
// for QEMU's seccomp filter, the dropped capabilities and no_new_privs hold everywhere.
type Confinement struct {
	ReadExecute []string // programs, libraries and firmware: files or folders
	Read        []string // files or folders
	ReadWrite   []string // devices
	Sockets     []string // folders in which unix sockets may be made and removed
}

// Rights of struct landlock_ruleset_attr (include/uapi/linux/landlock.h, Linux 6.18).
const (
	accessExecute    = 1 << 0
	accessWriteFile  = 1 << 1
	accessReadFile   = 1 << 2
	accessReadDir    = 1 << 3
	accessRemoveFile = 1 << 5
	accessMakeSock   = 1 << 9
	accessTruncate   = 1 << 14
	accessIoctlDev   = 1 << 15

	accessNet = 1<<0 | 1<<1 // bind and connect TCP; no rule allows either
	scopes    = 1<<0 | 1<<1 // abstract unix sockets and signals to processes outside
)

type rulesetAttr struct{ fs, net, scoped uint64 }

// handledRights are all file rights an ABI knows; what is handled and not allowed is refused.
func handledRights(abi int) uint64 {
	switch {
	case abi >= 5:
		return 1<<16 - 1
	case abi >= 3:
		return 1<<15 - 1
	case abi >= 2:
		return 1<<14 - 1
	default:
		return 1<<13 - 1
	}
}

// apply narrows the calling thread. It must be the locked thread of a child, never another one.
func (c Confinement) apply() ([]string, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	held := []string{"no_new_privs"}
	if err := dropCapabilities(); err != nil {
		return nil, fmt.Errorf("dropping capabilities: %w", err)
	}
	held = append(held, "no capabilities")
	abi, err := c.landlock()
	switch {
	case err == nil:
		held = append(held, fmt.Sprintf("landlock %d", abi))
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		held = append(held, "no landlock in this kernel")
	default:
		return nil, fmt.Errorf("landlock: %w", err)
	}
	return held, nil
}

// dropCapabilities leaves the thread, and what it executes even as uid 0, without any capability. For an ordinary user
// there is nothing to drop and nothing fails.
func dropCapabilities() error {
	for capability := uintptr(0); capability <= 63; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the kernel's last one
		}
		if errors.Is(err, unix.EPERM) {
			break // not root: an executed program gains none, no_new_privs sees to that
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

func (c Confinement) landlock() (abi int, err error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, errno
	}
	abi = int(version)
	handled := handledRights(abi)
	attr := rulesetAttr{fs: handled}
	size := uintptr(8)
	if abi >= 4 {
		attr.net, size = accessNet, 16
	}
	if abi >= 6 {
		attr.scoped, size = scopes, 24
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return abi, errno
	}
	defer unix.Close(int(ruleset))
	for _, group := range []struct {
		paths  []string
		rights uint64
	}{
		{c.ReadExecute, accessExecute | accessReadFile | accessReadDir},
		{c.Read, accessReadFile | accessReadDir},
		{c.ReadWrite, accessReadFile | accessWriteFile | accessTruncate | accessIoctlDev},
		{c.Sockets, accessReadDir | accessMakeSock | accessRemoveFile | accessWriteFile | accessReadFile},
	} {
		for _, path := range group.paths {
			if err := allow(int(ruleset), path, group.rights&handled); err != nil {
				return abi, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return abi, errno
	}
	return abi, nil
}

// allow adds one rule; a path that does not exist needs none.
func allow(ruleset int, path string, rights uint64) error {
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		rights &= accessExecute | accessWriteFile | accessReadFile | accessTruncate | accessIoctlDev
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(file.Fd())}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	runtime.KeepAlive(&attr)
	if errno != 0 {
		return errno
	}
	return nil
}
