// Package pvh lays a kernel out in a guest's memory, as the boot loader of an x86 machine without firmware.
//
// The kernel is entered as the "x86/HVM direct boot ABI" says (Xen, docs/misc/pvh.pandoc): in 32-bit protected mode without
// paging, with the address of a start info in EBX, which names the initramfs, the command line and the memory map. How many
// processors there are and where the I/O APIC is stands in an MP table (Intel, MultiProcessor Specification 1.4), as there is no ACPI.
// A processor begins in real mode below the end of 4 GiB; the 64 KiB of ROM there do nothing but switch the mode and jump.
//
// QEMU could do all this itself (-kernel, -initrd), and then keeps both files mapped as long as the machine runs, copies them a second
// time and runs a firmware of its own first. Here they are in the guest's memory before QEMU looks, and nowhere else.
//
//	0x0000_6000  start info, module list, memory map
//	0x0000_7000  command line
//	0x0009_fc00  MP table (the last KiB of base memory, where the specification has it looked for)
//	0x0010_0000  from here on: the kernel, where its program headers want it
//	      …      initramfs, at the end of the memory below 3 GiB
//	0xffff_0000  ROM
package pvh
