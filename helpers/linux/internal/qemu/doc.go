// Package qemu speaks QMP, QEMU's control protocol, over a descriptor that QEMU inherited. There is no socket file, so
// nobody else can speak to the hypervisor.
package qemu
