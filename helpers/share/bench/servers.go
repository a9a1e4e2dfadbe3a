//go:build linux

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"

	"github.com/hugelgupf/p9/p9"
)

// mount is an attached client.
type mount struct {
	conn   net.Conn
	client *p9.Client
	root   p9.File
	folder string
}

func (m *mount) close() {
	_ = m.root.Close()
	_ = m.client.Close()
	_ = m.conn.Close()
}

func dialer(socket, tree, folder string) func(uint32) (*mount, error) {
	return func(msize uint32) (*mount, error) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil, err
		}
		client, err := p9.NewClient(&opening{Conn: conn}, p9.WithMessageSize(msize))
		if err != nil {
			return nil, fmt.Errorf("version: %w", err)
		}
		root, err := client.Attach(tree)
		if err != nil {
			return nil, fmt.Errorf("attach: %w", err)
		}
		direct(client, conn)
		return &mount{conn: conn, client: client, root: root, folder: folder}, nil
	}
}

// opening changes the client's first two messages into what diod accepts: Tversion without the maker's extension, and
// Tattach with a user's number (0), where this client sends none. The client writes header and body apart.
type opening struct {
	net.Conn
	header []byte
}

func (o *opening) Write(b []byte) (int, error) {
	if o.header == nil {
		o.header = append([]byte{}, b...)
		return len(b), nil
	}
	frame := append(o.header, b...)
	o.header = nil
	const dialect = "9P2000.L"
	switch frame[4] {
	case 100: // Tversion: size type tag msize[4] version[s]
		frame = append(frame[:11], byte(len(dialect)), 0)
		frame = append(frame, dialect...)
		frame[0] = byte(len(frame))
	case 104: // Tattach ends with n_uname[4]
		copy(frame[len(frame)-4:], []byte{0, 0, 0, 0})
	}
	_, err := o.Conn.Write(frame)
	return len(b), err
}

// direct gives the client the socket itself, once it has attached: only so it sends and receives its
// buffers in one call each, as it does everywhere else. The field has no setter.
func direct(client *p9.Client, conn net.Conn) {
	field := reflect.ValueOf(client).Elem().FieldByName("conn")
	*(*io.ReadWriteCloser)(field.Addr().UnsafePointer()) = conn
}

func startDiod(program, folder string) (*contender, error) {
	socket := folder + ".sock"
	cmd := exec.Command(program, "-f", "-n", "-N", "-S", "-U", "root", "-e", folder, "-l", socket, "-t", "16", "-L", "stderr", "-c", "/dev/null")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return &contender{name: "diod", msize: diodMSize, folder: folder, dial: dialer(socket, folder, folder), stop: func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }}, nil
}

func startOurs(program, folder, mode string, msize uint32) (*contender, error) {
	socket := folder + ".sock"
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	request, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "serve", "params": map[string]any{
		"root": base64.StdEncoding.EncodeToString([]byte(folder)), "mode": mode, "listen": socket,
		"owner": map[string]int{"uid": 1000, "gid": 1000},
	}})
	if _, err := in.Write(append(request, '\n')); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || strings.Contains(lines.Text(), `"error"`) {
		return nil, fmt.Errorf("serve: %s", lines.Text())
	}
	go func() {
		for lines.Scan() { // notifications
		}
	}()
	return &contender{name: fmt.Sprintf("ours-%s-%dk", mode, msize>>10), msize: msize, readOnly: mode == "ro", folder: folder, dial: dialer(socket, "", folder), stop: func() { _ = in.Close(); _ = cmd.Wait() }}, nil
}
