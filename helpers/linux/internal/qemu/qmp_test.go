package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is a QEMU that greets and answers each command with what the script says.
func scripted(t *testing.T, script func(command string, id uint64, send func(string))) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		send := func(line string) { _, _ = fmt.Fprintf(theirs, "%s\r\n", line) }
		send(`{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`)
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			var m struct {
				Execute string
				ID      uint64
			}
			if json.Unmarshal(lines.Bytes(), &m) != nil {
				return
			}
			if m.Execute == "qmp_capabilities" {
				send(fmt.Sprintf(`{"return": {}, "id": %d}`, m.ID))
				continue
			}
			if m.Execute == "die" {
				theirs.Close()
				return
			}
			script(m.Execute, m.ID, send)
		}
	}()
	return ours
}

func TestClient_AnswersRefusalsAndEvents(t *testing.T) {
	events := make(chan Event, 4)
	connection := scripted(t, func(command string, id uint64, send func(string)) {
		switch command {
		case "query-status":
			send(`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}`)
			send(fmt.Sprintf(`{"return": {"status": "paused", "running": false}, "id": %d}`, id))
		case "balloon":
			send(fmt.Sprintf(`{"error": {"class": "DeviceNotActive", "desc": "No balloon device"}, "id": %d}`, id))
			send(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`)
		}
	})
	client, err := Connect(connection, func(e Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Status string }
	if err := client.Execute("query-status", nil, &status); err != nil || status.Status != "paused" {
		t.Errorf("status %q, %v", status.Status, err)
	}
	var refusal *Refusal
	if err := client.Execute("balloon", map[string]int{"value": 1}, nil); !errors.As(err, &refusal) || refusal.Class != "DeviceNotActive" {
		t.Errorf("balloon: %v", err)
	}
	if e := <-events; e.Name != "STOP" {
		t.Errorf("first event %s", e.Name)
	}
	if e := <-events; e.Name != "SHUTDOWN" || !strings.Contains(string(e.Data), "guest-reset") {
		t.Errorf("second event %s %s", e.Name, e.Data)
	}
}

func TestClient_AnswersOutOfOrderFindTheirCallers(t *testing.T) {
	var lock sync.Mutex
	var held []uint64
	connection := scripted(t, func(command string, id uint64, send func(string)) {
		lock.Lock()
		defer lock.Unlock()
		if held = append(held, id); len(held) == 8 {
			for i := len(held) - 1; i >= 0; i-- {
				send(fmt.Sprintf(`{"return": {"n": %d}, "id": %d}`, held[i], held[i]))
			}
		}
	})
	client, err := Connect(connection, func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	seen := sync.Map{}
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			var r struct{ N uint64 }
			if err := client.Execute("x", nil, &r); err != nil {
				t.Error(err)
			}
			if _, twice := seen.LoadOrStore(r.N, true); twice {
				t.Errorf("answer %d came twice", r.N)
			}
		}()
	}
	all.Wait()
}

func TestClient_HypervisorThatGoes_EndsEveryCall(t *testing.T) {
	connection := scripted(t, func(string, uint64, func(string)) {})
	client, err := Connect(connection, func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan error, 1)
	go func() { open <- client.Execute("never-answered", nil, nil) }()
	time.Sleep(20 * time.Millisecond)
	if err := client.Execute("die", nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("die: %v", err)
	}
	if err := <-open; !errors.Is(err, ErrGone) {
		t.Errorf("open call: %v", err)
	}
	if err := client.Execute("cont", nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("later call: %v", err)
	}
}

func TestConnect_BeforeTheGreeting_Gone(t *testing.T) {
	ours, theirs := net.Pipe()
	theirs.Close()
	if _, err := Connect(ours, func(Event) {}); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

func TestClient_NonsenseOrAnEndlessLine_IsTheEnd(t *testing.T) {
	for name, says := range map[string]string{"nonsense": "QEMU waiting for connection\n", "endless": strings.Repeat("x", 2<<20)} {
		ours, theirs := net.Pipe()
		go func() { _, _ = theirs.Write([]byte(says)) }()
		if _, err := Connect(ours, func(Event) {}); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
		theirs.Close()
	}
}
