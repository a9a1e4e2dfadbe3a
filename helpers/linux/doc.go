// Cloche's helper on Linux: one process that runs one machine with QEMU and speaks helpers/contract on its stdio.
//
//	keeper --stdio, JSON-RPC--> cloche-helper --QMP on a descriptor--> qemu-system-*
//	                              |  |  '--console on a descriptor-----'   | vhost-user on a descriptor
//	                              |  '--------------------------> vhost-device-vsock   (or /dev/vhost-vsock and our relay)
//	                              '-- console log, stream sockets
//
// It knows nothing of folders, policies or secrets. It dies with its parent, and takes the machine along: the end of
// stdin, a signal, or the parent's death each end everything, and both children die with the helper by the kernel's doing.
//
//	main.go      arguments, own limits, the end
//	service.go   the contract's methods
//	internal/plan      configuration to command lines, pure
//	internal/machine   the life of the machine
//	internal/child     processes that cannot outlive us
//	internal/qemu      QMP        internal/vsock    streams
//	internal/console   the log    internal/probe    what this host can do
package main
