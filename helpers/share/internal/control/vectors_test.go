//go:build linux

package control

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"

	"cloche/contract"
)

// paramsOf decodes each request as its handler does.
var paramsOf = map[string]func(json.RawMessage) error{
	"hello":    func(raw json.RawMessage) error { return failed(answerHello(raw)) },
	"serve":    func(raw json.RawMessage) error { _, _, err := parseServe(raw); return err },
	"identify": func(raw json.RawMessage) error { _, err := parseIdentify(raw); return err },
	"stats":    only(parseNothing),
	"changes":  only(parseChanges),
	"diff":     only(parseDiff),
	"apply":    only(parseApply),
	"discard":  only(parseDiscard),
	"applies":  only(parseNothing),
	"undo":     only(parseUndo),
	"history":  only(parseHistory),
	"restore":  only(parseRestore),
	"secrets":  only(parseNothing),
	"room":     only(parseRoom),
	"recorded": only(parseRecorded),
}

func failed(_ any, err error) error { return err }

func only[T any](parse func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error { _, err := parse(raw); return err }
}

// The golden vectors' requests, whose params this program judges; contract/go judges their framing.
func TestVectors_Params(t *testing.T) {
	raw, err := os.ReadFile("../../../contract/vectors/share.json")
	must(t, err)
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
	must(t, json.Unmarshal(raw, &file))
	ran := 0
	for _, v := range file.Vectors {
		if v.Direction != "to-share" || v.Expect.Reject == "framing" {
			continue
		}
		ran++
		line := []byte(v.Line)
		if v.LineBase64 != "" {
			line, err = base64.StdEncoding.DecodeString(v.LineBase64)
			must(t, err)
		}
		var m struct {
			Method string
			Params json.RawMessage
		}
		must(t, json.Unmarshal(line, &m))
		parse, known := paramsOf[m.Method]
		if !known {
			if v.Expect.Number != -32601 {
				t.Errorf("%s: there is no method %s", v.ID, m.Method)
			}
			continue
		}
		err := parse(m.Params)
		if v.Expect.Accept != (err == nil) {
			t.Errorf("%s (%s): %v", v.ID, v.Why, err)
		}
		if refused, ok := err.(*contract.Error); err != nil && (!ok || refused.Code != v.Expect.Reject) {
			t.Errorf("%s (%s): refused with %v", v.ID, v.Why, err)
		}
	}
	if ran < 100 {
		t.Errorf("ran %d of %d", ran, file.Count)
	}
}
