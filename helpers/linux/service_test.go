package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"cloche/contract"
	"cloche/helper/internal/machine"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/probe"
)

// ready is a backend that can do everything and does nothing.
type ready struct{ calls []string }

func (r *ready) Start(c plan.Config) ([]machine.ProcessInfo, error) {
	return []machine.ProcessInfo{{Role: "hypervisor", Pid: 1}}, nil
}
func (r *ready) Begin()                                   {}
func (r *ready) Probe(probe.Params) (probe.Result, error) { return probe.Result{}, nil }
func (r *ready) OpenPort(uint32) error                    { return nil }
func (r *ready) ClosePort(uint32) error                   { return nil }
func (r *ready) Pause() error                             { return nil }
func (r *ready) Resume() error                            { return nil }
func (r *ready) Powerdown() error                         { return nil }
func (r *ready) Balloon(int64) error                      { return nil }
func (r *ready) Terminate(bool)                           {}
func (r *ready) Status() (machine.State, int64, []machine.ProcessInfo) {
	return machine.Idle, 0, []machine.ProcessInfo{}
}

type connection struct {
	net.Conn
	lines *bufio.Reader
	end   chan error
}

func serve(t *testing.T) *connection {
	t.Helper()
	client, server := net.Pipe()
	c := &connection{client, bufio.NewReaderSize(client, contract.MaxLineBytes), make(chan error, 1)}
	s := newService(server, server, func(machine.Listener) backend { return &ready{} })
	go func() {
		c.end <- s.serve()
		server.Close()
	}()
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// ask writes a line and gives the error of its answer: its number and code, or zero.
func (c *connection) ask(t *testing.T, line string) (number int, code string) {
	t.Helper()
	go func() { _, _ = c.Write([]byte(line + "\n")) }()
	answer, err := c.lines.ReadBytes('\n')
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	var r struct {
		Error struct {
			Code int
			Data struct{ Code string }
		}
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Fatal(err)
	}
	return r.Error.Code, r.Error.Data.Code
}

const greeting = `{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"client":"test"}}`

// The golden vectors through the service as the keeper meets it.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../contract/vectors/helper.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Count   int
		Vectors []struct {
			ID, Why, Direction, Line, LineBase64 string
			Expect                               struct {
				Reject string
				Number int
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != file.Count {
		t.Fatalf("the file says %d vectors and has %d", file.Count, len(file.Vectors))
	}
	ran, kept := 0, 0
	for _, v := range file.Vectors {
		if v.Direction != "to-helper" {
			kept++
			continue
		}
		ran++
		t.Run(v.ID, func(t *testing.T) {
			c := serve(t)
			c.ask(t, greeting)
			line := v.Line
			if v.LineBase64 != "" {
				bytes, err := base64.StdEncoding.DecodeString(v.LineBase64)
				if err != nil {
					t.Fatal(err)
				}
				line = string(bytes)
			}
			if v.Expect.Reject == "framing" {
				go func() { _, _ = c.Write([]byte(line + "\n")) }()
				if err := <-c.end; err == nil {
					t.Errorf("%s: the connection goes on", v.Why)
				}
				return
			}
			if number, code := c.ask(t, line); number != v.Expect.Number || code != v.Expect.Reject {
				t.Errorf("%s: answered %d %q", v.Why, number, code)
			}
		})
	}
	t.Logf("ran %d requests of %d, left %d messages of the other direction to TypeScript", ran, file.Count, kept)
	if ran+kept != file.Count {
		t.Error("some did not run")
	}
}

func TestHello_ComesFirst_AndItsVersionMustFit(t *testing.T) {
	c := serve(t)
	status := `{"jsonrpc":"2.0","id":1,"method":"status","params":{}}`
	if _, code := c.ask(t, status); code != "protocol.order" {
		t.Errorf("before hello: %q", code)
	}
	if _, code := c.ask(t, strings.Replace(greeting, `"protocol":1`, `"protocol":2`, 1)); code != "protocol.version" {
		t.Errorf("newer: %q", code)
	}
	if _, code := c.ask(t, status); code != "protocol.order" {
		t.Errorf("after a hello that did not fit: %q", code)
	}
	if _, code := c.ask(t, greeting); code != "" {
		t.Errorf("hello: %q", code)
	}
	if _, code := c.ask(t, status); code != "" {
		t.Errorf("after hello: %q", code)
	}
}

func TestArguments_UnknownOnesAreRefused(t *testing.T) {
	for _, args := range [][]string{{}, {"--qemu", "/q"}, {"--qemu", "/q", "--vsock-device", "/v", "more"}, {"--qemu", "/q", "--vsock-device", "/v", "--debug"}} {
		if status := run(args, strings.NewReader(""), &strings.Builder{}); status != 2 {
			t.Errorf("%v: status %d", args, status)
		}
	}
}
