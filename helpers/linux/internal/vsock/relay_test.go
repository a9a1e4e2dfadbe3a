package vsock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloche/helper/internal/plan"
)

// double is a vsock of unix sockets: port N of the guest is <dir>/guest_N, port N of the host is <dir>/host_N.
type double struct {
	dir string
	cid uint32 // whom accepted streams come from
}

func (d double) Dial(port uint32) (Conn, error) {
	c, err := net.Dial("unix", filepath.Join(d.dir, fmt.Sprintf("guest_%d", port)))
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

func (d double) Listen(port uint32) (Listener, error) {
	l, err := net.Listen("unix", d.host(port))
	return doubleListener{l, d.cid}, err
}

func (d double) host(port uint32) string { return filepath.Join(d.dir, fmt.Sprintf("host_%d", port)) }

type doubleListener struct {
	net.Listener
	cid uint32
}

func (l doubleListener) Accept() (Conn, uint32, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, 0, err
	}
	return c.(*net.UnixConn), l.cid, nil
}

// echoServer answers each stream with what it got, when it has got all.
func echoServer(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				all, _ := io.ReadAll(c)
				_, _ = c.Write(all)
				_ = c.Close()
			}()
		}
	}()
}

func relay(t *testing.T, from uint32) (*Relay, double, string) {
	t.Helper()
	dir := t.TempDir()
	d := double{dir, from}
	streams := filepath.Join(dir, "s")
	r, err := NewRelay(streams, d, 70000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r, d, streams
}

func dial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.UnixConn)
}

func TestRelay_HostToGuest_WithHalfClose(t *testing.T) {
	_, d, streams := relay(t, 70000)
	echoServer(t, filepath.Join(d.dir, "guest_5002"))
	if info, _ := os.Stat(streams); info.Mode().Perm() != 0o600 {
		t.Errorf("the base socket has mode %o", info.Mode().Perm())
	}
	c := dial(t, streams)
	// Bytes in the same write as the line are kept here (vhost-device-vsock drops them).
	_, _ = io.WriteString(c, "CONNECT 5002\nearly ")
	reader := bufio.NewReader(c)
	if ok, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(ok, "OK ") {
		t.Fatalf("%q, %v", ok, err)
	}
	_, _ = io.WriteString(c, "late")
	_ = c.CloseWrite()
	if all, err := io.ReadAll(reader); err != nil || string(all) != "early late" {
		t.Errorf("%q, %v", all, err)
	}
}

func TestRelay_BadConnectLines_AreClosedWithoutOK(t *testing.T) {
	_, d, streams := relay(t, 70000)
	echoServer(t, filepath.Join(d.dir, "guest_5002"))
	for _, line := range []string{"CONNECT 5003\n", "CONNECT 22\n", "CONNECT -1\n", "CONNECT 4294967295\n", "CONNECT 99999999999\n", "CONNECT 5002", "connect 5002\n", "CONNECT  5002\n", "CONNECT +5002\n", "\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("C", 4096)} {
		c := dial(t, streams)
		_, _ = io.WriteString(c, line)
		_ = c.CloseWrite()
		if all, _ := io.ReadAll(c); len(all) != 0 {
			t.Errorf("%q was answered with %q", line, all)
		}
	}
	c := dial(t, streams) // and the next one is served
	_, _ = io.WriteString(c, "CONNECT 5002\n")
	if ok, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Errorf("%q, %v", ok, err)
	}
}

func TestRelay_GuestToHost_OpenPortsOnly(t *testing.T) {
	r, d, streams := relay(t, 70000)
	echoServer(t, streams+"_6000")
	if _, err := net.Dial("unix", d.host(6000)); err == nil {
		t.Fatal("the port accepts before it is open")
	}
	for range 2 { // twice is harmless
		if err := r.OpenPort(6000); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Add(1)
		go func() {
			defer all.Done()
			c := dial(t, d.host(6000))
			text := strings.Repeat(fmt.Sprint(i, " "), 20000)
			go func() { _, _ = io.WriteString(c, text); _ = c.CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || string(got) != text {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		}()
	}
	all.Wait()
	for range 2 {
		if err := r.ClosePort(6000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("unix", d.host(6000)); err == nil {
		t.Error("the port accepts after it was closed")
	}
}

func TestRelay_AnotherMachinesGuest_IsRefused(t *testing.T) {
	r, d, streams := relay(t, 70001)
	echoServer(t, streams+"_6000")
	if err := r.OpenPort(6000); err != nil {
		t.Fatal(err)
	}
	c := dial(t, d.host(6000))
	_, _ = io.WriteString(c, "hello")
	_ = c.CloseWrite()
	if got, _ := io.ReadAll(c); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestRelay_NobodyServesThePort_TheStreamCloses(t *testing.T) {
	r, d, _ := relay(t, 70000)
	if err := r.OpenPort(6000); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(dial(t, d.host(6000))); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

func TestRelay_Stop_EndsEveryStreamAndRemovesTheSocket(t *testing.T) {
	r, d, streams := relay(t, 70000)
	l, _ := net.Listen("unix", filepath.Join(d.dir, "guest_5002"))
	defer l.Close()
	c := dial(t, streams)
	_, _ = io.WriteString(c, "CONNECT 5002\n")
	reader := bufio.NewReader(c)
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	idle := dial(t, streams) // has not said where to
	r.Stop()
	if _, err := reader.ReadByte(); err == nil {
		t.Error("a stream is still open")
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("a waiting client is still open")
	}
	if _, err := os.Stat(streams); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
	if err := r.OpenPort(6000); err == nil {
		if _, err := net.Dial("unix", d.host(6000)); err == nil {
			t.Error("a port was opened after Stop")
		}
	}
}

func TestLinks_OnlyOpenPortsLeadOut_StopLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	streams, paths := filepath.Join(dir, "s"), plan.NewPaths(dir)
	l, err := NewLinks(streams, paths)
	if err != nil {
		t.Fatal(err)
	}
	echoServer(t, streams+"_6000")
	out := paths.DeviceStreams + "_6000" // where the device connects for a guest
	if _, err := net.Dial("unix", out); err == nil {
		t.Error("reached before it is open")
	}
	for range 2 {
		if err := l.OpenPort(6000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("unix", out); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := l.ClosePort(6000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("unix", out); err == nil {
		t.Error("reached after it was closed")
	}
	echoServer(t, paths.DeviceStreams)
	if _, err := net.Dial("unix", streams); err != nil {
		t.Errorf("the way in: %v", err)
	}
	_ = l.OpenPort(7000)
	l.Stop()
	left, _ := os.ReadDir(dir)
	for _, entry := range left {
		if entry.Name() != "s_6000" { // the keeper's own
			t.Errorf("%s is left", entry.Name())
		}
	}
}

func TestLinks_SomethingStandsThere_IsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	streams := filepath.Join(dir, "s")
	_ = os.WriteFile(streams, []byte("mine"), 0o600)
	if _, err := NewLinks(streams, plan.NewPaths(dir)); err == nil {
		t.Fatal("no error")
	}
	if got, _ := os.ReadFile(streams); string(got) != "mine" {
		t.Error("it was replaced")
	}
	if _, err := os.Stat(plan.NewPaths(dir).Device); err == nil {
		t.Error("the device's folder is left")
	}
}
