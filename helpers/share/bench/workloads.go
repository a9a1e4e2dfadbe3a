//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hugelgupf/p9/p9"
)

const (
	// diodMSize is the most that diod 1.0.24 agrees to, guestMSize what the agent mounts with.
	diodMSize  = 64 << 10
	guestMSize = 512<<10 + 24

	fileBytes = 256 << 20
	blockSize = 512 << 10
	manyFiles = 5000
	smallOps  = 2000
	randomOps = 20000
)

// workload is one thing to measure; prepare's work is not timed.
type workload struct {
	name   string
	writes bool
	run    func(*mount) error
}

var workloads = []workload{
	{"sequential write 256 MiB", true, sequentialWrite},
	{"sequential read 256 MiB", false, sequentialRead},
	{"random 4 KiB reads", false, func(m *mount) error { return randomReads(m, 1) }},
	{"random 4 KiB reads, 8 at once", false, func(m *mount) error { return randomReads(m, 8) }},
	{"2000 create+write+unlink", true, createWriteUnlink},
	{"walk+getattr of 5000", false, walkStat},
	{"readdir of 5000, 10 times", false, listMany},
	{"getattr 20000", false, getattrs},
	{firstTouch, true, overwriteTouched},
}

// firstTouch overwrites files that somebody else wrote last: what a mode keeps of them is kept now.
const firstTouch = "first touch: overwrite 500 files of 16 KiB"

const touchedFiles, touchedBytes = 500, 16 << 10

// fill makes what the reading workloads read.
func fill(folder string) error {
	if err := os.Mkdir(filepath.Join(folder, "many"), 0o755); err != nil {
		return err
	}
	for i := range manyFiles {
		if err := os.WriteFile(filepath.Join(folder, "many", fmt.Sprintf("file-%05d", i)), []byte("x"), 0o644); err != nil {
			return err
		}
	}
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 31)
	}
	f, err := os.Create(filepath.Join(folder, "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	for range fileBytes >> 20 {
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return f.Sync()
}

// prepare leaves the folder as each round of a workload wants to find it.
func (m *mount) prepare(w workload, folder string) error {
	if !w.writes {
		return nil
	}
	if w.name == firstTouch {
		return m.freshlyTouched(folder)
	}
	err := os.Remove(filepath.Join(folder, "written"))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (m *mount) open(name string, flags p9.OpenFlags) (p9.File, error) {
	_, f, err := m.root.Walk([]string{name})
	if err != nil {
		return nil, err
	}
	if _, _, err := f.Open(flags); err != nil {
		return nil, err
	}
	return f, nil
}

func (m *mount) create(name string) (p9.File, error) {
	_, dir, err := m.root.Walk(nil)
	if err != nil {
		return nil, err
	}
	f, _, _, err := dir.Create(name, p9.ReadWrite, 0o644, 0, 0)
	return f, err
}

func sequentialWrite(m *mount) error {
	f, err := m.create("written")
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, blockSize)
	for at := int64(0); at < fileBytes; {
		n, err := f.WriteAt(block, at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func sequentialRead(m *mount) error {
	f, err := m.open("big", p9.ReadOnly)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, blockSize)
	for at := int64(0); at < fileBytes; {
		n, err := f.ReadAt(block, at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func randomReads(m *mount, streams int) error {
	var group sync.WaitGroup
	errs := make(chan error, streams)
	for s := range streams {
		group.Add(1)
		go func() {
			defer group.Done()
			f, err := m.open("big", p9.ReadOnly)
			if err != nil {
				errs <- err
				return
			}
			defer f.Close()
			random := rand.New(rand.NewPCG(1, uint64(s)))
			block := make([]byte, 4096)
			for range randomOps / streams {
				if _, err := f.ReadAt(block, random.Int64N(fileBytes/4096)*4096); err != nil && err != io.EOF {
					errs <- err
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func createWriteUnlink(m *mount) error {
	data := []byte("a small file's content, as a build makes thousands of\n")
	for i := range smallOps {
		name := fmt.Sprintf("small-%d", i)
		f, err := m.create(name)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			return err
		}
		if err := f.(interface{ Remove() error }).Remove(); err != nil { // clunks as well; diod 1.0.24 has no Tunlinkat
			return err
		}
	}
	return nil
}

func walkStat(m *mount) error {
	for i := range manyFiles {
		_, f, err := m.root.Walk([]string{"many", fmt.Sprintf("file-%05d", i)})
		if err != nil {
			return err
		}
		if _, _, _, err := f.GetAttr(p9.AttrMaskAll); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func listMany(m *mount) error {
	for range 10 {
		f, err := m.open("many", p9.ReadOnly)
		if err != nil {
			return err
		}
		seen := 0
		for cookie := uint64(0); ; {
			entries, err := f.Readdir(cookie, 60<<10) // diod refuses more than fits its frame
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				break
			}
			seen += len(entries)
			cookie = entries[len(entries)-1].Offset
		}
		_ = f.Close()
		if seen < manyFiles {
			return fmt.Errorf("only %d of %d names", seen, manyFiles)
		}
	}
	return nil
}

func getattrs(m *mount) error {
	_, f, err := m.root.Walk([]string{"big"})
	if err != nil {
		return err
	}
	defer f.Close()
	for range 20000 {
		if _, _, _, err := f.GetAttr(p9.AttrMaskAll); err != nil {
			return err
		}
	}
	return nil
}

// freshlyTouched writes the files anew from outside, under names of their own in each round, so that every round is a first one.
func (m *mount) freshlyTouched(folder string) error {
	m.touched = fmt.Sprintf("touched-%d", time.Now().UnixNano())
	if err := os.Mkdir(filepath.Join(folder, m.touched), 0o777); err != nil {
		return err
	}
	for i := range touchedFiles {
		if err := os.WriteFile(filepath.Join(folder, m.touched, fmt.Sprint(i)), make([]byte, touchedBytes), 0o666); err != nil {
			return err
		}
	}
	return nil
}

func overwriteTouched(m *mount) error {
	data := bytes.Repeat([]byte("x"), touchedBytes)
	for i := range touchedFiles {
		_, f, err := m.root.Walk([]string{m.touched, fmt.Sprint(i)})
		if err != nil {
			return err
		}
		if _, _, err := f.Open(p9.ReadWrite); err != nil {
			return err
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}
