package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The layers' bytes are proved as they are read, by dm-verity; no tool, only three ioctls on /dev/mapper/control.
//
// A block that does not match reads as EIO, the default. The other choices are worse: `panic_on_corruption` ends the machine
// with a stack trace instead of a sentence, `restart_on_corruption` loops, `ignore_corruption` is no check. While the root is
// made a mismatch becomes the error agent.verity; later the program that reads gets EIO and the host a log line (uevent.go).
// A block is checked again when it was dropped from the page cache: `check_at_most_once` would trust the host's file after that.

const (
	blockSize      = 4096
	sectorsInBlock = blockSize / 512
)

// kernelDigest gives the kernel's name of an algorithm. It would choose SHA-256 in AVX2 by itself; emulated vectors are slow (36 MB/s
// under QEMU's TCG against 60 MB/s for the plain C code), and every byte of a start passes through here.
func kernelDigest(algorithm, cpuinfo string) string {
	if algorithm == "sha256" && strings.Contains(cpuinfo, "QEMU TCG") {
		return "sha256-generic"
	}
	return algorithm
}

// verityTable is the target's parameters: the kernel's Documentation/admin-guide/device-mapper/verity.rst, version 1.
func verityTable(device string, l layer) string {
	return fmt.Sprintf("1 %s %s %d %d %d %d %s %s %s", device, device, blockSize, blockSize, l.dataBlocks, l.hashStartBlock, l.algorithm, l.rootHash, l.salt)
}

// include/uapi/linux/dm-ioctl.h
const (
	dmHeaderBytes = 312
	dmTargetBytes = 40
	dmBufferBytes = 4096

	dmDevCreate   = 3
	dmDevSuspend  = 6 // resumes, without the suspend flag
	dmTableLoad   = 9
	dmTableStatus = 12

	dmReadOnly = 1 << 0

	dmOffsetDataSize    = 12
	dmOffsetDataStart   = 16
	dmOffsetTargetCount = 20
	dmOffsetFlags       = 28
	dmOffsetDev         = 40
	dmOffsetName        = 48
)

type deviceMapper struct {
	fd      int
	cpuinfo string
}

func openDeviceMapper() (*deviceMapper, error) {
	fd, err := unix.Open("/dev/mapper/control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/mapper/control", Err: err}
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	return &deviceMapper{fd, string(cpuinfo)}, err
}

func (d *deviceMapper) close() { unix.Close(d.fd) }

// call fills the header for one command and gives the buffer as the kernel left it.
func (d *deviceMapper) call(command uintptr, name string, flags uint32, target []byte) ([]byte, error) {
	b := make([]byte, dmBufferBytes)
	order := binary.NativeEndian
	order.PutUint32(b, 4) // the interface's version 4.0.0
	order.PutUint32(b[dmOffsetDataSize:], dmBufferBytes)
	order.PutUint32(b[dmOffsetDataStart:], dmHeaderBytes)
	order.PutUint32(b[dmOffsetFlags:], flags)
	copy(b[dmOffsetName:dmOffsetName+127], name)
	if target != nil {
		order.PutUint32(b[dmOffsetTargetCount:], 1)
		if copy(b[dmHeaderBytes:], target) < len(target) {
			return nil, unix.E2BIG
		}
	}
	const readWrite = 3 << 30
	request := readWrite | dmHeaderBytes<<16 | 0xfd<<8 | command
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), request, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return nil, errno
	}
	return b, nil
}

// targetSpec is one line of a device's table: dm_target_spec with its parameters.
func targetSpec(sectors uint64, kind, params string) []byte {
	length := (dmTargetBytes + len(params) + 1 + 7) &^ 7
	b := make([]byte, length)
	binary.NativeEndian.PutUint64(b[8:], sectors)
	copy(b[24:39], kind)
	copy(b[dmTargetBytes:], params)
	return b
}

// openLayer makes the verified device of one layer and gives its node.
func (d *deviceMapper) openLayer(name string, source disk, l layer) (string, error) {
	if _, err := d.call(dmDevCreate, name, 0, nil); err != nil {
		return "", fmt.Errorf("dm create: %w", err)
	}
	l.algorithm = kernelDigest(l.algorithm, d.cpuinfo)
	target := targetSpec(l.dataBlocks*sectorsInBlock, "verity", verityTable(source.number, l))
	if _, err := d.call(dmTableLoad, name, dmReadOnly, target); err != nil {
		return "", fmt.Errorf("dm-verity table for %s: %w", source.node, err)
	}
	b, err := d.call(dmDevSuspend, name, 0, nil)
	if err != nil {
		return "", fmt.Errorf("dm resume: %w", err)
	}
	number := binary.NativeEndian.Uint64(b[dmOffsetDev:])
	return "/dev/dm-" + itoa(int(unix.Minor(number))), nil
}

// corrupted says whether a block of the layer was found not to match. The status of the target is "V", or "C" from the first mismatch on.
func (d *deviceMapper) corrupted(name string) bool {
	b, err := d.call(dmTableStatus, name, 0, nil)
	if err != nil {
		return false
	}
	order := binary.NativeEndian
	start := int(order.Uint32(b[dmOffsetDataStart:])) + dmTargetBytes
	return order.Uint32(b[dmOffsetTargetCount:]) == 1 && start < len(b) && strings.HasPrefix(string(b[start:]), "C")
}
