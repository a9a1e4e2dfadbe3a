package main

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What leaves the machine: every TCP connection of its programs to somewhere else becomes a stream to the host, which decides. The guest
// has no network card, so nothing here keeps anything in; it spares programs the settings of a proxy, and gives them errors at once.
//
//	program ── getaddrinfo ── 198.18.0.1:53 ─ a synthetic address for the name (egress_dns.go, egress_pool.go)
//	        ── connect ────── rules of the kernel (egress_rules.go) ─ 198.18.0.1:3129 ─┐
//	        ── as a proxy's client ─────────────────────────────────── 198.18.0.1:3128 ─┴─ stream to the host (egress_capture.go)

const (
	dnsPort = 53
	// As squid has them: the first for programs that know of a proxy, the second for connections that were led to it.
	proxyPort   = 3128
	capturePort = 3129
)

type egressParams struct {
	Port        int64  `json:"port"`
	Certificate string `json:"certificate"`
}

func (e *egressParams) check() error {
	if e == nil {
		return nil
	}
	if err := checkInt("egress.port", e.Port, firstPort, lastPort); err != nil {
		return err
	}
	return checkPEMCertificate("egress.certificate", e.Certificate)
}

// egress is the way out of one machine.
type egress struct {
	pool *addressPool
	dial func() (*os.File, error) // a stream to the host
	tell func(level, format string, args ...any)

	quiet atomic.Int64 // until then (unix ns) nothing more is told of connections that could not be carried
}

func newEgress(dial func() (*os.File, error), tell func(string, string, ...any)) *egress {
	return &egress{pool: newAddressPool(), dial: dial, tell: tell}
}

// start opens the listeners and then the ways to them, so that nothing is led to where nobody listens.
func (e *egress) start() error {
	own := netip.AddrFrom4(loopbackAddress)
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, dnsPort)))
	if err != nil {
		return err
	}
	listen := func(port uint16, serve func(*net.TCPConn), limit int) error {
		listener, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, port)))
		if err != nil {
			return err
		}
		go e.accept(listener, serve, limit)
		return nil
	}
	go guarded("dns", func() { e.serveDNSPackets(packets) })
	if err := listen(dnsPort, e.serveDNSStream, maxDNSStreams); err != nil {
		return err
	}
	if err := listen(proxyPort, e.serveProxy, maxCarried); err != nil {
		return err
	}
	if err := listen(capturePort, e.serveCaptured, maxCarried); err != nil {
		return err
	}
	if err := addRules(); err != nil {
		return err
	}
	return addDefaultRoute()
}

// startEgress has the way out made beside everything else; programs wait for it (waitForEgress), and for nothing that went wrong with it.
func (a *agent) startEgress(p *egressParams) {
	if p == nil {
		close(a.egressReady)
		return
	}
	e := newEgress(func() (*os.File, error) { return dialHost(uint32(p.Port)) }, a.tell)
	go guarded("egress", func() {
		ready := sync.OnceFunc(func() { close(a.egressReady) })
		defer ready()
		if err := e.start(); err != nil {
			a.tell("error", "connections to other hosts cannot be captured, so none will succeed: %v", err)
			return
		}
		if a.root.wait() != nil {
			return
		}
		if err := a.root.trust(p.Certificate); err != nil {
			a.tell("warning", "programs do not trust the task's authority: %v", err)
		}
		timing("egress at %d ms", uptimeMs())
		ready()
		if err := trustInJava(p.Certificate); err != nil {
			a.tell("warning", "Java programs do not trust the task's authority: %v", err)
		}
	})
}

// A program that starts waits this long for the way out; it takes milliseconds.
const egressPatience = 5 * time.Second

func (a *agent) waitForEgress() {
	select {
	case <-a.egressReady:
	case <-time.After(egressPatience):
		logf("a program starts before its way out is there")
	}
}
