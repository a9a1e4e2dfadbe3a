package pvh

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// maxCPUs: an APIC's id has 8 bits, the I/O APIC needs one of its own, and 255 means all.
const maxCPUs = 253

// Entries and addresses of the MultiProcessor Specification 1.4, chapter 4.
type (
	floatingPointer struct {
		Signature               [4]byte
		TableAt                 uint32
		Length, Revision, Check uint8
		Features                [5]uint8
	}
	tableHeader struct {
		Signature       [4]byte
		Length          uint16
		Revision, Check uint8
		OEM             [8]byte
		Product         [12]byte
		OEMTableAt      uint32
		OEMTableLength  uint16
		Entries         uint16
		LocalAPICAt     uint32
		Extended        uint32
	}
	processor struct {
		Type, APIC, APICVersion, Flags uint8
		Signature, Features            uint32
		_                              [8]uint8
	}
	bus struct {
		Type, ID uint8
		Name     [6]byte
	}
	ioAPIC struct {
		Type, ID, Version, Flags uint8
		At                       uint32
	}
	interrupt struct {
		Type, Kind           uint8
		Flags                uint16
		Bus, Line, APIC, Pin uint8
	}
)

const (
	processorEntry, busEntry, ioAPICEntry, interruptEntry, localInterruptEntry = 0, 1, 2, 3, 4

	enabled, bootProcessor        = 1, 2
	vectored, nmi, external       = 0, 1, 3
	allAPICs                      = 0xff
	localAPICAt, ioAPICAt         = 0xfee0_0000, 0xfec0_0000
	apicVersion                   = 0x14
	isaLines                      = 16
	timerLine, cascade            = 0, 2
	timerPin                uint8 = 2 // QEMU has the timer's line 0 at the I/O APIC's pin 2
)

// mpTable tells a kernel without ACPI of its processors and of how the 16 ISA lines reach the I/O APIC. It belongs at mpTableAt.
func mpTable(cpus int) ([]byte, error) {
	if cpus < 1 || cpus > maxCPUs {
		return nil, fmt.Errorf("%d processors; an MP table has room for 1 to %d", cpus, maxCPUs)
	}
	ioAPICID := uint8(cpus + 1)
	var entries []any
	for i := range cpus {
		flags := uint8(enabled)
		if i == 0 {
			flags |= bootProcessor
		}
		entries = append(entries, processor{Type: processorEntry, APIC: uint8(i), APICVersion: apicVersion, Flags: flags})
	}
	entries = append(entries,
		bus{Type: busEntry, Name: [6]byte([]byte("ISA   "))},
		ioAPIC{Type: ioAPICEntry, ID: ioAPICID, Version: apicVersion, Flags: enabled, At: ioAPICAt})
	for line := uint8(0); line < isaLines; line++ {
		if line == cascade {
			continue // its pin is the timer's
		}
		pin := line
		if line == timerLine {
			pin = timerPin
		}
		entries = append(entries, interrupt{Type: interruptEntry, Kind: vectored, Line: line, APIC: ioAPICID, Pin: pin})
	}
	entries = append(entries,
		interrupt{Type: localInterruptEntry, Kind: external, APIC: 0, Pin: 0},
		interrupt{Type: localInterruptEntry, Kind: nmi, APIC: allAPICs, Pin: 1})

	body := encode(entries...)
	header := tableHeader{
		Signature: [4]byte([]byte("PCMP")), Revision: 4, OEM: [8]byte([]byte("CLOCHE  ")), Product: [12]byte([]byte("microvm     ")),
		Entries: uint16(len(entries)), LocalAPICAt: localAPICAt,
	}
	header.Length = uint16(binary.Size(header) + len(body))
	table := append(encode(header), body...)
	table[7] = -sum(table)

	pointer := floatingPointer{Signature: [4]byte([]byte("_MP_")), Length: 1, Revision: 4} // 1: of 16 bytes
	pointer.TableAt = mpTableAt + uint32(binary.Size(pointer))
	pointer.Check = -sum(encode(pointer))
	return append(encode(pointer), table...), nil
}

func encode(parts ...any) []byte {
	var out bytes.Buffer
	for _, part := range parts {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err) // fixed sizes always encode
		}
	}
	return out.Bytes()
}

// sum of all bytes is 0 in a table whose check byte is right.
func sum(table []byte) (s uint8) {
	for _, b := range table {
		s += b
	}
	return s
}
