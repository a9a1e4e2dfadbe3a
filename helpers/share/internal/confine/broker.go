//go:build linux

package confine

import (
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// brokerCalls rename within two directories, remove the socket's name and wait for the child.
var brokerCalls = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_OPENAT2, unix.SYS_FSTAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT,
	unix.SYS_WAITID, unix.SYS_WAIT4, unix.SYS_PIDFD_SEND_SIGNAL,
}

// brokerRights are what Landlock must grant for moving a file or a link between directories; nothing is read.
const brokerRights = unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
	unix.LANDLOCK_ACCESS_FS_REFER

// SealBroker confines this process, with all its threads, to what the broker does: renaming files and links within
// the two directories, and removing names in sockets, a directory, or -1.
func SealBroker(root, store, sockets int) []Measure {
	return []Measure{brokerLandlock(root, store, sockets), brokerFilter()}
}

func brokerLandlock(root, store, sockets int) Measure {
	const name = "broker-landlock"
	// Signals are left to the filter: the kernel sends the parent-death signal of the serving process in this one's name, and a
	// scope would keep it from a child that is outside of it.
	rules, attr, abi, err := newRuleset(scopeAbstractSockets)
	if err != nil {
		return missing(name, "%v", err)
	}
	defer unix.Close(rules)
	for _, fd := range []int{root, store} {
		if err := allow(rules, fd, brokerRights&attr.files); err != nil {
			return missing(name, "%v", err)
		}
	}
	if sockets >= 0 {
		if err := allow(rules, sockets, unix.LANDLOCK_ACCESS_FS_REMOVE_FILE); err != nil {
			return missing(name, "%v", err)
		}
	}
	// On every thread, as this process goes on running; only a program without C code can do that.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return missing(name, "no-new-privileges: %v", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return missing(name, "cannot be applied: %v", errno)
	}
	if err := dropAllThreads(); err != nil {
		return missing(name, "capabilities: %v", err)
	}
	return active(name, "ABI %d: the broker renames files within the folder and its store, and reads nothing", abi)
}

// dropAllThreads leaves root's broker what root's serving process has.
func dropAllThreads() error {
	if unix.Geteuid() != 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: rootKeeps, Permitted: rootKeeps}}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return errno
	}
	return nil
}

func brokerFilter() Measure {
	const name = "broker-seccomp"
	p := prologue()
	// The runtime signals its own threads; nobody else is signalled, which Landlock's scope would say too (see brokerLandlock).
	runtimeOnly := slices.DeleteFunc(slices.Clone(runtimeCalls), func(call uint32) bool { return call == unix.SYS_TGKILL })
	for _, list := range [][]uint32{brokerCalls, runtimeOnly} {
		p = append(p, allowed(list)...)
	}
	p = append(p, oneOf(unix.SYS_TGKILL, 0, uint32(os.Getpid()))...)
	p = append(p, ownMemoryAndThreads()...)
	p = append(p, unix.SockFilter{Code: answer, K: retEPERM})
	if err := install(p); err != nil {
		return missing(name, "%v", err)
	}
	return active(name, "%d system calls are allowed, all others fail", len(brokerCalls)+len(runtimeCalls)+5)
}
