package main

import (
	"golang.org/x/sys/unix"
)

// The machine has no card. Loopback has 127.0.0.1 and ::1, which the kernel gives it when it comes up, and one more address: with
// loopback addresses alone getaddrinfo(AI_ADDRCONFIG) finds nothing to configure and fails even for `localhost`.
var loopbackAddress = [4]byte{198, 18, 0, 1}

// On loopback all addresses of a network are local: with the pool's mask so is the pool (egress_pool.go).
var (
	loopbackMask = [4]byte{255, 255, 255, 255}
	poolMask     = [4]byte{255, 254, 0, 0}
)

func bringUpLoopback(mask [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return err
	}
	for _, step := range []struct {
		request uint
		address [4]byte
	}{
		{unix.SIOCSIFADDR, loopbackAddress},
		{unix.SIOCSIFNETMASK, mask},
	} {
		second, err := unix.NewIfreq("lo:1") // a second address of the same device, in the words of these calls
		if err != nil {
			return err
		}
		if err := second.SetInet4Addr(step.address[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, step.request, second); err != nil {
			return err
		}
	}
	return nil
}
