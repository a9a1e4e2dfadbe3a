//go:build linux

package versions

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// format is the version of the logs' format.
const format = 1

// maxRecord bounds a line: a path of maxPath bytes in base64, a link's text of as many, and the rest.
const (
	maxPath   = 4096
	maxRecord = 32 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one line of a log: exactly one of its pointers is set.
type record struct {
	Format    *header    `json:"format,omitempty"`
	Directory *directory `json:"directory,omitempty"`
	Kept      *kept      `json:"kept,omitempty"`
	Saved     *saved     `json:"saved,omitempty"`
	Dropped   int64      `json:"dropped,omitempty"` // its content was removed, as the preserving failed
}

type header struct {
	Version int    `json:"version"`
	Writer  string `json:"writer"`
}

// directory is where moved files of one directory of the folder lie.
type directory struct {
	Number int64  `json:"number"`
	Path   []byte `json:"path"` // bytes, not text
}

// kept is one version.
type kept struct {
	Number  int64  `json:"number"`
	Path    []byte `json:"path"`
	TimeMs  int64  `json:"timeMs"`
	Reason  Reason `json:"reason"`
	Kind    Kind   `json:"kind"`
	Size    int64  `json:"size"`
	Mode    uint32 `json:"mode"`
	MtimeNs int64  `json:"mtimeNs"`
	Inode   uint64 `json:"inode"`
	In      int64  `json:"in,omitempty"`   // number of the directory that it was moved to
	Link    []byte `json:"link,omitempty"` // a link's text
	Part    *part  `json:"part,omitempty"`
}

func encode(r *record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(make([]byte, 0, len(payload)+10), "%08x ", crc32.Checksum(payload, castagnoli))
	line = append(append(line, payload...), '\n')
	if len(line) > maxRecord {
		return nil, unix.ENAMETOOLONG
	}
	return line, nil
}

func decode(line []byte) (*record, error) {
	if len(line) < 10 || line[8] != ' ' {
		return nil, errors.New("not a record")
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	payload := line[9:]
	if err != nil || uint32(sum) != crc32.Checksum(payload, castagnoli) {
		return nil, errors.New("the checksum does not match")
	}
	r := &record{}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Damage is a place in a log that cannot be read although more follows it.
type Damage struct {
	Log    string
	Offset int64
	Cause  error
}

func (d *Damage) Error() string {
	return fmt.Sprintf("versions/%s.log is damaged at byte %d: %v", d.Log, d.Offset, d.Cause)
}

// NewerFormat is a log of a later Cloche.
type NewerFormat struct {
	Log     string
	Version int
}

func (n *NewerFormat) Error() string {
	return fmt.Sprintf("versions/%s.log has format %d, this program knows %d", n.Log, n.Version, format)
}

// read hands each record of a log to do and gives the offset behind the last whole one. Damage does not end the
// reading: what lies behind it still counts, and the first damage is the error in the end. A torn tail is none.
func read(f *os.File, writer string, do func(*record) error) (end int64, err error) {
	lines := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxRecord)
	var damage error
	var pending error // a bad line that may be the torn tail
	var pendingAt, offset int64
	first := true
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			if len(line) == 0 && pending != nil && damage == nil {
				return pendingAt, nil // the last line was whole but wrong: written without its middle before a power cut
			}
			if len(line) > 0 && pending != nil && damage == nil {
				damage = pending
			}
			return end, damage
		}
		at := offset
		var r *record
		if err == nil {
			offset += int64(len(line))
			r, err = decode(line[:len(line)-1])
		} else if errors.Is(err, bufio.ErrBufferFull) {
			offset += int64(len(line))
			for errors.Is(err, bufio.ErrBufferFull) {
				line, err = lines.ReadSlice('\n')
				offset += int64(len(line))
			}
			if errors.Is(err, io.EOF) && damage == nil && pending == nil {
				return at, nil
			}
			err = errors.New("the line is too long")
		} else {
			return end, err
		}
		if err != nil {
			if pending == nil {
				pending, pendingAt = &Damage{writer, at, err}, at
			}
			continue
		}
		if pending != nil && damage == nil {
			damage = pending
		}
		end = offset
		if first || r.Format != nil {
			if r.Format == nil || r.Format.Writer != writer {
				return end, &Damage{writer, at, errors.New("it does not begin with this writer's header")}
			}
			if r.Format.Version > format {
				return end, &NewerFormat{writer, r.Format.Version}
			}
			first = false
			continue
		}
		if err := do(r); err != nil {
			return end, err
		}
	}
}
