//go:build linux

package confine

import "golang.org/x/sys/unix"

// rootKeeps is what root keeps, so that a share of root reaches files of other users as root expects. Without them
// uid 0 is an ordinary owner. Nothing else: no CHOWN (owners are not passed on), no MKNOD, no SYS_ADMIN.
const rootKeeps = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER

// dropCapabilities takes the calling thread's capabilities and its way to get any back.
func dropCapabilities(root bool) Measure {
	const name = "capabilities"
	keep := uint32(0)
	if root {
		keep = rootKeeps
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // absent before Linux 4.3
	for c := uintptr(0); c < 64; c++ {
		if c < 32 && keep&(1<<c) != 0 {
			continue
		}
		// EINVAL: past the last one. EPERM: without CAP_SETPCAP there is nothing to gain either, as exec may not
		// raise rights any more.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			break
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return missing(name, "%v", err)
	}
	if root {
		return active(name, "runs as root: only DAC_OVERRIDE and FOWNER are left, for other users' files in the folder")
	}
	return active(name, "none")
}
