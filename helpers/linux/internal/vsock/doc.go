// Package vsock carries streams between the guest and the unix sockets of the keeper, in the hybrid-vsock convention:
//
//	host to guest   connect to <streams>, "CONNECT <port>\n", await "OK <n>\n", then bytes
//	guest to host   the guest connects to CID 2; the stream arrives at <streams>_<port>, only if that port is open
//
// There are two ways. Links serves hosts without the kernel's vhost-vsock: the process vhost-device-vsock speaks the
// convention itself, in a folder of its own, and links decide what leads in and out of it:
//
//	<streams>        -> <runDir>/vd/s          made at the start
//	<runDir>/vd/s_N  -> <streams>_N            made by openPort, removed by closePort
//
// Relay serves hosts with it: the helper listens on <streams> and on AF_VSOCK ports and copies bytes both ways.
package vsock
