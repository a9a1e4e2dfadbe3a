package main

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func question(t testing.TB, name string, kind dnsmessage.Type) []byte {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func answerOf(t testing.TB, pool *addressPool, asked []byte) dnsmessage.Message {
	packed := answerDNS(pool, asked)
	if packed == nil {
		t.Fatalf("no answer to %x", asked)
	}
	if len(packed) > 512 {
		t.Fatalf("an answer of %d bytes", len(packed))
	}
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	if m.ID != 7 || !m.Response {
		t.Fatalf("%+v", m.Header)
	}
	return m
}

func TestDNS_NameOfTheInternet_GetsOneAddressOfThePool_WhateverItsCapitals(t *testing.T) {
	pool := newAddressPool()
	var first netip.Addr
	for _, name := range []string{"api.example.com.", "API.Example.COM.", "api.example.com."} {
		m := answerOf(t, pool, question(t, name, dnsmessage.TypeA))
		if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 || m.Questions[0].Name.String() != name || m.Answers[0].Header.Name.String() != name {
			t.Fatalf("%+v", m)
		}
		got := netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A)
		if !poolPrefix.Contains(got) || got == netip.AddrFrom4(loopbackAddress) || m.Answers[0].Header.TTL != answerTTL {
			t.Fatalf("%v %+v", got, m.Answers[0].Header)
		}
		if first.IsValid() && got != first {
			t.Errorf("%s is %v, and was %v", name, got, first)
		}
		first = got
	}
	if known, ok := pool.name(first); !ok || known != "api.example.com" {
		t.Errorf("%v stands for %q", first, known)
	}
	other := answerOf(t, pool, question(t, "www.example.com.", dnsmessage.TypeA))
	if netip.AddrFrom4(other.Answers[0].Body.(*dnsmessage.AResource).A) == first {
		t.Error("two names share an address")
	}
}

func TestDNS_OtherTypesHaveNoData_OtherNamesDoNotExist(t *testing.T) {
	const noData, noName = dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want dnsmessage.RCode
	}{
		{"example.com.", dnsmessage.TypeAAAA, noData},
		{"example.com.", dnsmessage.TypeMX, noData},
		{"example.com.", dnsmessage.TypeTXT, noData},
		{"example.com.", dnsmessage.TypeNS, noData},
		{"example.com.", dnsmessage.TypeSOA, noData},
		{"example.com.", dnsmessage.TypeCNAME, noData},
		{"_xmpp._tcp.example.com.", dnsmessage.TypeSRV, noData},
		{"example.com.", 64, noData},  // SVCB
		{"example.com.", 65, noData},  // HTTPS: it would offer QUIC and hide the name
		{"example.com.", 252, noData}, // AXFR
		{"printer.", dnsmessage.TypeA, noName},
		{"printer.", dnsmessage.TypeAAAA, noName},
		{".", dnsmessage.TypeA, noName},
		{".", dnsmessage.TypeNS, noName},
		{"printer.local.", dnsmessage.TypeA, noName},
		{"metadata.google.internal.", dnsmessage.TypeA, noName},
		{"metadata.google.INTERNAL.", dnsmessage.TypeA, noName},
		{"a.invalid.", dnsmessage.TypeA, noName},
		{"a.onion.", dnsmessage.TypeA, noName},
		{"ipv4only.arpa.", dnsmessage.TypeA, noName},
		{"1.2.3.4.", dnsmessage.TypeA, noName},
		{"a b.example.com.", dnsmessage.TypeA, noName},
		{"a\nb.example.com.", dnsmessage.TypeA, noName},
		{"a\x00b.example.com.", dnsmessage.TypeA, noName},
		{"-a.example.com.", dnsmessage.TypeA, noName},
		{"a-.example.com.", dnsmessage.TypeA, noName},
		{"bücher.example.com.", dnsmessage.TypeA, noName},
		{"a%2fb.example.com.", dnsmessage.TypeA, noName},
		{"7.7.18.198.in-addr.arpa.", dnsmessage.TypePTR, noName},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, noName},
		{"07.7.18.198.in-addr.arpa.", dnsmessage.TypePTR, noName},
		{"7.18.198.in-addr.arpa.", dnsmessage.TypePTR, noName},
		{"example.com.", dnsmessage.TypePTR, noName},
		{"localhost.", dnsmessage.TypeTXT, noData},
	} {
		pool := newAddressPool()
		m := answerOf(t, pool, question(t, c.name, c.kind))
		if m.RCode != c.want || len(m.Answers) != 0 {
			t.Errorf("%q %v: %v with %d answers", c.name, c.kind, m.RCode, len(m.Answers))
		}
		if len(pool.byName) != 0 {
			t.Errorf("%q %v takes an address", c.name, c.kind)
		}
	}
	// the longest that a message can hold
	if m := answerOf(t, newAddressPool(), question(t, long+"."+long+"."+long+"."+long[:61]+".", dnsmessage.TypeA)); len(m.Answers) != 1 {
		t.Errorf("a name of 253: %+v", m)
	}
}

