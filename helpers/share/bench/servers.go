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
	"sync"
	"time"

	"github.com/hugelgupf/p9/p9"
)

// mount is an attached client.
type mount struct {
	conn   net.Conn
	client *p9.Client
	root   p9.File
	folder string
	// touched is the directory of this round's first touches.
	touched string
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
	r := &rpc{in: in, answers: make(chan answer)}
	go r.read(out)
	params := map[string]any{
		"root": base64.StdEncoding.EncodeToString([]byte(folder)), "mode": mode, "listen": socket,
		"owner": map[string]int{"uid": 1000, "gid": 1000}, "hideSecrets": false, "localFolders": false,
	}
	if mode != "ro" {
		layer, store := folder+".layer", folder+".store"
		for _, needed := range []string{layer, store} {
			if err := os.MkdirAll(needed, 0o700); err != nil {
				return nil, err
			}
		}
		// Versions of all rounds stay, so the limit must not decide what is measured.
		params["layer"], params["store"], params["writer"] = layer, store, "bench"
		params["keepDays"], params["versionLimitBytes"] = 30, int64(1)<<40
	}
	if _, err := r.call("serve", params); err != nil {
		return nil, err
	}
	stop := func() { _ = in.Close(); _ = cmd.Wait() }
	return &contender{
		name: fmt.Sprintf("ours-%s-%dk", mode, msize>>10), msize: msize, readOnly: mode == "ro", folder: folder,
		dial: dialer(socket, "", folder), stop: stop, call: r.call,
	}, nil
}

// rpc asks a server over its stdio, one request at a time.
type rpc struct {
	mu       sync.Mutex // guards in
	in       io.Writer
	answers  chan answer
	last     int
	recorded int
}

// Requests of ours have numbers below that; those of read, whose answers nobody waits for, have them above.
const recordedIDs = 1_000_000_000

type answer struct {
	ID     int    `json:"id"`
	Method string `json:"method"`
	Params struct {
		Batch int `json:"batch"`
	} `json:"params"`
	Result map[string]any  `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// read takes all lines, notifications too, as the server waits for whoever does not read or record.
func (r *rpc) read(out io.Reader) {
	defer close(r.answers)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a answer
		switch err := json.Unmarshal(lines.Bytes(), &a); {
		case err != nil:
		case a.Method == "activity":
			r.recorded++
			_ = r.send(recordedIDs+r.recorded, "recorded", map[string]any{"batch": a.Params.Batch})
		case a.ID != 0 && a.ID < recordedIDs:
			r.answers <- a
		}
	}
}

func (r *rpc) send(id int, method string, params map[string]any) error {
	request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.in.Write(append(request, '\n'))
	return err
}

func (r *rpc) call(method string, params map[string]any) (map[string]any, error) {
	r.last++
	if err := r.send(r.last, method, params); err != nil {
		return nil, err
	}
	a, open := <-r.answers
	switch {
	case !open:
		return nil, fmt.Errorf("%s: the server ended", method)
	case a.Error != nil:
		return nil, fmt.Errorf("%s: %s", method, a.Error)
	}
	return a.Result, nil
}
