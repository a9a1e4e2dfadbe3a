package main

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// Names of the guest's programs become addresses of 198.18.0.0/15 (RFC 2544, benchmarks: on no network that anybody is in), so that a
// connection says by its address which name was asked for. Nothing is looked up.
//
// Invariants:
//   - an address stands for one name as long as a connection to it lives, and for leaseAge after the last question or connection;
//   - addresses are given out in turn over the whole range, so the one of a dropped name stands for nothing, not for another name, for as long
//     as can be: a program that remembers it longer than it should is refused instead of led elsewhere;
//   - there are never more than maxLeases.
const (
	maxLeases = 16_384
	leaseAge  = time.Minute
	answerTTL = 10 // seconds; well below leaseAge

	poolFirst = 256         // what is below is ours: the guest's own address is 198.18.0.1
	poolEnd   = 2<<16 - 256 // of a /15, whose last is its broadcast
)

var poolPrefix = netip.MustParsePrefix("198.18.0.0/15")

type lease struct {
	name   string
	offset uint32
	used   time.Time
	flows  int
	idle   *list.Element // its place among those without a connection, nil while it has one
}

type addressPool struct {
	now func() time.Time

	mu       sync.Mutex // guards the rest
	byName   map[string]*lease
	byOffset map[uint32]*lease
	idle     *list.List // of *lease, the longest unused first
	next     uint32
}

func newAddressPool() *addressPool {
	return &addressPool{now: time.Now, byName: map[string]*lease{}, byOffset: map[uint32]*lease{}, idle: list.New(), next: poolFirst}
}

// address gives the address of a name. There is none when all are in use or were a moment ago.
func (p *addressPool) address(name string) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.byName[name]
	if l == nil {
		if len(p.byName) >= maxLeases && !p.drop() {
			return netip.Addr{}, false
		}
		l = &lease{name: name, offset: p.free()}
		l.idle = p.idle.PushBack(l)
		p.byName[name], p.byOffset[l.offset] = l, l
	}
	p.touch(l)
	return poolAddress(l.offset), true
}

// open counts a connection to an address in; the name that it stands for is to be given back to close.
func (p *addressPool) open(a netip.Addr) (*lease, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.byOffset[poolOffset(a)]
	if l == nil || !poolPrefix.Contains(a) {
		return nil, false
	}
	l.flows++
	if l.idle != nil {
		p.idle.Remove(l.idle)
		l.idle = nil
	}
	return l, true
}

func (p *addressPool) close(l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.flows--
	if l.flows == 0 {
		l.idle = p.idle.PushBack(l)
		p.touch(l)
	}
}

// name tells what an address stands for.
func (p *addressPool) name(a netip.Addr) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.byOffset[poolOffset(a)]
	if l == nil || !poolPrefix.Contains(a) {
		return "", false
	}
	return l.name, true
}

func (p *addressPool) touch(l *lease) {
	l.used = p.now()
	if l.idle != nil {
		p.idle.MoveToBack(l.idle)
	}
}

// drop takes the longest unused name out, when it is old enough.
func (p *addressPool) drop() bool {
	first := p.idle.Front()
	if first == nil {
		return false
	}
	l := first.Value.(*lease)
	if p.now().Sub(l.used) < leaseAge {
		return false
	}
	p.idle.Remove(first)
	delete(p.byName, l.name)
	delete(p.byOffset, l.offset)
	return true
}

// free gives the next address that stands for nothing. There are eight times as many as names.
func (p *addressPool) free() uint32 {
	for {
		offset := p.next
		p.next++
		if p.next == poolEnd {
			p.next = poolFirst
		}
		if p.byOffset[offset] == nil {
			return offset
		}
	}
}

func poolAddress(offset uint32) netip.Addr {
	base := poolPrefix.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(a)
}

// poolOffset is of no meaning for an address that is not of the pool.
func poolOffset(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	base, b := poolPrefix.Addr().As4(), a.As4()
	return binary.BigEndian.Uint32(b[:]) - binary.BigEndian.Uint32(base[:])
}
