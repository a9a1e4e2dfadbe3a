package main

import "testing"

const passwd = "root:x:0:0:root:/root:/bin/bash\nyou:x:1000:1000::/home/you:/bin/bash\n"

func TestFindUser(t *testing.T) {
	if found, conflict := findUser(passwd, you); !found || conflict != "" {
		t.Error(found, conflict)
	}
	if found, conflict := findUser(passwd, guestUser{Name: "ann", UID: 1001, GID: 1001}); found || conflict != "" {
		t.Error(found, conflict)
	}
	for _, u := range []guestUser{{Name: "ann", UID: 1000, GID: 1000}, {Name: "you", UID: 1001, GID: 1000}, {Name: "you", UID: 1000, GID: 1001}, {Name: "root", UID: 2000, GID: 2000}} {
		if _, conflict := findUser(passwd, u); conflict == "" {
			t.Errorf("%+v would share a name or a number", u)
		}
	}
}

func TestJoinGroup(t *testing.T) {
	if got := joinGroup("staff:x:50:\nsudo:x:27:a\n", "staff", "ann"); got != "staff:x:50:ann\nsudo:x:27:a\n" {
		t.Errorf("%q", got)
	}
	if got := joinGroup("staff:x:50:a\n", "staff", "ann"); got != "staff:x:50:a,ann\n" {
		t.Errorf("%q", got)
	}
}

func TestMemoryAvailable(t *testing.T) {
	if got := memoryAvailable("MemTotal: 1 kB\nMemAvailable:     940392 kB\n"); got != 940392<<10 {
		t.Error(got)
	}
}

func TestGroupLimits(t *testing.T) {
	for _, mib := range []uint64{128, 512, 2048, 1 << 20} {
		total := mib << 20
		if m := memoryFor(total); m >= total || m < total/2 {
			t.Errorf("%d MiB: memory.max %d", mib, m)
		}
		if p := pidsFor(total); p < minPids || p > maxPids {
			t.Errorf("%d MiB: pids.max %d", mib, p)
		}
	}
}
