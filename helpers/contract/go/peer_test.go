package contract

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// served runs a peer over a pipe and gives its other end.
func served(t *testing.T, handlers map[string]Handler) (client net.Conn, answers *bufio.Reader, end chan error) {
	t.Helper()
	client, server := net.Pipe()
	end = make(chan error, 1)
	peer := NewPeer(server, server, handlers)
	go func() {
		end <- peer.Serve()
		server.Close()
	}()
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	return client, bufio.NewReaderSize(client, MaxLineBytes), end
}

func write(t *testing.T, w io.Writer, line string) {
	t.Helper()
	if _, err := io.WriteString(w, line); err != nil {
		t.Fatal(err)
	}
}

type reply struct {
	ID     int
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    struct {
			Code, Evidence string
			Native         *Native
		}
	}
}

func next(t *testing.T, answers *bufio.Reader) reply {
	t.Helper()
	line, err := answers.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func echo(raw json.RawMessage) (any, error) {
	var p struct {
		Text string `json:"text"`
	}
	if err := Params(raw, &p); err != nil {
		return nil, err
	}
	return map[string]int{"length": len(p.Text)}, nil
}

// exactly makes a request whose line, newline included, has the given length.
func exactly(length int) string {
	head, tail := `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":"`, "\"}}\n"
	return head + strings.Repeat("x", length-len(head)-len(tail)) + tail
}

func TestPeer_LineOfExactlyTheLimit_IsAnswered(t *testing.T) {
	client, answers, _ := served(t, map[string]Handler{"echo": echo})
	go io.WriteString(client, exactly(MaxLineBytes)) // a failed write shows as a missing answer
	if r := next(t, answers); r.Error != nil {
		t.Fatalf("answered %+v", r.Error)
	}
}

func TestPeer_OneByteMore_ClosesBeforeActing(t *testing.T) {
	acted := false
	client, _, end := served(t, map[string]Handler{"echo": func(json.RawMessage) (any, error) { acted = true; return nil, nil }})
	go func() { _, _ = io.WriteString(client, exactly(MaxLineBytes+1)) }()
	if err := <-end; !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("ended with %v", err)
	}
	if acted {
		t.Error("the line was acted on")
	}
}

func TestPeer_EndlessLineWithoutNewline_Closes(t *testing.T) {
	client, _, end := served(t, nil)
	go func() {
		for {
			if _, err := io.WriteString(client, strings.Repeat(" ", 1<<16)); err != nil {
				return
			}
		}
	}()
	if err := <-end; !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("ended with %v", err)
	}
}

func TestPeer_BadLines_CloseTheConnection(t *testing.T) {
	good := `{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":""}}`
	for name, line := range map[string]string{
		"invalid UTF-8":       strings.Replace(good, "echo", "ech\xff", 1),
		"two objects":         good + good,
		"two with a space":    good + " " + good,
		"a batch":             "[" + good + "]",
		"not JSON":            "GET / HTTP/1.1",
		"an empty line":       "",
		"a key twice":         strings.Replace(good, `"id":1`, `"id":1,"id":2`, 1),
		"a key in capitals":   strings.Replace(good, `"id"`, `"ID"`, 1),
		"an unknown key":      strings.Replace(good, `"id":1`, `"id":1,"x":2`, 1),
		"a notification":      strings.Replace(good, `"id":1,`, ``, 1),
		"nested past reading": strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			client, _, end := served(t, map[string]Handler{"echo": echo})
			go func() { _, _ = io.WriteString(client, line+"\n") }()
			if err := <-end; !errors.Is(err, ErrNotOneObject) {
				t.Fatalf("ended with %v", err)
			}
		})
	}
}

func TestPeer_EndOfInput(t *testing.T) {
	client, _, end := served(t, nil)
	client.Close()
	if err := <-end; err != nil {
		t.Errorf("between lines: %v", err)
	}
	client, _, end = served(t, nil)
	go func() { _, _ = io.WriteString(client, `{"jsonrpc"`); client.Close() }()
	if err := <-end; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("in a line: %v", err)
	}
}

func TestPeer_SixtyFiveOpenRequests_Close_SixtyFourDoNot(t *testing.T) {
	release := make(chan struct{})
	var running sync.WaitGroup
	running.Add(MaxOpenRequests)
	client, answers, end := served(t, map[string]Handler{"wait": func(json.RawMessage) (any, error) {
		running.Done()
		<-release
		return nil, nil
	}})
	ask := func(id int) {
		write(t, client, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"wait","params":{}}`+"\n", id))
	}
	for id := 1; id <= MaxOpenRequests; id++ {
		ask(id)
	}
	running.Wait()
	select {
	case err := <-end:
		t.Fatalf("closed at 64: %v", err)
	default:
	}
	ask(65)
	if err := <-end; !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("ended with %v", err)
	}
	close(release)
	_ = answers
}

func TestPeer_AnswersFreeTheirPlaces(t *testing.T) {
	client, answers, _ := served(t, map[string]Handler{"echo": echo})
	for id := 1; id <= 3*MaxOpenRequests; id++ {
		write(t, client, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"echo","params":{"text":"a"}}`+"\n", id))
		if r := next(t, answers); r.ID != id || string(r.Result) != `{"length":1}` {
			t.Fatalf("answered %+v", r)
		}
	}
}

