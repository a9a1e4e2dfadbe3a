//go:build linux

package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cloche/share/internal/confine"
)

const (
	hello = 'h'
	move  = 'm'

	headerBytes = 1 + 3*8
	maxPath     = 4096
	maxMessage  = headerBytes + maxPath + 256
	maxAnswer   = 16 << 10
)

// Socketpair makes the two ends.
func Socketpair() (broker, serving *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "broker"), os.NewFile(uintptr(pair[1]), "serving"), nil
}

// Broker is the front's side.
type Broker struct {
	// Root is the folder and Store its store, both of the host's own mounts; O_PATH will do.
	Root, Store int
	Writer      string
	// Seal confines the process. It is called once, before anything of a request is looked at.
	Seal func() []confine.Measure
}

// Serve answers until the other end is closed. A message that is not well-formed ends it.
func (b *Broker) Serve(socket *os.File) error {
	message := make([]byte, maxMessage+1)
	var measures []confine.Measure
	sealed := false
	for {
		n, err := socket.Read(message)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if !sealed {
			measures, sealed = b.Seal(), true
		}
		answer, err := b.answer(message[:n], measures)
		if err != nil {
			return err
		}
		if _, err := socket.Write(answer); err != nil {
			return err
		}
	}
}

var errMalformed = errors.New("broker: a message is not well-formed")

func (b *Broker) answer(message []byte, measures []confine.Measure) ([]byte, error) {
	if len(message) == 1 && message[0] == hello {
		return json.Marshal(measures)
	}
	if len(message) <= headerBytes || len(message) > maxMessage || message[0] != move {
		return nil, errMalformed
	}
	numbers := [3]uint64{}
	for i := range numbers {
		numbers[i] = binary.LittleEndian.Uint64(message[1+8*i:])
	}
	names, err := components(string(message[headerBytes:]))
	if err != nil {
		return nil, err
	}
	if len(names) < 2 {
		return nil, errMalformed
	}
	last := len(names) - 1
	err = b.move(names[:last], names[last], numbers[0], numbers[1], numbers[2])
	number := unix.Errno(0)
	if err != nil && !errors.As(err, &number) {
		number = unix.EIO
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(number)), nil
}

// components takes a path apart. No component leads anywhere but down.
func components(path string) ([]string, error) {
	names := strings.Split(path, "/")
	for _, name := range names {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
			return nil, errMalformed
		}
	}
	return names, nil
}

// how one component is opened: no link, no other filesystem, nothing above.
func how(flags uint64) *unix.OpenHow {
	return &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
}

func open(dir int, name string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, how(flags))
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// descend opens a directory by components.
func descend(from int, names []string) (int, error) {
	at, err := open(from, ".", unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	for _, name := range names {
		next, err := open(at, name, unix.O_DIRECTORY)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

func (b *Broker) move(names []string, as string, device, inode, directory uint64) error {
	if directory == 0 || directory > 1<<62 {
		return unix.EINVAL
	}
	parent, err := descend(b.Root, names[:len(names)-1])
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := names[len(names)-1]
	if err := isVictim(parent, name, device, inode); err != nil {
		return err
	}
	target, err := descend(b.Store, []string{"versions", b.Writer, "d" + strconv.FormatUint(directory, 10)})
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := unix.Renameat2(parent, name, target, as, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	// The name may have been given to something else between the look and the rename; that goes back.
	if err := isVictim(target, as, device, inode); err != nil {
		if back := unix.Renameat2(target, as, parent, name, unix.RENAME_NOREPLACE); back != nil {
			return unix.EIO // it stays in the store, where it is kept
		}
		return err
	}
	return nil
}

// isVictim looks whether name is the object that is meant, of a kind that may be moved.
func isVictim(dir int, name string, device, inode uint64) error {
	fd, err := open(dir, name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != device || st.Ino != inode {
		return unix.ESTALE
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink > 1 {
			return unix.EMLINK // whoever has the other name would go on writing to what is kept
		}
	case unix.S_IFLNK:
	default:
		return unix.EPERM
	}
	return nil
}

// Client is the serving process's side; it implements versions.Broker.
type Client struct {
	socket *os.File
	mu     sync.Mutex // one request at a time
	answer [maxAnswer]byte
}

// NewClient takes over the socket.
func NewClient(socket *os.File) *Client { return &Client{socket: socket} }

// Measures makes the broker confine itself and tells how far that went.
func (c *Client) Measures() ([]confine.Measure, error) {
	raw, err := c.ask([]byte{hello})
	if err != nil {
		return nil, err
	}
	var measures []confine.Measure
	return measures, json.Unmarshal(raw, &measures)
}

// Move asks for one move.
func (c *Client) Move(path []string, device, inode uint64, directory int64, as string) error {
	joined := strings.Join(path, "/")
	if len(joined) > maxPath {
		return unix.ENAMETOOLONG
	}
	m := append(make([]byte, 0, headerBytes+len(joined)+1+len(as)), move)
	for _, n := range []uint64{device, inode, uint64(directory)} {
		m = binary.LittleEndian.AppendUint64(m, n)
	}
	raw, err := c.ask(append(append(append(m, joined...), '/'), as...))
	if err != nil {
		return err
	}
	if len(raw) != 4 {
		return unix.EIO
	}
	if number := binary.LittleEndian.Uint32(raw); number != 0 {
		return unix.Errno(number)
	}
	return nil
}

func (c *Client) ask(message []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.socket.Write(message); err != nil {
		return nil, err
	}
	n, err := c.socket.Read(c.answer[:])
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), c.answer[:n]...), nil
}
