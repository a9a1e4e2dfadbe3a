package machine

import (
	"os"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/helper/internal/plan"
	"cloche/helper/internal/pvh"
)

// bootMemory is a machine's memory and firmware, for QEMU, and the kernel that is being laid out in it meanwhile.
type bootMemory struct {
	file, rom *os.File
	laid      chan struct{} // closed when err is set
	err       error
}

// newMemory opens the boot files and begins to lay them out; QEMU may be started at once but must not be told to go before wait has
// said that all is there. The two files are the caller's to close.
func newMemory(config plan.Config, cmdline string) (*bootMemory, error) {
	var files []*os.File
	keep := false
	defer func() {
		for _, f := range files {
			if !keep {
				f.Close()
			}
		}
	}()
	for _, path := range []string{config.Kernel, config.Initramfs} {
		file, err := openRegular(path, os.O_RDONLY)
		if err != nil {
			return nil, failed(err, "the boot file %s cannot be read", path)
		}
		files = append(files, file)
	}
	kernel, initramfs := files[0], files[1]
	entry, err := pvh.Entry(kernel)
	if err != nil {
		return nil, failed(err, "%s cannot be booted", config.Kernel)
	}
	memory, err := pvh.NewMemory(config.MemoryMib << 20)
	if err != nil {
		return nil, failed(err, "no memory of %d MiB can be made for the machine", config.MemoryMib)
	}
	files = append(files, memory)
	rom, err := pvh.NewROM(entry)
	if err != nil {
		return nil, failed(err, "no firmware can be made for the machine")
	}
	files = append(files, rom)
	ours, err := unix.FcntlInt(memory.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, failed(err, "the machine's memory cannot be opened twice")
	}
	keep = true
	m := &bootMemory{file: memory, rom: rom, laid: make(chan struct{})}
	go func() {
		defer close(m.laid)
		target := os.NewFile(uintptr(ours), memory.Name())
		defer target.Close()
		defer kernel.Close()
		defer initramfs.Close()
		m.err = pvh.Lay(target, pvh.Boot{Kernel: kernel, Initramfs: initramfs, Cmdline: cmdline, CPUs: int(config.CPUs)})
	}()
	return m, nil
}

func (m *bootMemory) wait() error {
	<-m.laid
	if m.err != nil {
		return Native(contract.Errorf("helper.start-failed", "the kernel cannot be laid out in the machine's memory: %v", m.err), m.err)
	}
	return nil
}
