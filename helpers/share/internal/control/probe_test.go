//go:build linux

package control

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/confine"
)

// The test binary is the program as well: started under its name it runs a stage, and the serving one tries to get
// out after it has been sealed.
func TestMain(m *testing.M) {
	if os.Args[0] == "cloche-share" {
		sealed = probe
		os.Exit(Run(os.Args))
	}
	os.Exit(m.Run())
}

const probeMark = "PROBE "

// probe tries what a server that was taken over would try, and tells each attempt's errno (0: it worked).
func probe(h *handoff) {
	results := map[string]int{}
	try := func(name string, err error) {
		number := 0
		if errno, ok := err.(unix.Errno); ok {
			number = int(errno)
		} else if err != nil {
			number = -1
		}
		results[name] = number
	}
	open := func(name string, dir int, path string, flags int) {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		try(name, err)
	}
	canary := filepath.Join(filepath.Dir(h.Plan.Path), "canary")
	open("control: open inside", confine.RootFD, "file", unix.O_RDONLY)
	open("write inside", confine.RootFD, "file", unix.O_WRONLY)
	open("make inside", confine.RootFD, "probe-made", unix.O_WRONLY|unix.O_CREAT)
	var mount unix.Statfs_t
	err := unix.Fstatfs(confine.RootFD, &mount)
	if err == nil && mount.Flags&unix.ST_RDONLY != 0 {
		err = unix.EROFS
	}
	try("find the mount writable inside", err)
	open("open /etc/passwd", unix.AT_FDCWD, "/etc/passwd", unix.O_RDONLY)
	open("open the canary", unix.AT_FDCWD, canary, unix.O_RDONLY)
	open("open above the root", confine.RootFD, "../canary", unix.O_RDONLY)
	open("open through a link", confine.RootFD, "link", unix.O_RDONLY)
	open("open through proc", confine.ProcFD, "../root/etc/passwd", unix.O_RDONLY)
	open("open another process", confine.ProcFD, "../../1/environ", unix.O_RDONLY)
	open("execute the program", unix.AT_FDCWD, "/bin/sh", unix.O_RDONLY)
	for name, fd := range map[string]int{"layer": confine.LayerFD, "store": confine.StoreFD} {
		if name == "layer" && h.Plan.Layer == nil || name == "store" && h.Plan.Store == nil {
			continue
		}
		open("control: make in the "+name, fd, "probe-made", unix.O_WRONLY|unix.O_CREAT)
		open("control: read in the "+name, fd, "probe-made", unix.O_RDONLY)
		try("control: rename in the "+name, unix.Renameat2(fd, "probe-made", fd, "probe-moved", unix.RENAME_NOREPLACE))
		open("open above the "+name, fd, "../canary", unix.O_RDONLY)
		var st unix.Stat_t
		try("stat above the "+name, unix.Fstatat(fd, "../canary", &st, 0))
		try("chmod above the "+name, unix.Fchmodat(fd, "../canary", 0o777, 0))
	}
	try("terminal ioctl", unix.IoctlSetInt(2, unix.TIOCSTI, 0))
	var st unix.Stat_t
	try("stat the canary", unix.Fstatat(unix.AT_FDCWD, canary, &st, 0))
	try("chmod the canary", unix.Fchmodat(unix.AT_FDCWD, canary, 0o777, 0))
	try("touch the canary", unix.UtimesNanoAt(unix.AT_FDCWD, canary, []unix.Timespec{{}, {}}, 0))
	try("remove the canary", unix.Unlinkat(unix.AT_FDCWD, canary, 0))
	try("make a device", unix.Mknodat(confine.RootFD, "device", unix.S_IFCHR|0o666, 259))
	try("exec", unix.Exec("/bin/sh", []string{"sh"}, nil))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	try("socket", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("unix socket", err)
	try("signal the parent", unix.Kill(unix.Getppid(), 0))
	try("trace the parent", unix.PtraceAttach(h.Parent))
	try("mount", unix.Mount("tmpfs", "/", "tmpfs", 0, ""))
	try("new namespace", unix.Unshare(unix.CLONE_NEWUSER))
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	try("executable memory", err)
	_, err = unix.MemfdCreate("x", 0)
	try("memory file", err)
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if errno == 0 {
		try("fork", nil)
	} else {
		try("fork", errno)
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_USER_KEYRING, 0, 0, 0)
	try("keyring", err)
	line, _ := json.Marshal(results)
	fmt.Fprintf(os.Stderr, "%s%s\n", probeMark, line)
}
