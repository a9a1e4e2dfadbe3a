package machine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also QEMU and vhost-device-vsock: links named for how they behave lead to it.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case strings.HasPrefix(name, "qemu-"):
		os.Exit(fakeQEMU(strings.TrimPrefix(name, "qemu-"), os.Args[1:]))
	case strings.HasPrefix(name, "vsock-"):
		os.Exit(fakeVsock(strings.TrimPrefix(name, "vsock-"), os.Args[1:]))
	}
	os.Exit(m.Run())
}

func argument(args []string, flag string) string {
	for i, a := range args {
		if a == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// inherited opens "socket,id=…,fd=N" as a connection.
func inherited(args []string, id string) net.Conn {
	for i, a := range args {
		if a == "-chardev" && strings.HasPrefix(args[i+1], "socket,id="+id+",fd=") {
			fd, _ := strconv.Atoi(args[i+1][strings.LastIndex(args[i+1], "=")+1:])
			file := os.NewFile(uintptr(fd), id)
			c, err := net.FileConn(file)
			if err != nil {
				panic(err)
			}
			file.Close()
			return c
		}
	}
	panic("no chardev " + id)
}

// fakeQEMU behaves as its name says after `cont`: runs (and prints), off, dies, exits, silent; or before: refuses, broken,
// hangs (never greets).
func fakeQEMU(behaviour string, args []string) int {
	if argument(args, "--version") != "" || len(args) == 1 {
		fmt.Println("QEMU emulator version 7.2.0 (fake)")
		return 0
	}
	switch behaviour {
	case "broken":
		fmt.Fprintln(os.Stderr, "qemu-system-fake: -device vhost-user-vsock-device: broken")
		return 1
	case "hangs":
		time.Sleep(time.Hour)
	}
	qmp, console := inherited(args, "qmp"), inherited(args, "console")
	fmt.Fprintln(qmp, `{"QMP": {"version": {}, "capabilities": []}}`)
	lines := bufio.NewScanner(qmp)
	for lines.Scan() {
		var m struct {
			Execute string
			ID      int
		}
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			return 3
		}
		if m.Execute == "cont" && behaviour == "refuses" {
			fmt.Fprintf(qmp, `{"error": {"class": "GenericError", "desc": "not today"}, "id": %d}`+"\n", m.ID)
			continue
		}
		fmt.Fprintf(qmp, `{"return": {}, "id": %d}`+"\n", m.ID)
		if m.Execute != "cont" {
			continue
		}
		if behaviour == "silent" || (behaviour == "nokvm" && argument(args, "-accel") == "kvm") {
			continue // a hypervisor that hangs its guest
		}
		fmt.Fprintln(console, "booting")
		switch behaviour {
		case "runs":
			go func() {
				for {
					fmt.Fprintln(console, "tick")
					time.Sleep(10 * time.Millisecond)
				}
			}()
		case "off":
			fmt.Fprintln(qmp, `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`)
			return 0
		case "full":
			fmt.Fprintln(qmp, `{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk1", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}}`)
			time.Sleep(time.Hour)
		case "exits":
			fmt.Fprintln(os.Stderr, "qemu-system-fake: out of order")
			return 1
		case "dies":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
		}
	}
	time.Sleep(time.Hour)
	return 0
}

// fakeVsock: ready, ends (after QEMU has connected), broken (at once), slow (never listens).
func fakeVsock(behaviour string, args []string) int {
	if len(args) == 1 {
		fmt.Println("vhost-device-vsock 0.0 (fake)")
		return 0
	}
	switch behaviour {
	case "broken":
		fmt.Fprintln(os.Stderr, "thread 'main' panicked")
		return 101
	case "slow":
		time.Sleep(time.Hour)
	}
	base, err := net.Listen("unix", argument(args, "--uds-path"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer base.Close()
	l, err := net.Listen("unix", argument(args, "--socket"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	if behaviour == "ends" {
		time.Sleep(200 * time.Millisecond)
		fmt.Fprintln(os.Stderr, "vsock: enough")
		return 1
	}
	_, _ = c.Read(make([]byte, 1))
	time.Sleep(time.Hour)
	return 0
}
