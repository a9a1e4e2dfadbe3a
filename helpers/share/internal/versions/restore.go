//go:build linux

package versions

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// Folder is where versions go back to.
type Folder interface {
	// Restore puts a file or link in its place, wholly or not at all; what stands there is kept first. Directories on
	// the way are made. For a directory it makes it. content is nil for links and directories.
	Restore(v Version, content *os.File) error
	Current
	// Finish gives a directory back its mode and times, after what is in it.
	Finish(v Version) error
	// Sync makes all that was restored durable.
	Sync() error
}

// Refused is a version that could not be restored.
type Refused struct {
	Version Version
	Err     error
}

// Slice is what one step of a batch did.
type Slice struct {
	Batch     string
	Restored  int
	Number    int64 // of the last version that was restored
	Refused   []Refused
	Remaining int
}

// sliceSize bounds the work of one step.
const sliceSize = 500

// maxBatches is how many are held; the oldest is forgotten, which loses nothing but its place.
const maxBatches = 4

// ErrUnknown: there is no such version or batch.
var ErrUnknown = errors.New("versions: unknown version or batch")

// Restorer brings versions back, in steps.
type Restorer struct {
	Store  *Store
	Folder Folder

	mu      sync.Mutex // one step at a time
	batches []*batch
}

type batch struct {
	id          string
	left        []Version
	directories []Version // to be finished, outermost first
}

// Begin restores one version, or with number 0 the newest of path and, with below, of everything beneath it. The
// error may be damage in a log: what could be read is restored all the same.
func (r *Restorer) Begin(path string, number int64, below bool) (Slice, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chosen, damage := r.Store.choose(path, number, below)
	if len(chosen) == 0 {
		if damage != nil {
			return Slice{}, damage
		}
		return Slice{}, ErrUnknown
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	b := &batch{id: hex.EncodeToString(id[:]), left: chosen}
	if len(r.batches) == maxBatches {
		r.batches = r.batches[1:]
	}
	r.batches = append(r.batches, b)
	s, err := r.step(b)
	if err == nil {
		err = damage
	}
	return s, err
}

// Next goes on with a batch.
func (r *Restorer) Next(id string) (Slice, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.batches {
		if b.id == id {
			return r.step(b)
		}
	}
	return Slice{}, ErrUnknown
}

func (r *Restorer) step(b *batch) (Slice, error) {
	s := Slice{Batch: b.id}
	now := b.left[:min(sliceSize, len(b.left))]
	b.left = b.left[len(now):]
	for _, v := range now {
		if err := r.one(v); err != nil {
			s.Refused = append(s.Refused, Refused{v, err})
			continue
		}
		if v.Kind == Directory {
			b.directories = append(b.directories, v)
		} else {
			s.Restored++
			s.Number = v.Number
		}
	}
	if len(b.left) == 0 {
		for i := len(b.directories) - 1; i >= 0; i-- {
			if err := r.Folder.Finish(b.directories[i]); err != nil {
				s.Refused = append(s.Refused, Refused{b.directories[i], err})
			}
		}
		b.directories = nil
	}
	s.Remaining = len(b.left)
	return s, r.Folder.Sync()
}

func (r *Restorer) one(v Version) error {
	if v.Kind != File {
		return r.Folder.Restore(v, nil)
	}
	content, err := r.Store.Assemble(v, r.Folder)
	if err != nil {
		return err
	}
	defer content.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(content.Fd()), &st); err != nil {
		return err
	}
	if st.Size != v.Size {
		return unix.EIO // somebody wrote to it; what is restored is what was kept or nothing
	}
	return r.Folder.Restore(v, content)
}

// choose gives the versions to restore, directories before what is in them.
func (s *Store) choose(path string, number int64, below bool) ([]Version, error) {
	found, damage := s.History(path, below)
	newest := map[string]bool{}
	var chosen []Version
	for _, v := range found { // newest first
		switch {
		case number != 0 && (v.Number != number || v.Path != path):
			continue
		case number == 0 && v.Reason == Restored: // what a restore replaced comes back by its number only
			continue
		case newest[v.Path]:
			continue
		}
		newest[v.Path] = true
		chosen = append(chosen, v)
	}
	sort.Slice(chosen, func(i, j int) bool { return chosen[i].Path < chosen[j].Path })
	return chosen, damage
}
