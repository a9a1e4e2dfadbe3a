package main

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestVerityTable_AsTheKernelDocumentsIt(t *testing.T) {
	l, err := parseLayer(goodLayer)
	if err != nil {
		t.Fatal(err)
	}
	want := "1 254:0 254:0 4096 4096 51183 51183 sha256 " + strings.Repeat("0f", 32) + " 7c6f"
	if got := verityTable("254:0", l); got != want {
		t.Fatalf("%q", got)
	}
}

func TestTargetSpec_IsAlignedAndTerminated(t *testing.T) {
	for n := 0; n < 20; n++ {
		params := strings.Repeat("x", n)
		b := targetSpec(8, "verity", params)
		if len(b)%8 != 0 || b[dmTargetBytes+n] != 0 || string(b[dmTargetBytes:dmTargetBytes+n]) != params {
			t.Fatalf("%d: %q", n, b)
		}
		if binary.NativeEndian.Uint64(b[8:]) != 8 || string(b[24:31]) != "verity\x00" {
			t.Fatalf("%q", b)
		}
	}
}

func TestKernelDigest_PlainCodeUnderEmulationOnly(t *testing.T) {
	const tcg = "model name\t: QEMU TCG CPU version 2.5+\n"
	for _, c := range [][3]string{{"sha256", tcg, "sha256-generic"}, {"sha256", "model name\t: AMD EPYC\n", "sha256"}, {"blake2b-256", tcg, "blake2b-256"}} {
		if got := kernelDigest(c[0], c[1]); got != c[2] {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func TestDamaged_NamesTheBlock(t *testing.T) {
	event := "change@/devices/virtual/block/dm-0\x00ACTION=change\x00DEVNAME=dm-0\x00DM_VERITY_ERR_BLOCK_NR=1,77\x00"
	if got := damaged(event); got != "block (kind number) 1 77 of dm-0" {
		t.Error(got)
	}
	if got := damaged("add@/x\x00DEVNAME=vda\x00"); got != "" {
		t.Error(got)
	}
}
