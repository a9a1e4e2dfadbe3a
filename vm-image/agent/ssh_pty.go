package main

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// terminalRest is how long a terminal may be silent after its process has ended before its output counts as delivered. Usually the
// kernel says so at once, by EIO; not when a process that was left behind holds the terminal open.
const terminalRest = 200 * time.Millisecond

type terminal struct {
	master, slave *os.File
	name          string // /dev/pts/N
	term          string
}

// openTerminal makes a pseudo-terminal that belongs to the user, writable by the group of terminals as elsewhere.
func openTerminal(uid, gid int) (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/ptmx", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ioctl", err)
	}
	name := "/dev/pts/" + itoa(n)
	other, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	if uid >= 0 {
		if err = unix.Fchown(other, uid, gid); err == nil {
			err = unix.Fchmod(other, 0o620)
		}
	}
	if t, e := unix.IoctlGetTermios(other, unix.TCGETS); e == nil {
		t.Iflag |= unix.IUTF8 // erase whole characters
		_ = unix.IoctlSetTermios(other, unix.TCSETS, t)
	}
	if err != nil {
		unix.Close(other)
		unix.Close(fd)
		return nil, err
	}
	return &terminal{master: os.NewFile(uintptr(fd), "ptmx"), slave: os.NewFile(uintptr(other), name), name: name}, nil
}

func (t *terminal) resize(columns, rows, width, height uint32) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	clip := func(n uint32) uint16 { return uint16(min(n, 65_535)) }
	size := &unix.Winsize{Col: clip(columns), Row: clip(rows), Xpixel: clip(width), Ypixel: clip(height)}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) }); err != nil {
		return err
	}
	return failed
}

// drainTerminal delivers a terminal's output until its last user is gone, or, once the process has ended, until it is silent.
func (x *session) drainTerminal(finished <-chan struct{}) {
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	master := x.terminal.master
	for {
		n, err := master.Read(buffer[:])
		if n > 0 {
			if _, err := x.channel.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // EIO: nobody has the terminal open any more
		}
		select {
		case <-finished:
			_ = master.SetReadDeadline(time.Now().Add(terminalRest))
		default:
		}
	}
}