func TestDNS_Localhost_IsLoopback(t *testing.T) {
	for _, name := range []string{"localhost.", "LOCALHOST.", "app.localhost."} {
		four := answerOf(t, newAddressPool(), question(t, name, dnsmessage.TypeA))
		six := answerOf(t, newAddressPool(), question(t, name, dnsmessage.TypeAAAA))
		if four.Answers[0].Body.(*dnsmessage.AResource).A != [4]byte{127, 0, 0, 1} || six.Answers[0].Body.(*dnsmessage.AAAAResource).AAAA != [16]byte{15: 1} {
			t.Errorf("%s: %v %v", name, four.Answers, six.Answers)
		}
	}
	if m := answerOf(t, newAddressPool(), question(t, "notlocalhost.", dnsmessage.TypeA)); m.RCode != dnsmessage.RCodeNameError {
		t.Error(m)
	}
}

func TestDNS_PTR_GivesTheNameBack(t *testing.T) {
	pool := newAddressPool()
	a, _ := pool.address("a.example.com")
	b := a.As4()
	reverse := itoa(int(b[3])) + "." + itoa(int(b[2])) + "." + itoa(int(b[1])) + "." + itoa(int(b[0])) + ".in-addr.arpa."
	m := answerOf(t, pool, question(t, reverse, dnsmessage.TypePTR))
	if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != "a.example.com." {
		t.Error(m)
	}
}

