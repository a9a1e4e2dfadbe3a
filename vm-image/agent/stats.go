package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

type statsResult struct {
	UptimeMs             int64 `json:"uptimeMs"`
	Processes            int64 `json:"processes"` // of the user; the kernel's threads and the agent are not counted
	MemoryTotalBytes     int64 `json:"memoryTotalBytes"`
	MemoryAvailableBytes int64 `json:"memoryAvailableBytes"`
	DiskTotalBytes       int64 `json:"diskTotalBytes"`
	DiskUsedBytes        int64 `json:"diskUsedBytes"`
	LoadPercent          int64 `json:"loadPercent"` // load of the last minute; 100 is one CPU
}

func (a *agent) handleStats(raw json.RawMessage) (any, error) {
	if err := noParams(raw); err != nil {
		return nil, err
	}
	if err := a.root.wait(); err != nil {
		return nil, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, nativeError("agent.native", "sysinfo", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(a.root.dataFd, &fs); err != nil {
		return nil, nativeError("agent.native", "statfs of the task's disk", err)
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, nativeError("agent.native", "memory figures", err)
	}
	return statsResult{
		UptimeMs:             uptimeMs(),
		Processes:            countProcesses(userGroup),
		MemoryTotalBytes:     int64(info.Totalram) * int64(info.Unit),
		MemoryAvailableBytes: memoryAvailable(string(meminfo)),
		DiskTotalBytes:       int64(fs.Blocks) * fs.Bsize,
		DiskUsedBytes:        int64(fs.Blocks-fs.Bfree) * fs.Bsize,
		LoadPercent:          int64(info.Loads[0]) * 100 >> 16,
	}, nil
}

func memoryAvailable(meminfo string) int64 {
	for _, line := range strings.Split(meminfo, "\n") {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}
