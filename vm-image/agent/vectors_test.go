package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"testing"
	"time"

	"cloche/contract"
)

// parsers are the handlers without their deeds.
func parsers() map[string]contract.Handler {
	only := func(parse func(json.RawMessage) error) contract.Handler {
		return func(raw json.RawMessage) (any, error) { return nil, parse(raw) }
	}
	return map[string]contract.Handler{
		"configure":      only(func(raw json.RawMessage) error { _, err := parseConfigure(raw); return err }),
		"mount":          only(func(raw json.RawMessage) error { _, err := parseMount(raw); return err }),
		"unmount":        only(func(raw json.RawMessage) error { _, err := parseUnmount(raw); return err }),
		"setEnvironment": only(func(raw json.RawMessage) error { _, err := parseSetEnvironment(raw); return err }),
		"command":        only(func(raw json.RawMessage) error { _, err := parseCommand(raw); return err }),
		"setTime":        only(func(raw json.RawMessage) error { _, err := parseSetTime(raw); return err }),
		"shutdown":       only(func(raw json.RawMessage) error { _, err := parseShutdown(raw); return err }),
		"stats":          noParamsOnly, "ping": noParamsOnly, "sync": noParamsOnly,
	}
}

func noParamsOnly(raw json.RawMessage) (any, error) { return nil, noParams(raw) }

func TestVectors_EveryRequestToTheAgent(t *testing.T) {
	raw, err := os.ReadFile("../../helpers/contract/vectors/agent.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Count   int
		Vectors []struct {
			ID, Why, Direction, Line, LineBase64 string
			Expect                               struct {
				Accept bool
				Reject string
				Number int
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != file.Count || file.Count == 0 {
		t.Fatalf("the file says %d vectors and has %d", file.Count, len(file.Vectors))
	}
	ran := 0
	for _, v := range file.Vectors {
		if v.Direction != "to-agent" {
			continue
		}
		ran++
		line := []byte(v.Line)
		if v.LineBase64 != "" {
			line, _ = base64.StdEncoding.DecodeString(v.LineBase64)
		}
		code, number := answerTo(t, line)
		if v.Expect.Accept && code != "" || !v.Expect.Accept && (code != v.Expect.Reject || v.Expect.Number != 0 && number != v.Expect.Number) {
			t.Errorf("%s (%s): the answer is %q %d", v.ID, v.Why, code, number)
		}
	}
	t.Logf("ran %d of %d; what the agent sends is read by the keeper alone", ran, file.Count)
}

// answerTo gives the error's code of the answer to one line: "" for a result, "framing" when the connection ended instead.
func answerTo(t *testing.T, line []byte) (string, int) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_ = contract.NewPeer(theirs, theirs, parsers()).Serve()
		theirs.Close()
	}()
	go func() { _, _ = ours.Write(append(line, '\n')) }()
	_ = ours.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, err := bufio.NewReader(ours).ReadBytes('\n')
	if err != nil {
		return "framing", 0
	}
	var answer struct {
		Error *struct {
			Code int
			Data struct{ Code string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Error == nil {
		return "", 0
	}
	return answer.Error.Data.Code, answer.Error.Code
}
