package pvh

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	startInfoAt   = 0x6000
	modulesAt     = 0x6040
	memoryMapAt   = 0x6080
	cmdlineAt     = 0x7000
	mpTableAt     = 0x9fc00
	extendedAt    = 0x100000
	fourGiB       = 1 << 32
	maxCmdline    = 2048 // COMMAND_LINE_SIZE of x86, with the end mark
	pageBytes     = 4096
	lowMemoryEnds = 0xc000_0000 // of QEMU's microvm: what is beyond stands above 4 GiB
)

// Boot is what Lay puts into the memory.
type Boot struct {
	Kernel    *os.File // vmlinux: an ELF file for x86-64 with a PVH entry
	Initramfs *os.File
	Cmdline   string // without an end mark
	CPUs      int
}

// Entry reads where a kernel is entered: the physical address in its note XEN_ELFNOTE_PHYS32_ENTRY.
func Entry(kernel io.ReaderAt) (uint32, error) {
	file, err := elf.NewFile(kernel)
	if err != nil {
		return 0, fmt.Errorf("the kernel is no ELF file: %w", err)
	}
	if file.Machine != elf.EM_X86_64 {
		return 0, fmt.Errorf("the kernel is for %s, not for x86-64", file.Machine)
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		if p.Filesz > 1<<16 {
			return 0, errors.New("the kernel's notes are too long")
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return 0, fmt.Errorf("the kernel's notes: %w", err)
		}
		if entry, found := findEntry(notes); found {
			return entry, nil
		}
	}
	return 0, errors.New("the kernel has no PVH entry (CONFIG_PVH)")
}

// findEntry walks the notes of one segment: name size, description size, type, name, description, the last two padded to 4 bytes.
func findEntry(notes []byte) (uint32, bool) {
	const entryNote = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	for len(notes) >= 12 {
		nameSize, size, kind := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:]), binary.LittleEndian.Uint32(notes[8:])
		begin := 12 + (uint64(nameSize)+3)&^3
		end := begin + (uint64(size)+3)&^3
		if end > uint64(len(notes)) {
			return 0, false
		}
		if kind == entryNote && bytes.Equal(notes[12:12+nameSize], []byte("Xen\x00")) && size >= 4 {
			return binary.LittleEndian.Uint32(notes[begin:]), true
		}
		notes = notes[end:]
	}
	return 0, false
}

// NewMemory makes a guest's memory of that many bytes: zeroes, without a name, of a size that nobody who gets the descriptor can change
// (a device that shared it could else end QEMU by shortening it).
func NewMemory(bytes int64) (*os.File, error) {
	memory, err := memfd("cloche-memory", bytes)
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(memory.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		memory.Close()
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return memory, nil
}

// NewROM is ROM as a file that cannot be written to any more.
func NewROM(entry uint32) (*os.File, error) {
	file, err := memfd("cloche-rom", 0)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(ROM(entry)); err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func memfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if err := file.Truncate(size); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Lay puts everything that a boot needs into the memory, which must be zeroes. It refuses a kernel and an initramfs that do not fit.
func Lay(memory *os.File, b Boot) error {
	info, err := memory.Stat()
	if err != nil {
		return err
	}
	total := uint64(info.Size())
	low := min(total, lowMemoryEnds)
	if len(b.Cmdline) >= maxCmdline {
		return fmt.Errorf("the command line has %d bytes of %d", len(b.Cmdline), maxCmdline-1)
	}
	table, err := mpTable(b.CPUs)
	if err != nil {
		return err
	}
	initramfs, err := b.Initramfs.Stat()
	if err != nil {
		return err
	}
	size := uint64(initramfs.Size())
	if size > low-extendedAt {
		return fmt.Errorf("an initramfs of %d bytes does not fit into %d bytes of memory", size, low)
	}
	initramfsAt := (low - size) &^ (pageBytes - 1)
	if err := layKernel(memory, b.Kernel, initramfsAt); err != nil {
		return err
	}
	if err := copyTo(memory, initramfsAt, b.Initramfs, 0, size); err != nil {
		return fmt.Errorf("the initramfs: %w", err)
	}
	regions := memoryMap(total)
	for _, part := range []struct {
		at   int64
		what any
	}{
		{startInfoAt, startInfo{
			Magic: 0x336e_c578, Version: 1, Modules: 1, ModulesAt: modulesAt, CmdlineAt: cmdlineAt,
			MemoryMapAt: memoryMapAt, MemoryMapEntries: uint32(len(regions)),
		}},
		{modulesAt, module{At: initramfsAt, Bytes: size}},
		{memoryMapAt, regions},
		{cmdlineAt, []byte(b.Cmdline)},
		{mpTableAt, table},
	} {
		if err := binary.Write(io.NewOffsetWriter(memory, part.at), binary.LittleEndian, part.what); err != nil {
			return err
		}
	}
	return nil
}

// layKernel copies the kernel's segments to their physical addresses, all between 1 MiB and end.
func layKernel(memory, kernel *os.File, end uint64) error {
	file, err := elf.NewFile(kernel)
	if err != nil {
		return fmt.Errorf("the kernel is no ELF file: %w", err)
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Paddr < extendedAt || p.Paddr > end || p.Memsz > end-p.Paddr || p.Filesz > p.Memsz {
			return fmt.Errorf("the kernel's %d bytes for address %#x do not fit below %#x", p.Memsz, p.Paddr, end)
		}
		if err := copyTo(memory, p.Paddr, kernel, int64(p.Off), p.Filesz); err != nil {
			return fmt.Errorf("the kernel: %w", err)
		}
	}
	return nil
}

// copyTo has the system copy, without a buffer of ours between.
func copyTo(memory *os.File, at uint64, from *os.File, offset int64, bytes uint64) error {
	if _, err := memory.Seek(int64(at), io.SeekStart); err != nil {
		return err
	}
	for bytes > 0 {
		n, err := unix.Sendfile(int(memory.Fd()), int(from.Fd()), &offset, int(min(bytes, 1<<30)))
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return os.NewSyscallError("sendfile", err)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		bytes -= uint64(n)
	}
	return nil
}

// startInfo is struct hvm_start_info, version 1.
type startInfo struct {
	Magic, Version, Flags, Modules          uint32
	ModulesAt, CmdlineAt, RSDP, MemoryMapAt uint64
	MemoryMapEntries, _                     uint32
}

// module is struct hvm_modlist_entry.
type module struct{ At, Bytes, CmdlineAt, _ uint64 }

// region is struct hvm_memmap_table_entry; the kinds are those of E820.
type region struct {
	At, Bytes uint64
	Kind, _   uint32
}

const (
	usable   = 1
	reserved = 2
)

func memoryMap(total uint64) []region {
	low := min(total, lowMemoryEnds)
	regions := []region{
		{At: 0, Bytes: mpTableAt, Kind: usable},
		{At: mpTableAt, Bytes: extendedAt - mpTableAt, Kind: reserved},
		{At: extendedAt, Bytes: low - extendedAt, Kind: usable},
	}
	if total > low {
		regions = append(regions, region{At: fourGiB, Bytes: total - low, Kind: usable})
	}
	return regions
}