func TestDNS_MessagesThatAreNoQuestions(t *testing.T) {
	pool := newAddressPool()
	good := question(t, "example.com.", dnsmessage.TypeA)
	changed := func(change func([]byte) []byte) []byte { return change(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		message []byte
		want    dnsmessage.RCode
		silent  bool
	}{
		"nothing":             {message: nil, silent: true},
		"half a header":       {message: good[:11], silent: true},
		"an answer":           {message: changed(func(m []byte) []byte { m[2] |= 0x80; return m }), silent: true},
		"a header alone":      {message: changed(func(m []byte) []byte { m[5] = 0; return m[:12] }), want: dnsmessage.RCodeFormatError},
		"no question":         {message: changed(func(m []byte) []byte { return m[:12] }), want: dnsmessage.RCodeFormatError},
		"half a question":     {message: good[:len(good)-3], want: dnsmessage.RCodeFormatError},
		"65535 questions":     {message: changed(func(m []byte) []byte { m[4], m[5] = 255, 255; return m }), want: dnsmessage.RCodeFormatError},
		"a loop of pointers":  {message: append(changed(func(m []byte) []byte { return m[:12] }), 0xc0, 12, 0, 1, 0, 1), want: dnsmessage.RCodeFormatError},
		"a label that leaves": {message: append(changed(func(m []byte) []byte { return m[:12] }), 63, 'a'), want: dnsmessage.RCodeFormatError},
		"a notify":            {message: changed(func(m []byte) []byte { m[2] |= 4 << 3; return m }), want: dnsmessage.RCodeNotImplemented},
		"an update":           {message: changed(func(m []byte) []byte { m[2] |= 5 << 3; return m }), want: dnsmessage.RCodeNotImplemented},
		"class CHAOS":         {message: changed(func(m []byte) []byte { m[len(m)-1] = 3; return m }), want: dnsmessage.RCodeRefused},
	} {
		if c.silent {
			if got := answerDNS(pool, c.message); got != nil {
				t.Errorf("%s is answered: %x", name, got)
			}
			continue
		}
		if m := answerOf(t, pool, c.message); m.RCode != c.want || len(m.Answers) != 0 {
			t.Errorf("%s: %v", name, m.RCode)
		}
	}
	// two questions in one message
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}}
	for _, n := range []string{"a.example.com.", "b.example.com."} {
		m.Questions = append(m.Questions, dnsmessage.Question{Name: dnsmessage.MustNewName(n), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
	}
	packed, _ := m.Pack()
	if got := answerOf(t, pool, packed); got.RCode != dnsmessage.RCodeFormatError {
		t.Errorf("two questions: %v", got.RCode)
	}
	if len(pool.byName) != 0 {
		t.Error("what is no question takes an address")
	}
}

// Any message gets no answer, or one that fits and hands out no address that a stream cannot name.
func FuzzDNS(f *testing.F) {
	for _, name := range []string{"example.com.", "localhost.", "printer."} {
		f.Add(question(f, name, dnsmessage.TypeA))
		f.Add(question(f, name, 65))
	}
	f.Add(question(f, "0.1.18.198.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add(append(question(f, "example.com.", dnsmessage.TypeA), 0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, message []byte) {
		pool := newAddressPool()
		_, _ = pool.address("known.example.com")
		answer := answerDNS(pool, message)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if len(answer) > 512 || m.Unpack(answer) != nil || !m.Response || len(message) >= 2 && (answer[0] != message[0] || answer[1] != message[1]) {
			t.Fatalf("%x", answer)
		}
		for name := range pool.byName {
			if _, err := connectLine(name, 443); err != nil {
				t.Fatalf("an address for %q, which no stream can name", name)
			}
		}
	})
}

func TestPool_RandomUse_KeepsItsInvariants(t *testing.T) {
	pool := newAddressPool()
	now := time.Unix(1_000_000, 0)
	pool.now = func() time.Time { return now }
	random := rand.New(rand.NewPCG(1, 2))
	type flow struct {
		l    *lease
		name string
		at   netip.Addr
	}
	var flows []flow
	promised := map[netip.Addr]struct { // what an address was given out for, and until when that must hold
		name  string
		until time.Time
	}{}
	names := 3 * maxLeases
	full := 0
	for step := range 300_000 {
		now = now.Add(time.Duration(random.IntN(8)) * time.Millisecond)
		switch random.IntN(10) {
		case 0, 1, 2, 3, 4, 5:
			name := "h" + itoa(random.IntN(names)) + ".example.com"
			a, ok := pool.address(name)
			if !ok {
				full++
				continue
			}
			if p, ok := promised[a]; ok && p.name != name && now.Before(p.until) {
				t.Fatalf("step %d: %v was promised to %s and stands for %s", step, a, p.name, name)
			}
			promised[a] = struct {
				name  string
				until time.Time
			}{name, now.Add(leaseAge)}
		case 6, 7:
			for a := range promised { // any
				if l, ok := pool.open(a); ok {
					flows = append(flows, flow{l, l.name, a})
				}
				break
			}
		case 8:
			if len(flows) > 0 {
				i := random.IntN(len(flows))
				pool.close(flows[i].l)
				flows[i] = flows[len(flows)-1]
				flows = flows[:len(flows)-1]
			}
		case 9:
			if random.IntN(500) == 0 {
				now = now.Add(leaseAge)
			}
			if len(flows) > 0 {
				f := flows[random.IntN(len(flows))]
				if name, ok := pool.name(f.at); !ok || name != f.name {
					t.Fatalf("step %d: a connection lives to %v for %s, which stands for %q now", step, f.at, f.name, name)
				}
			}
		}
		if len(pool.byName) > maxLeases || len(pool.byName) != len(pool.byOffset) {
			t.Fatalf("step %d: %d names, %d addresses", step, len(pool.byName), len(pool.byOffset))
		}
	}
	busy := map[*lease]bool{}
	for _, f := range flows {
		busy[f.l] = true
	}
	if pool.idle.Len()+len(busy) != len(pool.byName) {
		t.Errorf("%d without a connection and %d with one are not %d", pool.idle.Len(), len(busy), len(pool.byName))
	}
	t.Logf("%d names, %d connections, %d times full", len(pool.byName), len(flows), full)
}

func TestPool_Full_RefusesUntilTheOldestIsOldEnough_AndNeverTakesOneInUse(t *testing.T) {
	pool := newAddressPool()
	now := time.Unix(1_000_000, 0)
	pool.now = func() time.Time { return now }
	first, _ := pool.address("first.example.com")
	held, _ := pool.open(first)
	second, _ := pool.address("second.example.com")
	for i := range maxLeases - 2 {
		if _, ok := pool.address("h" + itoa(i) + ".example.com"); !ok {
			t.Fatalf("full with %d", i)
		}
	}
	if _, ok := pool.address("more.example.com"); ok {
		t.Fatal("more than there is room for")
	}
	if again, ok := pool.address("first.example.com"); !ok || again != first {
		t.Fatal("a name that has an address lost it")
	}
	now = now.Add(leaseAge)
	more, ok := pool.address("more.example.com")
	if !ok {
		t.Fatal("nothing is given up after its time")
	}
	if more == first || more == second {
		t.Errorf("%v, which a program may remember for another name, is given to a new one while others were never used", more)
	}
	if name, _ := pool.name(first); name != "first.example.com" {
		t.Error("an address was taken from a living connection")
	}
	if _, ok := pool.name(second); ok {
		t.Error("the longest unused was not the one to go")
	}
	if _, ok := pool.open(second); ok {
		t.Error("a dropped address still leads somewhere")
	}
	pool.close(held)
}

func TestPool_AddressesThatStandForNothing(t *testing.T) {
	pool := newAddressPool()
	for _, a := range []string{"198.18.0.1", "198.18.0.0", "198.19.255.255", "198.18.7.7", "198.17.255.255", "198.20.0.0", "8.8.8.8", "127.0.0.1", "::1", "::ffff:198.18.1.0"} {
		if _, ok := pool.open(netip.MustParseAddr(a)); ok {
			t.Error(a)
		}
	}
	if a, _ := pool.address("a.example.com"); a != netip.MustParseAddr("198.18.1.0") {
		t.Error(a)
	}
}

func TestConnectLine_NamesOneHostAndOnePort_OrIsRefused(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := label + "." + label + "." + label + "." + label[:61]
	for _, c := range []struct {
		host string
		port uint16
		want string
	}{
		{"example.com", 443, "connect example.com 443\n"},
		{"xn--bcher-kva.example", 1, "connect xn--bcher-kva.example 1\n"},
		{"_a.example.com", 65535, "connect _a.example.com 65535\n"},
		{"8.8.8.8", 53, "connect 8.8.8.8 53\n"},
		{longest, 65535, "connect " + longest + " 65535\n"},
		{"", 443, ""}, {"example", 443, ""}, {"example.com", 0, ""}, {"Example.com", 443, ""}, {"example.com.", 443, ""}, {".example.com", 443, ""},
		{"a..example.com", 443, ""}, {"a b.example.com", 443, ""}, {"example.com 22", 443, ""}, {"example.com\n", 443, ""}, {"example.com\r", 443, ""},
		{"example.com\nconnect evil.example 1", 443, ""}, {"a\x00.example.com", 443, ""}, {"bücher.example", 443, ""}, {"a/b.example.com", 443, ""},
		{"1.2.3", 443, ""}, {"01.2.3.4", 443, ""}, {"1.2.3.4.5", 443, ""}, {"0x7f.0.0.1", 443, ""}, {"::1", 443, ""}, {"::ffff:1.2.3.4", 443, ""}, {"fe80::1%lo", 443, ""},
		{longest + "a", 443, ""}, {label + "a.example.com", 443, ""},
	} {
		got, err := connectLine(c.host, c.port)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q %d: %q %v", c.host, c.port, got, err)
		}
		if len(got) > 280 {
			t.Errorf("a line of %d bytes", len(got))
		}
	}
}
