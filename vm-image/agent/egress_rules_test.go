package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The words of the table that egress_rules.bin puts there. After a change: node build/go.mjs vm-image/agent test -run TestRules_ThatAreSent . -write-rules

var writeRules = flag.Bool("write-rules", false, "write egress_rules.bin anew")

const (
	destinationAt = 16 // of the IPv4 header
	sourceAt      = 12
)

// Addresses that a container may mean a neighbour by: what comes from a bridge for one of these is left to the guest's own routes, and is
// refused when these lead nowhere.
var neighbours = []netip.Prefix{
	poolPrefix, // what of it is not captured: the guest's own address
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

func TestRules_ThatAreSentAreThoseOfTheirWords(t *testing.T) {
	want := rulesInWords(t)
	if *writeRules {
		if err := os.WriteFile("egress_rules.bin", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(rules, want) {
		t.Error("egress_rules.bin is not what this file says; write it: node build/go.mjs vm-image/agent test -run TestRules_ThatAreSent . -write-rules")
	}
}

func TestRules_TheDefaultRouteIsAsTheLibraryWritesIt(t *testing.T) {
	attributes := netlink.NewAttributeEncoder()
	attributes.Bytes(unix.RTA_GATEWAY, gateway[:])
	attributes.Uint32(unix.RTA_OIF, loopbackIndex)
	encoded, err := attributes.Encode()
	if err != nil {
		t.Fatal(err)
	}
	route := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(route[8:], unix.RTNH_F_ONLINK)
	m := netlink.Message{
		Header: netlink.Header{
			Type: unix.RTM_NEWROUTE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace, Sequence: 1,
		},
		Data: append(route, encoded...),
	}
	m.Header.Length = uint32(unix.SizeofNlMsghdr + len(m.Data))
	want, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if got := defaultRoute(); !bytes.Equal(got, want) {
		t.Errorf("%x\n%x", got, want)
	}
}

func TestRules_ThatTheKernelRefusesAreAnError(t *testing.T) {
	inMachine(t, func(t *testing.T, _ *egress, _ *hostSide) {
		if err := addRules(); err != nil {
			t.Errorf("the same table a second time: %v", err)
		}
		wrong := bytes.Clone(rules)
		// the type of the first chain, which the kernel looks up by its name
		at := bytes.Index(wrong, []byte("filter\x00"))
		copy(wrong[at:], "nobody")
		if err := tellKernel(unix.NETLINK_NETFILTER, wrong); err == nil {
			t.Error("a chain of no known type was taken")
		}
	})
}

// transaction is what the library would send, with the sequence of a socket that has sent nothing, and with one answer asked for: it asks for
// one to each message, and has each rule told back.
func transaction(t *testing.T, messages []netlink.Message) []byte {
	var all []byte
	for i, m := range messages {
		m.Header.Sequence, m.Header.PID = uint32(i+1), 0
		m.Header.Flags &^= netlink.Acknowledge | netlink.Echo
		if i == len(messages)-2 { // the last is the end of the transaction
			m.Header.Flags |= netlink.Acknowledge
		}
		b, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

func rulesInWords(t *testing.T) []byte {
	listener := netip.AddrPortFrom(netip.AddrFrom4(loopbackAddress), capturePort)
	var messages []netlink.Message
	c := &nftables.Conn{TestDial: func(sent []netlink.Message) ([]netlink.Message, error) {
		messages = append(messages, sent...)
		return sent, nil
	}}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "cloche"})
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(...[]expr.Any) {
		made := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: hook, Priority: priority})
		return func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, part := range parts {
				all = append(all, part...)
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: all})
		}
	}

	// Loopback is as fast and as unlimited as before: its connections fill no table of the kernel's.
	untracked := chain("untracked", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	untracked(address(sourceAt, loopback), address(destinationAt, loopback), []expr.Any{&expr.Notrack{}})

	own := chain("own", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	own(isTCP, toPool(), to(listener))
	own(isTCP, byGateway(), to(listener))

	bridged := chain("bridged", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	bridged(isTCP, notFromLoopback(), toPool(), to(listener))
	for _, prefix := range neighbours {
		bridged(address(destinationAt, prefix), accept)
	}
	bridged(isTCP, notFromLoopback(), to(listener))

	rest := chain("rest", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	rest(toPool(), refuse)
	rest(byGateway(), refuse)
	bridgedRest := chain("bridged-rest", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	bridgedRest(toPool(), refuse)
	forwarded := chain("forwarded", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	forwarded(byGateway(), refuse)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return transaction(t, messages)
}

var (
	isTCP = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	// refuse: sendto of the guest's own programs answers EPERM, a connected socket ECONNREFUSED.
	refuse = []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpPortUnreachable}}
)

const icmpPortUnreachable = 3

// address: the packet's address at this place is one of a network.
func address(at uint32, in netip.Prefix) []expr.Any {
	network, mask := in.Addr().As4(), make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-in.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network[:]},
	}
}

// toPool: to an address of the pool but the guest's own, where the resolver and the proxy listen.
func toPool() []expr.Any {
	return append(address(destinationAt, poolPrefix),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destinationAt, Len: 4},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: loopbackAddress[:]},
	)
}

// byGateway: no other route leads there.
func byGateway() []expr.Any {
	return []expr.Any{
		&expr.Rt{Register: 1, Key: expr.RtNexthop4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: gateway[:]},
	}
}

func notFromLoopback() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, loopbackIndex)},
	}
}

func to(listener netip.AddrPort) []expr.Any {
	host := listener.Addr().As4()
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: host[:]},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, listener.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}
}
