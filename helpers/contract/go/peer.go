package contract

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"unicode/utf8"
)

const (
	// MaxLineBytes is the longest line, newline included.
	MaxLineBytes = 1 << 20
	// MaxOpenRequests is how many requests one side may have open at once.
	MaxOpenRequests = 64
)

// ErrLineTooLong, ErrNotOneObject and ErrTooManyRequests end a connection.
var (
	ErrLineTooLong     = errors.New("contract: a line is longer than 1 MiB")
	ErrNotOneObject    = errors.New("contract: a line is not one JSON-RPC 2.0 object")
	ErrTooManyRequests = errors.New("contract: more than 64 requests are open")
)

// Handler answers one request. Its result is encoded as JSON; a nil result is sent as {}.
type Handler func(params json.RawMessage) (any, error)

// Answer is a Handler's result with something that may happen only when the result has been sent, such as the
// notifications that follow from it.
type Answer struct {
	Result any
	After  func()
}

// Peer is one end of a connection. Requests run in goroutines of their own, so handlers that must not
// overlap keep their own lock. Notifications from the other side have no handlers: no protocol sends any to Go.
type Peer struct {
	handlers map[string]Handler
	reader   *bufio.Reader

	writeLock sync.Mutex // guards writer
	writer    io.Writer

	slots chan struct{} // one token per request being handled
}

// NewPeer makes a Peer that reads r, writes w and answers the given methods.
func NewPeer(r io.Reader, w io.Writer, handlers map[string]Handler) *Peer {
	return &Peer{handlers: handlers, reader: bufio.NewReaderSize(r, 64<<10), writer: w, slots: make(chan struct{}, MaxOpenRequests)}
}

type message struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *wireError      `json:"error,omitempty"`
}

type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

// Serve reads until the other side ends (nil) or breaks the framing (an error). The caller closes the connection.
func (p *Peer) Serve() error {
	for {
		line, err := readLine(p.reader)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		m, err := parseMessage(line)
		if err != nil {
			return err
		}
		select {
		case p.slots <- struct{}{}:
		default:
			return ErrTooManyRequests
		}
		go func() {
			defer func() { <-p.slots }()
			p.answer(m)
		}()
	}
}

// parseMessage checks the envelope: one object, version 2.0, a positive integer id, a method, params an object.
func parseMessage(line []byte) (*message, error) {
	if !utf8.Valid(line) {
		return nil, ErrNotOneObject
	}
	m := &message{}
	if err := checkShape(line, reflect.TypeFor[message](), ""); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotOneObject, err)
	}
	if err := DecodeStrict(line, m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotOneObject, err)
	}
	if m.Version != "2.0" || m.Method == "" || !positiveInteger(m.ID) || len(m.Params) == 0 || m.Params[0] != '{' {
		return nil, ErrNotOneObject
	}
	return m, nil
}

func positiveInteger(id json.RawMessage) bool {
	if len(id) == 0 || len(id) > 15 || id[0] == '0' {
		return false
	}
	for _, b := range id {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}

func (p *Peer) answer(m *message) {
	r := response{Version: "2.0", ID: m.ID}
	after := func() {}
	handler, known := p.handlers[m.Method]
	if !known {
		r.Error = toWire(&Error{Code: "protocol.params", Message: "unknown method " + m.Method, number: numberMethodNotFound})
	} else if result, err := handler(m.Params); err != nil {
		r.Error = toWire(err)
	} else {
		if answer, ok := result.(Answer); ok {
			result, after = answer.Result, answer.After
		}
		if r.Result = result; result == nil {
			r.Result = struct{}{}
		}
	}
	_ = p.send(r) // a lost connection shows itself to Serve as an error or end of input
	after()
}

// Notify sends a notification; an error means the connection is lost.
func (p *Peer) Notify(method string, params any) error {
	return p.send(notification{Version: "2.0", Method: method, Params: params})
}

func (p *Peer) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(line)+1 > MaxLineBytes {
		return ErrLineTooLong
	}
	p.writeLock.Lock()
	defer p.writeLock.Unlock()
	_, err = p.writer.Write(append(line, '\n'))
	return err
}

// readLine reads one line without its newline, never holding more than MaxLineBytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLineBytes {
			return nil, ErrLineTooLong
		}
		if err == nil && line == nil {
			return bytes.Clone(part[:len(part)-1]), nil
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// DecodeStrict decodes exactly one JSON value and refuses unknown fields.
func DecodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// Params decodes a request's params strictly; its error is ready to be returned by a Handler. Field names are compared
// exactly; a field that is no pointer and not omitempty must be there; null is no value.
func Params(raw json.RawMessage, into any) error {
	if err := checkShape(raw, reflect.TypeOf(into), ""); err != nil {
		return BadParams("%v", err)
	}
	if err := DecodeStrict(raw, into); err != nil {
		return BadParams("%v", err)
	}
	return nil
}

// BadParams is the answer to params that are out of bounds.
func BadParams(format string, args ...any) *Error {
	e := Errorf("protocol.params", format, args...)
	e.number = numberInvalidParams
	return e
}
