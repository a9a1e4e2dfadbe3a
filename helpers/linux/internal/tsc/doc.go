// Package tsc measures how fast this host's time stamp counter runs.
//
// QEMU's translation hands the host's counter to the guest as it is. microvm without ACPI gives the guest nothing to
// measure it against, so a kernel that is not told the frequency falls back to counting ticks: 4 ms is then the finest
// time it knows, and it can never stop ticking while idle. Told, it has nanoseconds (and skips 0.1 s of measuring).
package tsc
