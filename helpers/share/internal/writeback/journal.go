//go:build linux

package writeback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const formatVersion = 1

// Object names an inode.
type Object struct {
	Device uint64 `json:"dev"`
	Inode  uint64 `json:"ino"`
}

// same: a host may give the same volume another device number at each start. Another volume is never reached: names are walked without
// crossing a mount, and what is mounted cannot be renamed.
func (o Object) same(other Object) bool { return o.Inode == other.Inode }

// Identity is what a file was when somebody looked.
type Identity struct {
	Object
	Kind    Kind   `json:"kind"`
	Mode    uint32 `json:"mode"`
	Size    int64  `json:"size"`
	MtimeNs int64  `json:"mtimeNs"`
	// CtimeNs is 0 where it does not count: a rename changes it.
	CtimeNs int64 `json:"ctimeNs,omitempty"`
}

// Attributes are what a file has beside its content.
type Attributes struct {
	Mode    uint32 `json:"mode"`
	MtimeNs int64  `json:"mtimeNs"`
	Xattrs  Xattrs `json:"xattrs,omitempty"`
	// Owner is kept with set-id bits, which are given to a file of the same owner and group alone.
	Owner *Owner `json:"owner,omitempty"`
}

// Owner is whose a file is.
type Owner struct {
	User  uint32 `json:"user"`
	Group uint32 `json:"group"`
}

// Xattrs are attributes by name. Names are bytes, which keys in JSON are not: in the journal they are a list of pairs.
type Xattrs map[string][]byte

func (x Xattrs) MarshalJSON() ([]byte, error) {
	pairs := make([][2][]byte, 0, len(x))
	for name, value := range x {
		pairs = append(pairs, [2][]byte{[]byte(name), value})
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON also reads the object by names that journals had first.
func (x *Xattrs) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, (*map[string][]byte)(x))
	}
	var pairs [][2][]byte
	if err := json.Unmarshal(b, &pairs); err != nil {
		return err
	}
	*x = make(Xattrs, len(pairs))
	for _, pair := range pairs {
		(*x)[string(pair[0])] = pair[1]
	}
	return nil
}

// record is one line of the journal: exactly one of its members.
type record struct {
	Version  int       `json:"version,omitempty"`
	Begin    *begin    `json:"begin,omitempty"`
	Prepared *prepared `json:"prepared,omitempty"`
	Done     *done     `json:"done,omitempty"`
	Settled  int64     `json:"settled,omitempty"`
}

type begin struct {
	Slice  int64         `json:"slice"`
	Apply  string        `json:"apply"`
	TimeMs int64         `json:"timeMs"`
	Undo   bool          `json:"undo,omitempty"`
	Steps  []writtenStep `json:"steps"`
}

// writtenStep is what of a step is needed to take it back. Paths are bytes.
type writtenStep struct {
	Op     Op              `json:"op"`
	Group  int             `json:"group"`
	Path   []byte          `json:"path"`
	To     []byte          `json:"to,omitempty"`
	Temp   string          `json:"temp,omitempty"`
	Expect *Identity       `json:"expect,omitempty"`
	Before *Attributes     `json:"before,omitempty"` // of what an attributes step finds, or a removed directory had
	After  *Attributes     `json:"after,omitempty"`  // what an attributes step sets
	Undoes *place          `json:"undoes,omitempty"`
	Stays  bool            `json:"stays,omitempty"`
	Note   json.RawMessage `json:"note,omitempty"`
}

type place struct {
	Slice int64 `json:"slice"`
	Step  int   `json:"step"`
}

type prepared struct {
	Slice int64             `json:"slice"`
	Made  map[int]*Identity `json:"made"`
}

type done struct {
	Slice   int64            `json:"slice"`
	Applied map[int]*outcome `json:"applied"`
	// Returned is what a step that was taken back had in its hands: a rename leaves another time of change on it.
	Returned map[int]*Identity `json:"returned,omitempty"`
}

// outcome is what a step left in the folder, and in the store.
type outcome struct {
	Made *Identity `json:"made,omitempty"`
	Kept *keptFile `json:"kept,omitempty"`
}

// keptFile is what was taken out of the folder. Number names its content; a link has a target instead.
type keptFile struct {
	Attributes
	Kind   Kind   `json:"kind"`
	Number int64  `json:"number,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Target []byte `json:"target,omitempty"`
}

// Damage is a journal that cannot be read. It is left as it is.
type Damage struct {
	Log    string
	Offset int
	Cause  error
}

func (d *Damage) Error() string {
	return fmt.Sprintf("applies/%s is damaged at byte %d: %v", d.Log, d.Offset, d.Cause)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(r *record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

// parse gives the records of a journal and how many bytes are whole. What an interrupted write left at the end, without
// its newline, is not; anything else that cannot be read is damage.
func parse(name string, data []byte) (records []record, whole int, err error) {
	for whole < len(data) {
		end := bytes.IndexByte(data[whole:], '\n')
		if end < 0 {
			break
		}
		line := data[whole : whole+end]
		var sum uint32
		var r record
		if len(line) < 10 || line[8] != ' ' {
			err = fmt.Errorf("a line is no record")
		} else if _, err = fmt.Sscanf(string(line[:8]), "%08x", &sum); err == nil {
			if sum != crc32.Checksum(line[9:], castagnoli) {
				err = fmt.Errorf("a checksum does not fit")
			} else {
				err = json.Unmarshal(line[9:], &r)
			}
		}
		switch {
		case err != nil && whole+end+1 == len(data):
			return records, whole, nil // blocks of the last write that never reached the disk
		case err != nil:
			return records, whole, &Damage{name, whole, err}
		case whole == 0 && r.Version > formatVersion:
			return nil, 0, &Damage{name, 0, fmt.Errorf("it is of a newer Cloche (format %d); update Cloche, or leave the folder to the newer one", r.Version)}
		case whole == 0 && r.Version != formatVersion:
			return nil, 0, &Damage{name, 0, fmt.Errorf("it does not begin with its format")}
		}
		records = append(records, r)
		whole += end + 1
	}
	return records, whole, nil
}

// readJournal gives a journal's records and cuts its torn end; a journal that is not there has none.
func readJournal(dir int, name string) ([]record, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("applies/%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	records, whole, err := parse(name, data)
	if err == nil && whole < len(data) {
		err = f.Truncate(int64(whole))
	}
	return records, err
}

// appendTo adds records to a journal, durable when it returns.
func appendTo(dir int, name string, records ...record) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("applies/%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var out []byte
	if st.Size() == 0 {
		records = append([]record{{Version: formatVersion}}, records...)
	}
	for i := range records {
		line, err := encode(&records[i])
		if err != nil {
			return err
		}
		out = append(out, line...)
	}
	_, err = f.Write(out)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		if undo := f.Truncate(st.Size()); undo != nil {
			return fmt.Errorf("applies/%s can be neither written nor cut: %w", name, undo)
		}
		return err
	}
	if st.Size() == 0 {
		return unix.Fsync(dir)
	}
	return nil
}