func TestPeer_UnknownMethodAndBadParams_AreErrorsAndTheConnectionLives(t *testing.T) {
	client, answers, _ := served(t, map[string]Handler{"echo": echo})
	for _, c := range []struct {
		why, method, params string
		number              int
	}{
		{"unknown method", "nonsense", `{}`, -32601},
		{"unknown field", "echo", `{"text":"","more":1}`, -32602},
		{"missing field", "echo", `{}`, -32602},
		{"null", "echo", `{"text":null}`, -32602},
		{"wrong type", "echo", `{"text":1}`, -32602},
		{"other capitals", "echo", `{"Text":"a"}`, -32602},
		{"twice", "echo", `{"text":"a","text":"b"}`, -32602},
		{"twice by an escape", "echo", `{"text":"a","t\u0065xt":"b"}`, -32602},
		{"good again", "echo", `{"text":"a"}`, 0},
	} {
		write(t, client, `{"jsonrpc":"2.0","id":7,"method":"`+c.method+`","params":`+c.params+"}\n")
		r := next(t, answers)
		switch {
		case c.number == 0 && r.Error != nil:
			t.Errorf("%s: refused with %+v", c.why, r.Error)
		case c.number != 0 && (r.Error == nil || r.Error.Code != c.number || r.Error.Data.Code != "protocol.params"):
			t.Errorf("%s: answered %s %+v", c.why, r.Result, r.Error)
		}
	}
}

func TestPeer_Errors_CarryCodeEvidenceAndNative_WithinBounds(t *testing.T) {
	client, answers, _ := served(t, map[string]Handler{"fail": func(json.RawMessage) (any, error) {
		e := Errorf("helper.native", "%s", strings.Repeat("ä", 9000))
		e.Evidence = strings.Repeat("é", 20000) + "end"
		e.Native = &Native{Domain: "errno", Code: "ENOENT"}
		return nil, e
	}})
	write(t, client, `{"jsonrpc":"2.0","id":7,"method":"fail","params":{}}`+"\n")
	r := next(t, answers)
	if r.Error.Code != -32000 || r.Error.Data.Code != "helper.native" || r.Error.Data.Native.Code != "ENOENT" {
		t.Errorf("answered %+v", r.Error)
	}
	if len(r.Error.Data.Evidence) > maxEvidenceBytes || !strings.HasSuffix(r.Error.Data.Evidence, "éend") || strings.ContainsRune(r.Error.Data.Evidence, '\uFFFD') {
		t.Errorf("evidence of %d bytes", len(r.Error.Data.Evidence))
	}
	if len(r.Error.Message) > maxMessageBytes {
		t.Errorf("message of %d bytes", len(r.Error.Message))
	}
}

func TestPeer_After_RunsWhenTheAnswerIsOut(t *testing.T) {
	var peer *Peer
	client, server := net.Pipe()
	defer client.Close()
	peer = NewPeer(server, server, map[string]Handler{"start": func(json.RawMessage) (any, error) {
		return Answer{After: func() { _ = peer.Notify("exited", struct{}{}) }}, nil
	}})
	go peer.Serve()
	go io.WriteString(client, `{"jsonrpc":"2.0","id":1,"method":"start","params":{}}`+"\n")
	lines := bufio.NewReader(client)
	first, _ := lines.ReadString('\n')
	second, _ := lines.ReadString('\n')
	if first != `{"jsonrpc":"2.0","id":1,"result":{}}`+"\n" || second != `{"jsonrpc":"2.0","method":"exited","params":{}}`+"\n" {
		t.Errorf("got %q then %q", first, second)
	}
}

// The codes that this package itself makes must be in the list.
func TestErrors_ListHasNoCodeTwice(t *testing.T) {
	raw, err := os.ReadFile("../errors.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Codes []struct{ Code string } }
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range list.Codes {
		if seen[c.Code] {
			t.Errorf("%s twice", c.Code)
		}
		seen[c.Code] = true
	}
	for _, needed := range []string{"protocol.version", "protocol.order", "protocol.params"} {
		if !seen[needed] {
			t.Errorf("%s is missing", needed)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":""}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"id":2,"method":"","params":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err == nil && (m.Method == "" || m.Params[0] != '{' || !json.Valid(line)) {
			t.Errorf("accepted %q", line)
		}
	})
}
