package main

import (
	"errors"
	"os"
	"strings"
	"time"
)

// disk is a block device of the guest.
type disk struct {
	node   string // /dev/vda
	number string // 254:0, as device-mapper takes it
}

// How long a disk may take to appear. Drivers are built in and probe before PID 1 on every helper so far; Hyper-V's
// storage comes later.
const diskPatience = 10 * time.Second

// findDisk looks a disk up by the serial that the helper gave it: names such as vda depend on the order of probing.
func findDisk(serial string) (disk, error) {
	for deadline := time.Now().Add(diskPatience); ; time.Sleep(5 * time.Millisecond) {
		d, err := lookForDisk("/sys/block", serial)
		if err == nil || time.Now().After(deadline) {
			return d, err
		}
	}
}

func lookForDisk(sysBlock, serial string) (disk, error) {
	names, err := os.ReadDir(sysBlock)
	if err != nil {
		return disk{}, err
	}
	var found []disk
	for _, entry := range names {
		text, err := os.ReadFile(sysBlock + "/" + entry.Name() + "/serial")
		if err != nil || strings.TrimSpace(string(text)) != serial {
			continue
		}
		number, err := os.ReadFile(sysBlock + "/" + entry.Name() + "/dev")
		if err != nil {
			return disk{}, err
		}
		found = append(found, disk{node: "/dev/" + entry.Name(), number: strings.TrimSpace(string(number))})
	}
	switch len(found) {
	case 0:
		return disk{}, errors.New("no disk has the serial " + serial)
	case 1:
		return found[0], nil
	default:
		return disk{}, errors.New(itoa(len(found)) + " disks have the serial " + serial)
	}
}
