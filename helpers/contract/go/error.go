package contract

import "fmt"

// JSON-RPC error numbers that the protocols use (JSON-RPC 2.0 section 5.1; -32000 is the range left to servers).
const (
	numberMethodNotFound = -32601
	numberInvalidParams  = -32602
	numberFailed         = -32000
)

// Native names an error of the layer below: an errno, a QMP class, an HRESULT.
type Native struct {
	Domain string `json:"domain"`
	Code   string `json:"code"`
}

// Error is a failed request. Code is listed in errors.json.
type Error struct {
	Code     string
	Message  string
	Evidence string
	Native   *Native

	number int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes an Error with a code of errors.json.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

type wireError struct {
	Code    int            `json:"code"`
	Message string         `json:"message"`
	Data    *wireErrorData `json:"data,omitempty"`
}

type wireErrorData struct {
	Code     string  `json:"code"`
	Evidence string  `json:"evidence,omitempty"`
	Native   *Native `json:"native,omitempty"`
}

// maxEvidenceBytes is errorData.evidence's bound in protocol.ts. maxMessageBytes keeps a sentence a sentence: a message
// may quote what the other side sent.
const (
	maxEvidenceBytes = 16384
	maxMessageBytes  = 2048
)

func toWire(err error) *wireError {
	e, ok := err.(*Error)
	if !ok {
		e = &Error{Code: "protocol.order", Message: err.Error()}
	}
	number := e.number
	if number == 0 {
		number = numberFailed
	}
	return &wireError{Code: number, Message: head(e.Message, maxMessageBytes), Data: &wireErrorData{Code: e.Code, Evidence: Tail(e.Evidence, maxEvidenceBytes), Native: e.Native}}
}

// Tail gives the last max bytes of text, cut at a rune's start.
func Tail(text string, max int) string {
	if len(text) <= max {
		return text
	}
	text = text[len(text)-max:]
	for len(text) > 0 && text[0]&0xC0 == 0x80 {
		text = text[1:]
	}
	return text
}

// head gives the first max bytes of text, cut at a rune's start.
func head(text string, max int) string {
	if len(text) <= max {
		return text
	}
	for max > 0 && text[max]&0xC0 == 0x80 {
		max--
	}
	return text[:max]
}
