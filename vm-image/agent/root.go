package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"cloche/contract"
	"golang.org/x/sys/unix"
)

// The root: read-only layers, each EROFS on dm-verity, under one writable layer on the task's disk.
//
//	/cloche/layer0 … layerN   in the initramfs, out of reach after the switch
//	/cloche/hot               files of layer0 that every start reads first, in the initramfs itself: the same bytes, already in memory
//	/cloche/data              ext4: upper/ and work/
//	/newroot                  the overlay, which becomes /

const (
	stage   = "/cloche"
	newRoot = "/newroot"

	// hotLayer is in the initramfs, when the image has one.
	hotLayer = stage + "/hot"
)

// rootState is a root that is there, or the reason why not, for those who wait.
type rootState struct {
	done chan struct{}
	err  *contract.Error
	ms   int64 // guest clock when it was there

	dataFd int // the data disk's root directory, to sync and to remount it; -1 without one
	hotFd  int // the hot layer's, which has no path after the switch; -1 without one
}

// evidenceBytes of the kernel's log go with an error of the root: the last dozen lines.
const evidenceBytes = 1536

func newRootState() *rootState { return &rootState{done: make(chan struct{}), dataFd: -1, hotFd: -1} }

// wait gives the reason why there is no root.
func (r *rootState) wait() error {
	<-r.done
	if r.err != nil {
		return r.err
	}
	return nil
}

func (a *agent) makeRoot() {
	r := a.root
	if len(a.boot.layers) == 0 {
		r.err = contract.Errorf("agent.root", "no cloche.layer is on the kernel command line, so there is no root")
	} else {
		r.err = a.assembleRoot()
	}
	r.ms = uptimeMs()
	if r.err != nil {
		logf("no root: %s", r.err.Error())
	} else {
		timing("root at %d ms", r.ms)
	}
	close(r.done)
}

func (a *agent) assembleRoot() *contract.Error {
	lower, err := mountLayers(a.boot.layers)
	if err != nil {
		return err
	}
	if fd, err := unix.Open(hotLayer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		a.root.hotFd = fd
	}
	if err := a.mountData(); err != nil {
		return err
	}
	if err := mountOverlay(lower); err != nil {
		return rootError("the overlay of the layers and the disk", err)
	}
	if err := switchRoot(); err != nil {
		return rootError("the switch to the new root", err)
	}
	if err := mountLate(); err != nil {
		return rootError("the kernel's filesystems in the new root", err)
	}
	setSysctls()
	return nil
}

func rootError(what string, err error) *contract.Error {
	e := contract.Errorf("agent.root", "%s cannot be mounted: %v", what, err)
	e.Evidence = kernelLog(evidenceBytes)
	var errno unix.Errno
	if errors.As(err, &errno) {
		e.Native = &contract.Native{Domain: "errno", Code: unix.ErrnoName(errno)}
	}
	return e
}

// mountLayers gives the mounted layers, bottom first.
func mountLayers(layers []layer) ([]string, *contract.Error) {
	mapper, err := openDeviceMapper()
	if err != nil {
		return nil, rootError("a layer", err)
	}
	defer mapper.close()
	var mounted []string
	for i, l := range layers {
		name := "cloche-layer" + itoa(i)
		at := stage + "/layer" + itoa(i)
		if err := mountLayer(mapper, name, at, l); err != nil {
			if mapper.corrupted(name) {
				e := contract.Errorf("agent.verity", "the root layer %s does not match its hash", l.serial)
				e.Evidence = kernelLog(evidenceBytes)
				return nil, e
			}
			return nil, rootError("the root layer "+l.serial, err)
		}
		mounted = append(mounted, at)
	}
	// Right above the base, whose files they are, and below all other layers.
	if _, err := os.Lstat(hotLayer); err == nil {
		mounted = slices.Insert(mounted, 1, hotLayer)
	}
	return mounted, nil
}

func mountLayer(mapper *deviceMapper, name, at string, l layer) error {
	source, err := findDisk(l.serial)
	if err != nil {
		return err
	}
	node, err := mapper.openLayer(name, source, l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return unix.Mount(node, at, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOATIME, "")
}

// mountData mounts the task's disk. `discard`: what the guest deletes, the host's sparse file gives back. `noinit_itable`: the host's
// template has its inode tables, nothing is left to clear in the background.
func (a *agent) mountData() *contract.Error {
	at := stage + "/data"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return rootError("the task's disk", err)
	}
	if a.boot.data == "" {
		logf("no cloche.data on the kernel command line: what is written is lost at the end")
		if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
			return rootError("memory in place of the task's disk", err)
		}
	} else {
		source, err := findDisk(a.boot.data)
		if err != nil {
			return rootError("the task's disk", err)
		}
		if err := unix.Mount(source.node, at, "ext4", unix.MS_NOATIME|unix.MS_NODEV, "discard,noinit_itable,errors=remount-ro"); err != nil {
			return rootError("the task's disk", err)
		}
		if err := growDataDisk(source.node, at); err != nil {
			logf("the disk keeps the size it had: %v", err)
		}
	}
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return rootError("the task's disk", err)
	}
	a.root.dataFd = fd
	return nil
}

// mountOverlay puts the writable layer over the others. `redirect_dir`: folders of the image can be renamed as on any disk; a task keeps
// its image, so the redirections stay true. `xino=auto`: inode numbers that do not change while a file is open.
func mountOverlay(lower []string) error {
	data := stage + "/data"
	for _, name := range []string{"upper", "work"} {
		if err := os.MkdirAll(data+"/"+name, 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	return unix.Mount("root", newRoot, "overlay", unix.MS_NOATIME, overlayOptions(lower, data))
}

func overlayOptions(lower []string, data string) string {
	topFirst := slices.Clone(lower)
	slices.Reverse(topFirst)
	return fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,redirect_dir=on,xino=auto", strings.Join(topFirst, ":"), data, data)
}

// switchRoot moves the mounts and makes the overlay the root of the mount namespace: a mere chroot would keep
// workloads from making user namespaces. The agent's file is unlinked; its memory stays, as it runs from it.
func switchRoot() error {
	for _, m := range earlyMounts {
		if err := unix.Mount(m.at, newRoot+m.at, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.at, err)
		}
	}
	_ = unix.Unlink("/init")
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(newRoot, "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// kernelLog gives the newest bytes of the kernel's log, as evidence.
func kernelLog(max int) string {
	b := make([]byte, max)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(b[:n]), "?")
}
