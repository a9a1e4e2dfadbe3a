package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The resolver of the guest. It knows no name and asks nobody: an A gets an address of the pool, and what happens to the name is decided on
// the host when a connection is made. What could lead a program around the connection by name (AAAA, HTTPS, SVCB) or to other hosts
// (MX, SRV) has no data.

const (
	maxDNSStreams = 32
	dnsStreamIdle = 10 * time.Second
	maxQuestion   = 512 // of a whole message; a longer one is none that a resolver of a program asks
	localhostTTL  = 3600
	typeANY       = dnsmessage.Type(255)
	classANY      = dnsmessage.Class(255)
	opcodeQuery   = 0
)

// answerDNS gives the answer to one message; nil for what deserves none.
func answerDNS(pool *addressPool, message []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || header.Response {
		return nil
	}
	reply := dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
	}
	if header.OpCode != opcodeQuery {
		return packDNS(reply, dnsmessage.RCodeNotImplemented, nil, nil)
	}
	question, err := parser.Question()
	if err != nil {
		return packDNS(reply, dnsmessage.RCodeFormatError, nil, nil)
	}
	if _, err := parser.Question(); err != dnsmessage.ErrSectionDone {
		return packDNS(reply, dnsmessage.RCodeFormatError, nil, nil)
	}
	if question.Class != dnsmessage.ClassINET && question.Class != classANY {
		return packDNS(reply, dnsmessage.RCodeRefused, &question, nil)
	}
	code, body := resolve(pool, question)
	return packDNS(reply, code, &question, body)
}

type dnsRecord struct {
	ttl  uint32
	body dnsmessage.ResourceBody
}

// resolve decides; no record and success is what a name without data of this type has.
func resolve(pool *addressPool, q dnsmessage.Question) (dnsmessage.RCode, *dnsRecord) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Type == dnsmessage.TypePTR {
		return resolvePTR(pool, name)
	}
	if isLocalhost(name) {
		switch q.Type {
		case dnsmessage.TypeA, typeANY:
			return dnsmessage.RCodeSuccess, &dnsRecord{localhostTTL, &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}
		case dnsmessage.TypeAAAA:
			return dnsmessage.RCodeSuccess, &dnsRecord{localhostTTL, &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}}
		}
		return dnsmessage.RCodeSuccess, nil
	}
	if !isHostName(name) || isLocalOnly(name) {
		return dnsmessage.RCodeNameError, nil
	}
	if q.Type != dnsmessage.TypeA && q.Type != typeANY {
		return dnsmessage.RCodeSuccess, nil
	}
	address, ok := pool.address(name)
	if !ok {
		return dnsmessage.RCodeServerFailure, nil
	}
	return dnsmessage.RCodeSuccess, &dnsRecord{answerTTL, &dnsmessage.AResource{A: address.As4()}}
}

// resolvePTR gives the name back that an address of the pool was made for.
func resolvePTR(pool *addressPool, name string) (dnsmessage.RCode, *dnsRecord) {
	address, ok := reversed(name)
	if !ok {
		return dnsmessage.RCodeNameError, nil
	}
	known, ok := pool.name(address)
	if !ok {
		return dnsmessage.RCodeNameError, nil
	}
	target, err := dnsmessage.NewName(known + ".")
	if err != nil {
		return dnsmessage.RCodeServerFailure, nil
	}
	return dnsmessage.RCodeSuccess, &dnsRecord{answerTTL, &dnsmessage.PTRResource{PTR: target}}
}

// reversed reads d.c.b.a.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	var a [4]byte
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return netip.Addr{}, false
		}
		a[3-i] = byte(n)
	}
	return netip.AddrFrom4(a), true
}

// packDNS writes an answer. It fits into 512 bytes: a question, its name again as a pointer, and one name at most.
func packDNS(header dnsmessage.Header, code dnsmessage.RCode, question *dnsmessage.Question, record *dnsRecord) []byte {
	header.RCode = code
	message := dnsmessage.Message{Header: header}
	if question != nil {
		message.Questions = []dnsmessage.Question{*question}
		if record != nil {
			message.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: record.ttl},
				Body:   record.body,
			}}
		}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// serveDNSPackets answers until the socket is closed.
func (e *egress) serveDNSPackets(conn *net.UDPConn) {
	buffer := make([]byte, maxQuestion+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(failedAcceptPause)
			continue
		}
		if n > maxQuestion {
			continue
		}
		if answer := answerDNS(e.pool, buffer[:n]); answer != nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// serveDNSStream: RFC 1035, 4.2.2: each message after its length.
func (e *egress) serveDNSStream(conn *net.TCPConn) {
	defer conn.Close()
	var length [2]byte
	buffer := make([]byte, maxQuestion)
	for {
		_ = conn.SetDeadline(time.Now().Add(dnsStreamIdle))
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n > maxQuestion {
			return
		}
		if _, err := io.ReadFull(conn, buffer[:n]); err != nil {
			return
		}
		answer := answerDNS(e.pool, buffer[:n])
		if answer == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}
