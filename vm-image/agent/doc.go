// Cloche-agent is PID 1 of the guest: it makes the machine out of a kernel and some disks, and then does what the host asks.
//
//	kernel ── /init ─┬─ dial vsock 2:cloche.control ── hello ───────────── requests (control.go)
//	                 ├─ proc, sys, dev ─ disks ─ dm-verity ─ EROFS ─ overlay ─ switch root (root.go)
//	                 └─ control groups, loopback (cgroup.go, network.go)
//
// The host is told of the boot as early as there is a stream to tell it on; what needs the root waits for it (rootState).
// After the switch of roots the agent goes on as the same process, out of the memory of the initramfs: there is no second
// program that could be missing or replaced.
//
// Everything here runs inside the wall, so nothing here is a promise. The agent keeps to four rules:
//   - it never dies of a request or of a workload: a PID 1 that ends is a kernel panic;
//   - parameters are checked against the bounds of helpers/contract/protocol.ts before anything is done;
//   - every child is reaped in one place (reaper.go);
//   - start-up is counted in milliseconds under emulation: few packages, no forks, nothing that could be done later.
//
// Who may call: the kernel, and the host over ssh for everything that people do in a machine (ssh.go). Whom it calls: the host's keeper.
package main
