// Package pvhtest makes files that look like a kernel, for tests that boot none.
package pvhtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Segment is what stands at a physical address; Zeroes follow it, as a kernel's bss.
type Segment struct {
	At     uint64
	Bytes  []byte
	Zeroes uint64
}

// Kernel is an ELF file for x86-64 that is entered at entry by the PVH boot protocol.
func Kernel(entry uint32, segments ...Segment) []byte {
	return ELF(elf.EM_X86_64, Note("Xen\x00", 18, binary.LittleEndian.AppendUint32(nil, entry)), segments...)
}

// ELF is such a file with any machine and notes.
func ELF(machine elf.Machine, notes []byte, segments ...Segment) []byte {
	const headerBytes, programBytes = 64, 56
	offset := uint64(headerBytes + (1+len(segments))*programBytes)
	programs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: offset, Filesz: uint64(len(notes)), Memsz: uint64(len(notes))}}
	body := bytes.Clone(notes)
	for _, s := range segments {
		programs = append(programs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Off: offset + uint64(len(body)), Paddr: s.At, Filesz: uint64(len(s.Bytes)), Memsz: uint64(len(s.Bytes)) + s.Zeroes,
		})
		body = append(body, s.Bytes...)
	}
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Phoff: headerBytes, Ehsize: headerBytes,
		Phentsize: programBytes, Phnum: uint16(len(programs)),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var out bytes.Buffer
	for _, part := range []any{header, programs, body} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err) // fixed sizes always encode
		}
	}
	return out.Bytes()
}

// Note is one ELF note; its name brings its end mark along.
func Note(name string, kind uint32, description []byte) []byte {
	var out []byte
	for _, word := range []uint32{uint32(len(name)), uint32(len(description)), kind} {
		out = binary.LittleEndian.AppendUint32(out, word)
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
	return append(append(out, pad([]byte(name))...), pad(bytes.Clone(description))...)
}
