package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// One control group, `user`, holds everything that is not the agent: a fork bomb fills the group and not the machine. The agent stays
// in the top group: there it competes with the whole of `user` as one against one, no limit reaches it, and the kernel never
// kills PID 1 for memory. Moving it to a group of its own would cost a start some milliseconds of waiting for RCU.

const (
	groupRoot = "/sys/fs/cgroup"
	userGroup = groupRoot + "/user"
	// Kept from the workload for the kernel and the agent.
	reservedBytes = 48 << 20
	minPids       = 2048
	maxPids       = 32_768
)

type groups struct {
	once sync.Once
	err  error
	fd   int // directory of userGroup
}

func newGroups() *groups { return &groups{fd: -1} }

// sessions is the group for new processes, -1 when there is none.
func (g *groups) sessions() int { return g.fd }

func (g *groups) make() error {
	g.once.Do(func() { g.err = g.build() })
	return g.err
}

func (g *groups) build() error {
	if err := writeFile(groupRoot+"/cgroup.subtree_control", "+cpu +memory +pids +io"); err != nil {
		return err
	}
	if err := unix.Mkdir(userGroup, 0o755); err != nil && err != unix.EEXIST {
		return err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	total := uint64(info.Totalram) * uint64(info.Unit)
	var failed []error
	for _, limit := range [][2]string{
		{"pids.max", strconv.FormatUint(pidsFor(total), 10)},
		{"memory.max", strconv.FormatUint(memoryFor(total), 10)},
		{"memory.oom.group", "0"},
	} {
		if err := writeFile(userGroup+"/"+limit[0], limit[1]); err != nil {
			failed = append(failed, &os.PathError{Op: "write", Path: limit[0], Err: err})
		}
	}
	fd, err := unix.Open(userGroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		failed = append(failed, err)
	} else {
		g.fd = fd
	}
	return errors.Join(failed...)
}

// pidsFor: 4 per MiB, so that what the kernel needs for that many threads fits into the memory.
func pidsFor(totalBytes uint64) uint64 { return min(max(4*(totalBytes>>20), minPids), maxPids) }

func memoryFor(totalBytes uint64) uint64 {
	if totalBytes < 4*reservedBytes {
		return totalBytes * 3 / 4
	}
	return totalBytes - reservedBytes
}

// countProcesses counts the processes of the user's group and the groups that he made in it.
func countProcesses(group string) int64 {
	var n int64
	if list, err := os.ReadFile(group + "/cgroup.procs"); err == nil {
		n = int64(strings.Count(string(list), "\n"))
	}
	entries, _ := os.ReadDir(group)
	for _, e := range entries {
		if e.IsDir() {
			n += countProcesses(group + "/" + e.Name())
		}
	}
	return n
}
