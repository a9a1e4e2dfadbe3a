//go:build linux

package control

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"cloche/share/internal/confine"
)

// handoff is what the front tells the serving process, through a memory file.
type handoff struct {
	Line     []byte // the request, to be answered
	Parent   int    // the front's process
	Plan     confine.Plan
	Identity identity
	UID, GID uint32
	Serving  serve             // the request, as it was checked
	Measures []confine.Measure // filled by the child
	Places   [][][]byte        // of the folder on the host, see folder.places; bytes, as names need not be UTF-8
}

func asBytes(places [][]string) [][][]byte {
	all := make([][][]byte, len(places))
	for i, place := range places {
		for _, name := range place {
			all[i] = append(all[i], []byte(name))
		}
	}
	return all
}

func (h *handoff) places() [][]string {
	all := make([][]string, len(h.Places))
	for i, place := range h.Places {
		for _, name := range place {
			all[i] = append(all[i], string(name))
		}
	}
	return all
}

func (h *handoff) write(f *os.File) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return err
}

func readHandoff(f *os.File) (*handoff, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	if err != nil {
		return nil, err
	}
	h := &handoff{}
	return h, json.Unmarshal(data, h)
}

// Stages of the program, as its first argument. They are no interface: without the descriptors they fail.
const (
	stageConfine = "stage-confine"
	stageServe   = "stage-serve"
)

// statusNotServing is how a child ends that has not answered, so that the front answers instead.
const statusNotServing = 70

// Run is the program: the front, or a stage of it.
func Run(args []string) int {
	var err error
	switch {
	case len(args) == 1:
		err = front()
	case len(args) == 2 && args[1] == stageConfine:
		err = confineStage()
	case len(args) == 2 && args[1] == stageServe:
		err = serveStage()
	default:
		fmt.Fprintln(os.Stderr, "cloche-share takes no arguments; it speaks on stdin and stdout (helpers/contract)")
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloche-share:", err)
		if len(args) == 2 {
			return statusNotServing
		}
		return 1
	}
	return 0
}

// confineStage is the child before its exec.
func confineStage() error {
	memory := os.NewFile(confine.HandoffFD, "handoff")
	h, err := readHandoff(memory)
	if err != nil {
		return err
	}
	if err := confine.DieWithParent(h.Parent); err != nil {
		return err
	}
	if h.Measures, err = confine.Enter(h.Plan); err != nil {
		return err
	}
	if err := h.write(memory); err != nil {
		return err
	}
	return h.Plan.Exec([]string{"cloche-share", stageServe})
}

// fidLimit is how many fids fit the descriptors: each may hold its own, an open file, and a directory on the way.
func fidLimit(most int) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return most / 16
	}
	return max(16, min(most, (int(min(files.Cur, 1<<30))-64)/3))
}
