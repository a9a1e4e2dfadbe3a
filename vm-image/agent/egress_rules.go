package main

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// How connections come to the agent in a machine without a card:
//
//	to a name        its address is of the pool, and the pool is local (network.go)
//	to a literal     the default route has a gateway that nobody is; without a route, connect would end before any rule is asked
//	nat, output      TCP to the pool or by that gateway goes to the agent's listener; SO_ORIGINAL_DST has where it wanted to go
//	nat, prerouting  the same for what comes from bridges that the user's containers are on
//	filter           all else that takes these ways is refused at once: UDP and with it QUIC, ICMP
//
// What takes neither way is not touched: loopback, the guest's own addresses, what is reached over a bridge. IPv6 has no route beyond ::1, so
// the kernel itself answers ENETUNREACH. The user may flush all this, as anything in the machine; then nothing leaves it.

const (
	loopbackIndex = 1 // of lo, in every network namespace

	destinationAt = 16 // of the IPv4 header
	sourceAt      = 12
)

// gateway is of TEST-NET-1 (RFC 5737): a next hop that the rules know by and that is no address of anybody.
var gateway = [4]byte{192, 0, 2, 1}

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

// addDefaultRoute: default via the gateway on lo, which need not be on a network there.
func addDefaultRoute() error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	attributes := netlink.NewAttributeEncoder()
	attributes.Bytes(unix.RTA_GATEWAY, gateway[:])
	attributes.Uint32(unix.RTA_OIF, loopbackIndex)
	encoded, err := attributes.Encode()
	if err != nil {
		return err
	}
	// struct rtmsg
	route := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(route[8:], unix.RTNH_F_ONLINK)
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.RTM_NEWROUTE,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace,
		},
		Data: append(route, encoded...),
	})
	return err
}

// addRules puts the table there, in one transaction.
func addRules(listener netip.AddrPort) error {
	if !listener.Addr().Is4() {
		return errors.New("the listener has no IPv4 address")
	}
	c := &nftables.Conn{}
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
	return c.Flush()
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
