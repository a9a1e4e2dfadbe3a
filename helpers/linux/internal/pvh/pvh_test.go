package pvh

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/helper/internal/pvh/pvhtest"
)

const entry = 0x0100_0040

func fileOf(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func memoryOf(t *testing.T, mib int64) *os.File {
	t.Helper()
	memory, err := NewMemory(mib << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	return memory
}

func at(t *testing.T, memory *os.File, address int64, bytes int) []byte {
	t.Helper()
	out := make([]byte, bytes)
	if _, err := memory.ReadAt(out, address); err != nil {
		t.Fatal(err)
	}
	return out
}

func decode[T any](t *testing.T, memory *os.File, address int64) (value T) {
	t.Helper()
	if err := binary.Read(io.NewSectionReader(memory, address, 4096), binary.LittleEndian, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestLay_TheKernelFindsAllThatTheProtocolPromises(t *testing.T) {
	text, data, initramfs := bytes.Repeat([]byte("text"), 3000), []byte("data"), bytes.Repeat([]byte("cpio"), 2000)
	kernel := pvhtest.Kernel(entry, pvhtest.Segment{At: 0x0100_0000, Bytes: text}, pvhtest.Segment{At: 0x0110_0000, Bytes: data, Zeroes: 1 << 20})
	memory := memoryOf(t, 128)
	err := Lay(memory, Boot{Kernel: fileOf(t, kernel), Initramfs: fileOf(t, initramfs), Cmdline: "console=ttyS0 quiet", CPUs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(at(t, memory, 0x0100_0000, len(text)), text) || !bytes.Equal(at(t, memory, 0x0110_0000, 8), []byte("data\x00\x00\x00\x00")) {
		t.Error("the kernel's segments are not where its program headers want them")
	}
	info := decode[startInfo](t, memory, startInfoAt)
	if info.Magic != 0x336ec578 || info.Version != 1 || info.Modules != 1 || info.RSDP != 0 {
		t.Errorf("%+v", info)
	}
	module := decode[module](t, memory, int64(info.ModulesAt))
	if module.Bytes != uint64(len(initramfs)) || module.At%pageBytes != 0 || module.At+module.Bytes > 128<<20 || !bytes.Equal(at(t, memory, int64(module.At), len(initramfs)), initramfs) {
		t.Errorf("initramfs %+v", module)
	}
	if got := at(t, memory, int64(info.CmdlineAt), 20); string(got) != "console=ttyS0 quiet\x00" {
		t.Errorf("%q", got)
	}
	var usableBytes uint64
	for i := range info.MemoryMapEntries {
		r := decode[region](t, memory, int64(info.MemoryMapAt)+int64(i)*24)
		if r.Kind == usable {
			usableBytes += r.Bytes
		}
	}
	if want := uint64(128<<20 - (extendedAt - mpTableAt)); usableBytes != want {
		t.Errorf("%d bytes are said to be usable, not %d", usableBytes, want)
	}
	pointer := decode[floatingPointer](t, memory, mpTableAt)
	if string(pointer.Signature[:]) != "_MP_" || sum(at(t, memory, mpTableAt, 16)) != 0 {
		t.Errorf("%+v", pointer)
	}
	header := decode[tableHeader](t, memory, int64(pointer.TableAt))
	if string(header.Signature[:]) != "PCMP" || sum(at(t, memory, int64(pointer.TableAt), int(header.Length))) != 0 || header.Entries != 2+1+1+15+2 {
		t.Errorf("%+v", header)
	}
}

// QEMU's microvm has what is beyond 3 GiB above 4 GiB.
func TestMemoryMap_HasAHoleBelow4GiB(t *testing.T) {
	for mib, want := range map[uint64]uint64{128: 0, 3072: 0, 3073: 1 << 20, 8192: 5 << 30} {
		var above, all uint64
		for _, r := range memoryMap(mib << 20) {
			if r.At >= fourGiB {
				above += r.Bytes
			} else if r.At+r.Bytes > lowMemoryEnds {
				t.Errorf("%d MiB: %+v reaches into the hole", mib, r)
			}
			all += r.Bytes
		}
		if above != want || all != mib<<20 {
			t.Errorf("%d MiB: %d bytes above 4 GiB of %d", mib, above, all)
		}
	}
}

func TestLay_RefusesWhatDoesNotFit(t *testing.T) {
	fits := func() []byte { return pvhtest.Kernel(entry, pvhtest.Segment{At: 0x0100_0000, Bytes: []byte("text")}) }
	for _, c := range []struct {
		why, says string
		kernel    []byte
		initramfs int
		change    func(*Boot)
	}{
		{"a kernel beyond the memory", "do not fit", pvhtest.Kernel(entry, pvhtest.Segment{At: 128 << 20, Bytes: []byte("x")}), 10, nil},
		{"a kernel whose zeroes reach the initramfs", "do not fit", pvhtest.Kernel(entry, pvhtest.Segment{At: 1 << 20, Bytes: []byte("x"), Zeroes: 127<<20 - 5000}), 8192, nil},
		{"a kernel whose address wraps around", "do not fit", pvhtest.Kernel(entry, pvhtest.Segment{At: 1 << 63, Bytes: []byte("x"), Zeroes: 1 << 63}), 10, nil},
		{"a kernel over the start info", "do not fit", pvhtest.Kernel(entry, pvhtest.Segment{At: startInfoAt, Bytes: []byte("x")}), 10, nil},
		{"an initramfs larger than the memory", "does not fit", fits(), 127<<20 + 1, nil},
		{"a command line that the kernel would cut", "2047", fits(), 10, func(b *Boot) { b.Cmdline = strings.Repeat("x", 2048) }},
		{"more processors than an MP table names", "processors", fits(), 10, func(b *Boot) { b.CPUs = 254 }},
		{"half a kernel", "kernel", fits()[:198], 10, nil},
		{"no ELF file", "ELF", []byte("kernel"), 10, nil},
	} {
		t.Run(c.why, func(t *testing.T) {
			initramfs := filepath.Join(t.TempDir(), "i")
			_ = os.WriteFile(initramfs, nil, 0o600)
			_ = os.Truncate(initramfs, int64(c.initramfs))
			file, _ := os.Open(initramfs)
			defer file.Close()
			b := Boot{Kernel: fileOf(t, c.kernel), Initramfs: file, CPUs: 1}
			if c.change != nil {
				c.change(&b)
			}
			if err := Lay(memoryOf(t, 128), b); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("control: what fits is laid out", func(t *testing.T) {
		b := Boot{Kernel: fileOf(t, fits()), Initramfs: fileOf(t, []byte("cpio")), Cmdline: strings.Repeat("x", 2047), CPUs: 253}
		if err := Lay(memoryOf(t, 128), b); err != nil {
			t.Error(err)
		}
	})
}

func TestEntry(t *testing.T) {
	other := pvhtest.Note("Linux\x00", 18, []byte{1, 2, 3, 4})
	right := pvhtest.Note("Xen\x00", 18, binary.LittleEndian.AppendUint64(nil, entry))
	for _, c := range []struct {
		why, says string
		kernel    []byte
	}{
		{"after another note, with 8 bytes", "", pvhtest.ELF(elf.EM_X86_64, append(bytes.Clone(other), right...))},
		{"alone, with 4 bytes", "", pvhtest.Kernel(entry)},
		{"no PVH entry", "CONFIG_PVH", pvhtest.ELF(elf.EM_X86_64, other)},
		{"a note that is longer than its segment", "CONFIG_PVH", pvhtest.ELF(elf.EM_X86_64, append([]byte{4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 18, 0, 0, 0}, "Xen\x00"...))},
		{"a name that is longer than its segment", "CONFIG_PVH", pvhtest.ELF(elf.EM_X86_64, []byte{0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 18, 0, 0, 0})},
		{"for another processor", "x86-64", pvhtest.ELF(elf.EM_AARCH64, right)},
		{"no ELF file", "ELF", []byte("MZ")},
	} {
		got, err := Entry(bytes.NewReader(c.kernel))
		if c.says == "" && (err != nil || got != entry) {
			t.Errorf("%s: %#x, %v", c.why, got, err)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(pvhtest.Note("Xen\x00", 18, []byte{1, 2, 3, 4}))
	f.Add([]byte{4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 18, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, notes []byte) { findEntry(notes) })
}

// A device that shares the memory could end QEMU by shortening it.
func TestNewMemory_KeepsItsSize(t *testing.T) {
	memory := memoryOf(t, 1)
	for _, size := range []int64{0, 2 << 20} {
		if err := memory.Truncate(size); err == nil {
			t.Errorf("the memory has %d bytes now", size)
		}
	}
	if _, err := memory.WriteAt([]byte("x"), 1<<20-1); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestNewROM_StaysAsItIs(t *testing.T) {
	rom, err := NewROM(entry)
	if err != nil {
		t.Fatal(err)
	}
	defer rom.Close()
	if _, err := rom.WriteAt([]byte{0}, 0); err == nil {
		t.Error("the firmware was written to")
	}
	if seals, _ := unix.FcntlInt(rom.Fd(), unix.F_GET_SEALS, 0); seals&unix.F_SEAL_SHRINK == 0 {
		t.Error("the firmware could be cut")
	}
	content := make([]byte, romBytes)
	if _, err := rom.ReadAt(content, 0); err != nil || !bytes.Equal(content, ROM(entry)) {
		t.Errorf("%v", err)
	}
}

// What the ROM does is shown by machines that boot; here, that its parts do not run into each other.
func TestROM_BeginsWhereAProcessorDoes(t *testing.T) {
	rom := ROM(entry)
	if len(rom) != romBytes || rom[resetAt] != 0xe9 {
		t.Fatalf("%d bytes, %#x at the reset vector", len(rom), rom[resetAt])
	}
	target := resetAt + 3 + int(int16(binary.LittleEndian.Uint16(rom[resetAt+1:])))
	if target != codeAt || rom[codeAt] != 0xfa {
		t.Errorf("the reset leads to %#x", target)
	}
	if !bytes.Contains(rom[codeAt:resetAt], binary.LittleEndian.AppendUint32([]byte{0xb8}, entry)) || !bytes.Contains(rom[codeAt:resetAt], []byte{0xff, 0xe0}) {
		t.Error("the entry is not jumped to")
	}
}
