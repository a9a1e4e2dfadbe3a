package main

import (
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pair whose messages keep their bounds: each write is one.
func newStreamPair(t *testing.T) (*streamConn, *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, host := &streamConn{byteStream: os.NewFile(uintptr(pair[0]), "guest")}, os.NewFile(uintptr(pair[1]), "host")
	t.Cleanup(func() { conn.Close(); host.Close() })
	_ = host.SetReadDeadline(time.Now().Add(10 * time.Second))
	return conn, host
}

func read(t *testing.T, host *os.File) string {
	t.Helper()
	buffer := make([]byte, 100)
	n, err := host.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestSSH_WhatEndsACommandLeavesAsOne(t *testing.T) {
	conn, host := newStreamPair(t)
	_, _ = io.WriteString(conn, "before")
	conn.together(func() {
		_, _ = io.WriteString(conn, "status ")
		_, _ = io.WriteString(conn, "close")
	})
	_, _ = io.WriteString(conn, "after")
	for _, want := range []string{"before", "status close", "after"} {
		if got := read(t, host); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// A new exchange of keys has every packet wait for packets of its own: what waits for each other must not wait for ever.
func TestSSH_WhatLeavesTogetherDoesNotHoldUpWhatItWaitsFor(t *testing.T) {
	conn, host := newStreamPair(t)
	conn.together(func() {
		_, _ = io.WriteString(conn, "status")
		if got := read(t, host); got != "status" {
			t.Errorf("%q came", got)
		}
	})
}
