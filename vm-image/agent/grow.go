package main

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ext4's superblock begins at byte 1024; its block count is split (Documentation/filesystems/ext4/super.rst).
const (
	superblockAt       = 1024
	superblockBytes    = 1024
	blocksLowAt        = 0x4
	blockSizeAt        = 0x18
	blocksHighAt       = 0x150
	ext4ResizeFS       = 0x40086610 // _IOW('f', 16, __u64)
	smallestBlockShift = 10
)

// growDataDisk makes the filesystem at `mounted` as large as its disk. The host's template has one size and a task may
// ask for a larger disk; the disk never shrinks. A filesystem that fills its disk already costs one read.
func growDataDisk(node, mounted string) error {
	device, err := os.Open(node)
	if err != nil {
		return err
	}
	defer device.Close()
	var sizeBytes uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&sizeBytes))); errno != 0 {
		return errno
	}
	superblock := make([]byte, superblockBytes)
	if _, err := device.ReadAt(superblock, superblockAt); err != nil {
		return err
	}
	has, wants := blockCounts(superblock, sizeBytes)
	if wants <= has {
		return nil
	}
	folder, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer folder.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&wants))); errno != 0 {
		return errno
	}
	return nil
}

// blockCounts gives the filesystem's blocks and those that its disk has room for.
func blockCounts(superblock []byte, sizeBytes uint64) (has, wants uint64) {
	little := binary.LittleEndian
	has = uint64(little.Uint32(superblock[blocksLowAt:])) | uint64(little.Uint32(superblock[blocksHighAt:]))<<32
	return has, sizeBytes >> (smallestBlockShift + little.Uint32(superblock[blockSizeAt:])&0xf)
}
