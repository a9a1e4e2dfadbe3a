package main

import (
	"encoding/binary"
	"testing"
)

func TestBlockCounts_DiskLargerThanItsFilesystem_WantsTheDisksBlocks(t *testing.T) {
	superblock := make([]byte, superblockBytes)
	binary.LittleEndian.PutUint32(superblock[blocksLowAt:], 4<<20)
	binary.LittleEndian.PutUint32(superblock[blockSizeAt:], 2)
	if has, wants := blockCounts(superblock, 32<<30); has != 4<<20 || wants != 8<<20 {
		t.Fatalf("has %d, wants %d", has, wants)
	}
	binary.LittleEndian.PutUint32(superblock[blocksHighAt:], 1)
	if has, _ := blockCounts(superblock, 0); has != 1<<32|4<<20 {
		t.Fatalf("the high half is lost: %d", has)
	}
}
