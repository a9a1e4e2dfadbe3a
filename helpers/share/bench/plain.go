//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/stream"
)

// plain is the floor of what the modes cost: the same sessions over the same folder handles, with nothing kept, nothing
// held back and no confinement. It runs as a process of its own, as the server does.

const plainFlag = "-serve-plain"

func startPlain(folder string, msize uint32) (*contender, error) {
	socket := folder + ".sock"
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, plainFlag, folder, socket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	return &contender{name: fmt.Sprintf("plain-%dk", msize>>10), msize: msize, folder: folder, dial: dialer(socket, "", folder), stop: stop}, nil
}

func servePlain(folder, socket string) error {
	root, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	tree, err := hostfs.New(hostfs.Options{Root: root, Proc: proc, UID: 1000, GID: 1000})
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		file, err := conn.(*net.UnixConn).File()
		if err != nil {
			return err
		}
		conn.Close()
		fd, err := unix.Dup(int(file.Fd()))
		if err != nil {
			return err
		}
		file.Close()
		served := stream.New(fd)
		_ = (&ninep.Server{Tree: tree, FidLimit: ninep.DefaultFids}).ServeStream(served)
		served.Free()
	}
}
