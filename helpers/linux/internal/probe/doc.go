// Package probe finds out what this host can do by doing it: an accelerator is usable when a kernel has printed its
// first byte with it. A device that opens proves nothing: where the host kernel has only KVM_PVM, /dev/kvm opens,
// answers version 12 and then hangs every ordinary guest (see facts.md).
package probe
