package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Lines of the agent go to the kernel's log, which puts its time before them and shows them on the console, where the
// host reads them. Level 3 is the lowest that `quiet` lets through. What only tells that a start goes well stays in the kernel's log
// (`dmesg`): the emulated console costs about 3 ms a line, and the host has the same times from the protocol.
const (
	logPrefix    = "<3>cloche-agent: "
	timingPrefix = "<6>cloche-agent: "
)

// logFd stays open for good: after the switch of roots and while the machine ends it is still there.
var logFd = -1

func openLog() {
	if logFd < 0 {
		logFd, _ = unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		// The kernel would drop lines above ten in five seconds, also the one that says why.
		_ = writeFile("/proc/sys/kernel/printk_devkmsg", "on\n")
	}
}

func logf(format string, args ...any) { writeLog(logPrefix, format, args) }

// timing notes when a step of an ordinary start or end was reached; it does not show on the console.
func timing(format string, args ...any) { writeLog(timingPrefix, format, args) }

func writeLog(prefix, format string, args []any) {
	if logFd < 0 {
		return
	}
	line := fmt.Sprintf(format, args...)
	if len(line) > 900 { // a record of the kernel's log ends at 1024 bytes
		line = line[:900]
	}
	// The kernel holds a record without an end of line back until the next one, so the last line of all would never be seen.
	_, _ = unix.Write(logFd, []byte(prefix+strings.ReplaceAll(line, "\n", " | ")+"\n"))
}
