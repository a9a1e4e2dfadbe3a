package main

import "syscall"

// Switches of the kernel whose defaults are for a server of many users, not for one person's machine.
var sysctls = [][2]string{
	{"fs/inotify/max_user_watches", "1048576"}, // a dev server watches all of node_modules
	{"fs/inotify/max_user_instances", "1024"},
	{"vm/max_map_count", "1048576"},              // databases, JVMs, sanitizers
	{"kernel/pid_max", "4194304"},                // the control group bounds processes, not this
	{"vm/compaction_proactiveness", "0"},         // it wakes an idle machine twice a second; what needs large pages compacts by itself
	{"net/ipv4/ip_unprivileged_port_start", "0"}, // the machine has one user, and its network ends at the machine
}

// Open files per process: servers and watchers need more than the kernel's 1024. Children inherit it.
var openFiles = syscall.Rlimit{Cur: 16_384, Max: 524_288}

// setSysctls changes what is there; a kernel without a switch does not need it.
func setSysctls() {
	for _, s := range sysctls {
		_ = writeFile("/proc/sys/"+s[0], s[1]+"\n")
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &openFiles)
}
