package pvh

import "encoding/binary"

const (
	romBytes = 64 << 10 // QEMU takes whole 64 KiB
	romAt    = fourGiB - romBytes

	resetAt = 0xfff0 // of the ROM: where the processor begins, in real mode
	codeAt  = 0xff80
	gdtAt   = 0xff60

	flatCode = 0x08 // selectors
	flatData = 0x10
)

// ROM is the machine's firmware: it enters the kernel as the boot protocol wants it and does nothing else.
func ROM(entry uint32) []byte {
	le16, le32, le64 := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64

	var gdt []byte
	gdt = le64(gdt, 0)                     // a null descriptor
	gdt = le64(gdt, 0x00cf_9b00_0000_ffff) // flatCode: 4 GiB from 0, 32 bits, executable
	gdt = le64(gdt, 0x00cf_9300_0000_ffff) // flatData: 4 GiB from 0, writable

	// 16 bits, the code segment begins at romAt
	code := []byte{0xfa}                              // cli
	code = append(code, 0x66, 0x2e, 0x0f, 0x01, 0x16) // lgdt cs:[…], with all 32 bits of the base
	descriptorAt := len(code)
	code = le16(code, 0)
	code = le32(append(code, 0x66, 0xb8), 0x11) // mov eax, PE|ET
	code = append(code, 0x0f, 0x22, 0xc0)       // mov cr0, eax
	code = append(code, 0x66, 0xea)             // jmp flatCode:next
	code = le32(code, uint32(romAt+codeAt+len(code)+4+2))
	code = le16(code, flatCode)
	// 32 bits
	code = le32(append(code, 0xb8), flatData)               // mov eax, flatData
	code = append(code, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0) // mov ds, eax; mov es, eax; mov ss, eax
	code = le32(append(code, 0xbb), startInfoAt)            // mov ebx, startInfoAt
	code = le32(append(code, 0xb8), entry)                  // mov eax, entry
	code = append(code, 0xff, 0xe0)                         // jmp eax

	binary.LittleEndian.PutUint16(code[descriptorAt:], uint16(codeAt+len(code)))
	code = le16(code, uint16(len(gdt)-1)) // what lgdt reads: limit and base
	code = le32(code, romAt+gdtAt)

	rom := make([]byte, romBytes)
	copy(rom[gdtAt:], gdt)
	copy(rom[codeAt:resetAt], code)
	reset := codeAt - (resetAt + 3) // jmp codeAt, relative to the next instruction
	rom[resetAt] = 0xe9
	binary.LittleEndian.PutUint16(rom[resetAt+1:], uint16(int16(reset)))
	return rom
}
