package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxLineBytes bounds one QMP message; QEMU's answers to what we ask are below 1 KiB.
const maxLineBytes = 1 << 20

// ErrGone says that QEMU has closed the connection, which it does only by ending.
var ErrGone = errors.New("qmp: the hypervisor has gone")

// Refusal is an error that QEMU answered.
type Refusal struct {
	Class       string `json:"class"`
	Description string `json:"desc"`
}

func (r *Refusal) Error() string { return r.Class + ": " + r.Description }

// Event is something that QEMU says unasked, such as SHUTDOWN.
type Event struct {
	Name string
	Data json.RawMessage
}

// Client is one QMP connection. Execute may be called from several goroutines; the answers come in their order.
type Client struct {
	connection io.ReadWriteCloser
	events     func(Event)

	lock    sync.Mutex // guards waiting, next, gone and writes
	waiting map[uint64]chan answer
	next    uint64
	gone    error
}

type answer struct {
	value json.RawMessage
	err   error
}

type incoming struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Refusal        `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

// Connect waits for QEMU's greeting and leaves the negotiation mode. events is called from one goroutine, in order, and
// must not block. It returns ErrGone when QEMU ends before.
func Connect(connection io.ReadWriteCloser, events func(Event)) (*Client, error) {
	c := &Client{connection: connection, events: events, waiting: map[uint64]chan answer{}}
	greeted := make(chan struct{})
	go c.read(greeted)
	<-greeted
	if err := c.Execute("qmp_capabilities", nil, nil); err != nil {
		return nil, err
	}
	return c, nil
}

// Execute sends one command and waits for its answer. result may be nil.
func (c *Client) Execute(command string, arguments any, result any) error {
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	reply := make(chan answer, 1)
	c.lock.Lock()
	if c.gone != nil {
		c.lock.Unlock()
		return c.gone
	}
	c.next++
	id := c.next
	message["id"] = id
	c.waiting[id] = reply
	line, err := json.Marshal(message)
	if err == nil {
		_, err = c.connection.Write(append(line, '\n'))
	}
	if err != nil {
		delete(c.waiting, id)
		c.lock.Unlock()
		return fmt.Errorf("%w: %v", ErrGone, err)
	}
	c.lock.Unlock()

	a := <-reply
	if a.err != nil || result == nil {
		return a.err
	}
	return json.Unmarshal(a.value, result)
}

// Close ends the connection; open commands answer ErrGone.
func (c *Client) Close() { _ = c.connection.Close() }

func (c *Client) read(greeted chan struct{}) {
	lines := bufio.NewScanner(c.connection)
	lines.Buffer(make([]byte, 4096), maxLineBytes)
	for lines.Scan() {
		var m incoming
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			break // QEMU does not speak QMP any more; whoever took it over is not asked again
		}
		switch {
		case m.QMP != nil:
			if greeted != nil {
				close(greeted)
				greeted = nil
			}
		case m.Event != "":
			c.events(Event{Name: m.Event, Data: m.Data})
		default:
			c.settle(m)
		}
	}
	c.lock.Lock()
	c.gone = ErrGone
	for id, reply := range c.waiting {
		reply <- answer{err: ErrGone}
		delete(c.waiting, id)
	}
	c.lock.Unlock()
	_ = c.connection.Close()
	if greeted != nil {
		close(greeted)
	}
}

func (c *Client) settle(m incoming) {
	c.lock.Lock()
	reply := c.waiting[m.ID]
	delete(c.waiting, m.ID)
	c.lock.Unlock()
	switch {
	case reply == nil: // an answer that nobody asked for
	case m.Error != nil:
		reply <- answer{err: m.Error}
	default:
		reply <- answer{value: m.Return}
	}
}
