//go:build linux

package confine

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors of the child.
const (
	// HandoffFD is a memory file with what the front process tells the serving one.
	HandoffFD = 3
	// ListenFD is the listening socket.
	ListenFD = 4
	// RootFD is the folder.
	RootFD = 5
	exeFD  = 6
	// ProcFD is /proc/self/fd; Enter makes it.
	ProcFD = 7
	// LayerFD is the task's layer and StoreFD the folder's store, for shares that have one.
	LayerFD = 8
	StoreFD = 9
	// BrokerFD is the socket to the broker, which moves files from the folder into the store.
	BrokerFD = 10
)

// Files are what a child is given. Listen, Layer, Store and Broker may be nil.
type Files struct {
	Handoff, Listen, Root, Layer, Store, Broker *os.File
}

// Namespaces says which ones a child was started in.
type Namespaces string

const (
	// MountOnly is for root.
	MountOnly Namespaces = "mount"
	// UserAndMount is for everybody else.
	UserAndMount Namespaces = "user+mount"
	// NoNamespaces is where the host gives none.
	NoNamespaces Namespaces = "none"
)

// Start runs this program again as argv, in namespaces if it can have them, with files as its descriptors. prepare writes the handoff once it is known which namespaces are tried and why not more; it is called
// again when the next lesser try begins. The calling goroutine must stay locked to its thread for as long as the
// child is to live: the child dies with that thread.
func Start(argv []string, files Files, prepare func(Namespaces, string) error) (*os.Process, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	// What is not given has its number held by exe, so that nothing else gets it before Exec closes it.
	all := []*os.File{os.Stdin, os.Stdout, os.Stderr, files.Handoff, exe, files.Root, exe, exe, exe, exe, exe}
	for fd, f := range map[int]*os.File{ListenFD: files.Listen, LayerFD: files.Layer, StoreFD: files.Store, BrokerFD: files.Broker} {
		if f != nil {
			all[fd] = f
		}
	}
	why := ""
	for _, kind := range tries() {
		if err := prepare(kind, why); err != nil {
			return nil, err
		}
		child, err := os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{
			Env:   []string{},
			Files: all,
			Sys:   attributes(kind),
		})
		if err == nil {
			return child, nil
		}
		if kind == NoNamespaces {
			return nil, err
		}
		why = fmt.Sprintf("this host gives no %s namespace: %v", kind, err)
	}
	return nil, unix.EINVAL // not reached: tries ends with NoNamespaces
}

func tries() []Namespaces {
	if os.Geteuid() == 0 {
		return []Namespaces{MountOnly, NoNamespaces}
	}
	return []Namespaces{UserAndMount, NoNamespaces}
}

func attributes(kind Namespaces) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	switch kind {
	case MountOnly:
		a.Cloneflags = unix.CLONE_NEWNS
	case UserAndMount:
		a.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
		// Our own ids and no others: what the process may do to files is what the user may.
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		// exec takes a user's capabilities away, also those of a fresh namespace, unless they are ambient.
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	}
	return a
}

// DieWithParent makes the process end with the one that started it. Credentials changing and exec both undo it, so
// each stage calls it.
func DieWithParent(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if unix.Getppid() != parent {
		return fmt.Errorf("the process that started this one has ended")
	}
	return nil
}
