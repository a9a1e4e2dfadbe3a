package main

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"os"

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
	// answerBytes holds any answer to one message of ours: an error repeats the message that it is about.
	answerBytes = 8192
)

// gateway is of TEST-NET-1 (RFC 5737): a next hop that the rules know by and that is no address of anybody.
var gateway = [4]byte{192, 0, 2, 1}

// rules is the table as one transaction of netlink messages, the last of which asks for an answer. egress_rules_test.go has its words, and
// writes it: the same in every machine, it is put together at no start.
//
//go:embed egress_rules.bin
var rules []byte

// addRules puts the table there, whole or not at all.
func addRules() error { return tellKernel(unix.NETLINK_NETFILTER, rules) }

// addDefaultRoute: default via the gateway on lo, which need not be on a network there.
func addDefaultRoute() error { return tellKernel(unix.NETLINK_ROUTE, defaultRoute()) }

// defaultRoute is struct nlmsghdr, struct rtmsg and two attributes (rtnetlink(7)).
func defaultRoute() []byte {
	order := binary.NativeEndian
	var m []byte
	m = order.AppendUint32(m, 44)
	m = order.AppendUint16(m, unix.RTM_NEWROUTE)
	m = order.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m = order.AppendUint32(m, 1) // sequence
	m = order.AppendUint32(m, 0) // of the kernel's choice: the socket
	m = append(m, unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST)
	m = order.AppendUint32(m, unix.RTNH_F_ONLINK)
	m = order.AppendUint16(m, 8)
	m = order.AppendUint16(m, unix.RTA_GATEWAY)
	m = append(m, gateway[:]...)
	m = order.AppendUint16(m, 8)
	m = order.AppendUint16(m, unix.RTA_OIF)
	return order.AppendUint32(m, loopbackIndex)
}

// tellKernel sends messages of which the last asks for an answer. The kernel acts while it takes them, so its answers are there when it has; the
// first is the first error, or that answer.
func tellKernel(family int, messages []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, answerBytes)
	n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	order := binary.NativeEndian
	// struct nlmsghdr, and in its payload the errno, negative; 0 is the answer that was asked for.
	if n < unix.SizeofNlMsghdr+4 || order.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer to a netlink message is not one")
	}
	if code := int32(order.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return os.NewSyscallError("netlink", unix.Errno(-code))
	}
	return nil
}
