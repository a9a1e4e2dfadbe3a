//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// target is an origin and the way to it.
type target struct {
	host     string
	via      string
	trust    *x509.CertPool
	protocol string
	token    string
}

// dial makes a connection and ends TLS on it with the origin's name. The ways: direct:ADDRESS; stream:SOCKET, which takes the line that
// a guest's agent sends; connect:ADDRESS, a proxy that takes CONNECT.
func (t target) dial(ctx context.Context) (*tls.Conn, error) {
	kind, where, _ := strings.Cut(t.via, ":")
	network := "tcp"
	if kind == "stream" {
		network = "unix"
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, network, where)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "stream":
		_, err = fmt.Fprintf(raw, "connect %s 443\n", t.host)
	case "connect":
		err = t.tunnel(raw)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{ServerName: t.host, RootCAs: t.trust, NextProtos: []string{t.protocol}})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != t.protocol && !(got == "" && t.protocol == "http/1.1") {
		conn.Close()
		return nil, fmt.Errorf("it speaks %q, not %s", got, t.protocol)
	}
	return conn, nil
}

func (t target) tunnel(raw net.Conn) error {
	ask := fmt.Sprintf("CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n", t.host, t.host)
	if t.token != "" {
		ask += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(t.token)) + "\r\n"
	}
	if _, err := io.WriteString(raw, ask+"\r\n"); err != nil {
		return err
	}
	// nothing follows the head before the client has spoken
	answer, err := http.ReadResponse(bufio.NewReaderSize(raw, 1), &http.Request{Method: "CONNECT"})
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT: %s", answer.Status)
	}
	return nil
}

// client speaks over connections of its own, as many as there are requests at once; over one with HTTP/2.
func (t target) client() *http.Client {
	transport := &http.Transport{
		DialTLSContext:      func(ctx context.Context, _, _ string) (net.Conn, error) { return t.dial(ctx) },
		MaxIdleConnsPerHost: 2000,
		DisableCompression:  true,
		ForceAttemptHTTP2:   t.protocol == "h2",
	}
	if t.protocol != "h2" {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport}
}

func (t target) get(client *http.Client, path string, length int64) error {
	answer, err := client.Get("https://" + t.host + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
		return fmt.Errorf("%s: %s", answer.Status, said)
	}
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	n, err := io.CopyBuffer(discard{}, answer.Body, *room)
	if err != nil {
		return err
	}
	if n != length {
		return fmt.Errorf("%d bytes, not %d", n, length)
	}
	if (answer.ProtoMajor == 2) != (t.protocol == "h2") {
		return errors.New("it was answered over " + answer.Proto)
	}
	return nil
}

var rooms = sync.Pool{New: func() any {
	room := make([]byte, 128<<10)
	return &room
}}

// discard is io.Discard without its own way of reading, which takes 8 KiB at a time.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type timings struct {
	// Us are microseconds of each request.
	Us []float64 `json:"us"`
}

func measure(verb string, args []string) (any, error) {
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	host := flags.String("host", "", "")
	via := flags.String("via", "", "")
	ca := flags.String("ca", "", "")
	protocol := flags.String("protocol", "http/1.1", "")
	token := flags.String("token", "", "")
	n := flags.Int("n", 1, "")
	ms := flags.Int("ms", 1000, "")
	flags.Parse(args)
	text, err := os.ReadFile(*ca)
	if err != nil {
		return nil, err
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", *ca)
	}
	t := target{host: *host, via: *via, trust: trust, protocol: *protocol, token: *token}
	switch verb {
	case "latency":
		return t.latency(*n)
	case "connect":
		return t.connect(*n)
	case "download":
		return t.download(int64(*n))
	case "rate":
		return t.rate(*n, time.Duration(*ms)*time.Millisecond)
	case "idle":
		return t.idle(*n)
	}
	return nil, errors.New("no such measurement: " + verb)
}

// latency asks one thing after another on one connection.
func (t target) latency(n int) (any, error) {
	client := t.client()
	var us []float64
	for i := -n / 10; i < n; i++ { // the first tenth warms up
		from := time.Now()
		if err := t.get(client, "/small", 256); err != nil {
			return nil, err
		}
		if i >= 0 {
			us = append(us, float64(time.Since(from).Nanoseconds())/1e3)
		}
	}
	return timings{us}, nil
}

// connect asks one thing on each of so many connections, from dialling to the end of the answer.
func (t target) connect(n int) (any, error) {
	var us []float64
	for i := -n / 10; i < n; i++ {
		client := t.client()
		from := time.Now()
		if err := t.get(client, "/small", 256); err != nil {
			return nil, err
		}
		if i >= 0 {
			us = append(us, float64(time.Since(from).Nanoseconds())/1e3)
		}
		client.CloseIdleConnections()
	}
	return timings{us}, nil
}

// download takes so many bytes in one answer, on a connection that is there.
func (t target) download(bytes int64) (any, error) {
	client := t.client()
	if err := t.get(client, "/small", 256); err != nil {
		return nil, err
	}
	from := time.Now()
	if err := t.get(client, fmt.Sprintf("/bytes/%d", bytes), bytes); err != nil {
		return nil, err
	}
	seconds := time.Since(from).Seconds()
	return map[string]float64{"perSecond": float64(bytes) / seconds}, nil
}

// rate has so many requests under way at any time; a quarter of the time goes by uncounted at first.
func (t target) rate(atOnce int, counted time.Duration) (any, error) {
	client := t.client()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var stop atomic.Bool
	var all sync.WaitGroup
	if err := t.get(client, "/small", 256); err != nil { // with HTTP/2 the others find its connection
		return nil, err
	}
	for range atOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			for !stop.Load() {
				if err := t.get(client, "/small", 256); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		}()
	}
	time.Sleep(counted / 4)
	before, from := done.Load(), time.Now()
	time.Sleep(counted)
	count, took := done.Load()-before, time.Since(from)
	stop.Store(true)
	all.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return map[string]float64{"perSecond": float64(count) / took.Seconds()}, nil
}

// idle makes so many connections, each with one request behind it, says so, and holds them until stdin ends.
func (t target) idle(n int) (any, error) {
	var kept []*tls.Conn
	for range n {
		conn, err := t.dial(context.Background())
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(kept)+1, err)
		}
		ask := "GET /small HTTP/1.1\r\nHost: " + t.host + "\r\n\r\n"
		if _, err := io.WriteString(conn, ask); err != nil {
			return nil, err
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s %w", answer.Status, err)
		}
		kept = append(kept, conn)
	}
	tell(map[string]int{"held": len(kept)})
	_, err := io.Copy(io.Discard, os.Stdin)
	for _, conn := range kept { // and used up to here, so that none is collected
		conn.Close()
	}
	return nil, err
}
