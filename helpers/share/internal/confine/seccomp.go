//go:build linux

package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system-call filter: a list of what serving needs. Everything else answers EPERM; another architecture's calls
// end the process. Offsets are those of struct seccomp_data on a little-endian machine.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// runtimeCalls are the Go runtime's own.
var runtimeCalls = []uint32{
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
	unix.SYS_SIGALTSTACK, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_EXIT,
	unix.SYS_EXIT_GROUP, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_GETRANDOM, unix.SYS_RESTART_SYSCALL,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
}

// readCalls serve a folder read-only.
var readCalls = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_RECVFROM, unix.SYS_CLOSE, unix.SYS_PREAD64, unix.SYS_OPENAT, unix.SYS_OPENAT2,
	unix.SYS_FSTAT, sysNewfstatat, unix.SYS_STATX, unix.SYS_LSEEK, unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_FSTATFS,
	unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FLOCK, unix.SYS_FGETXATTR, unix.SYS_FLISTXATTR,
	unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN, unix.SYS_SETSOCKOPT,
}

// writeCalls change it.
var writeCalls = []uint32{
	unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FCHMODAT, unix.SYS_UTIMENSAT, unix.SYS_MKDIRAT, unix.SYS_SYMLINKAT,
	unix.SYS_LINKAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_FSETXATTR, unix.SYS_FREMOVEXATTR,
	unix.SYS_RENAMEAT2, unix.SYS_COPY_FILE_RANGE, unix.SYS_FALLOCATE, unix.SYS_SYNCFS, unix.SYS_FCHMOD, unix.SYS_FACCESSAT2,
	unix.SYS_DUP3,
}

const (
	loadWord    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jumpAnyBit  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	answer      = unix.BPF_RET | unix.BPF_K

	retAllow = unix.SECCOMP_RET_ALLOW
	retEPERM = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	// retENOSYS makes the Go runtime or libc fall back to an older call.
	retENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

func filter(readOnly bool) []unix.SockFilter {
	p := prologue()
	for _, list := range [][]uint32{readCalls, runtimeCalls, writeCalls} {
		if readOnly && &list[0] == &writeCalls[0] {
			continue
		}
		p = append(p, allowed(list)...)
	}
	p = append(p, ownMemoryAndThreads()...)
	// Locks and flags; not F_SETOWN and F_SETSIG, which send signals.
	p = append(p, oneOf(unix.SYS_FCNTL, 1, unix.F_OFD_SETLK, unix.F_OFD_GETLK, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD)...)
	// Whether a directory folds case, and sharing blocks between two files that are both open; no other request of any driver.
	requests := []uint32{unix.FS_IOC_GETFLAGS}
	if !readOnly {
		requests = append(requests, unix.FICLONE, unix.FICLONERANGE)
	}
	p = append(p, oneOf(unix.SYS_IOCTL, 1, requests...)...)
	return append(p, unix.SockFilter{Code: answer, K: retEPERM})
}

// prologue ends the process at a call of another architecture and leaves the call's number to be compared.
func prologue() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: loadWord, K: dataArch},
		{Code: jumpEqual, K: auditArch, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: loadWord, K: dataNumber},
		{Code: jumpAtLeast, K: 0x40000000, Jf: 1}, // x32 calls on x86-64; nothing is up there elsewhere
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
	}
}

func allowed(list []uint32) []unix.SockFilter {
	var p []unix.SockFilter
	for _, call := range list {
		p = append(p, unix.SockFilter{Code: jumpEqual, K: call, Jf: 1}, unix.SockFilter{Code: answer, K: retAllow})
	}
	return p
}

func ownMemoryAndThreads() []unix.SockFilter {
	// No page is ever both writable by us and executable.
	p := withoutBit(unix.SYS_MMAP, 2, unix.PROT_EXEC)
	p = append(p, withoutBit(unix.SYS_MPROTECT, 2, unix.PROT_EXEC)...)
	// Threads, not processes.
	p = append(p, withBit(unix.SYS_CLONE, 0, unix.CLONE_THREAD)...)
	p = append(p, unix.SockFilter{Code: jumpEqual, K: unix.SYS_CLONE3, Jf: 1}, unix.SockFilter{Code: answer, K: retENOSYS})
	return append(p, oneOf(unix.SYS_PRCTL, 0, unix.PR_SET_VMA)...)
}

// withoutBit allows a call when a bit of an argument is clear, withBit when it is set.
func withoutBit(call uint32, argument, bit uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: jumpEqual, K: call, Jf: 4},
		{Code: loadWord, K: dataArgs + 8*argument},
		{Code: jumpAnyBit, K: bit, Jf: 1},
		{Code: answer, K: retEPERM},
		{Code: answer, K: retAllow},
	}
}

func withBit(call uint32, argument, bit uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: jumpEqual, K: call, Jf: 4},
		{Code: loadWord, K: dataArgs + 8*argument},
		{Code: jumpAnyBit, K: bit, Jt: 1},
		{Code: answer, K: retEPERM},
		{Code: answer, K: retAllow},
	}
}

// oneOf allows a call when an argument is one of the given values.
func oneOf(call uint32, argument uint32, values ...uint32) []unix.SockFilter {
	p := []unix.SockFilter{
		{Code: jumpEqual, K: call, Jf: uint8(2 + 2*len(values))},
		{Code: loadWord, K: dataArgs + 8*argument},
	}
	for _, v := range values {
		p = append(p, unix.SockFilter{Code: jumpEqual, K: v, Jf: 1}, unix.SockFilter{Code: answer, K: retAllow})
	}
	return append(p, unix.SockFilter{Code: answer, K: retEPERM})
}

// Seal puts the filter on all threads of the process. It is the last step: from here on nothing can be started.
func Seal(readOnly bool) Measure {
	const name = "seccomp"
	if err := install(filter(readOnly)); err != nil {
		return missing(name, "%v", err)
	}
	calls := len(readCalls) + len(runtimeCalls) + 5
	if !readOnly {
		calls += len(writeCalls) + 1
	}
	return active(name, "%d system calls are allowed, all others fail", calls)
}

// install puts a filter on all threads.
func install(program []unix.SockFilter) error {
	// Another process of the same user may not look into this one or stop it.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d could not take the filter", thread)
	}
	return nil
}
