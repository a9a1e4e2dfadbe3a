package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// store finds objects below one `objects` directory.
type store struct {
	*work
	format *format
	dir    Dir // nil: there is none, so nothing is found
	packs  []*pack
	cache  cache
}

// cache keeps objects within cacheBytes: what was asked for since the last turn, and what was before that.
type cache struct {
	young, old map[cacheKey]object
	bytes      int // of the young ones
}

func (c *cache) get(key cacheKey) (object, bool) {
	if o, ok := c.young[key]; ok {
		return o, true
	}
	o, ok := c.old[key]
	if ok {
		c.put(key, o)
	}
	return o, ok
}

func (c *cache) put(key cacheKey, o object) {
	const entryBytes = 200
	if len(o.data) > cacheBytes/8 {
		return
	}
	if c.young == nil || c.bytes > cacheBytes/2 {
		c.young, c.old, c.bytes = map[cacheKey]object{}, c.young, 0
	}
	c.young[key] = o
	c.bytes += len(o.data) + entryBytes
}

type object struct {
	kind objectType
	data []byte
}

// cacheKey names an entry of a pack, or by id an object.
type cacheKey struct {
	pack   *pack
	offset int64
	id     ID
}

var errNotFound = errors.New("object not found")

// openStore takes over dir, which may be nil.
func openStore(w *work, f *format, dir Dir) (*store, error) {
	s := &store{work: w, format: f, dir: dir}
	if dir == nil {
		return s, nil
	}
	folder, err := dir.Dir("pack")
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	names, err := folder.Names(maxNames)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		base, ok := strings.CutSuffix(name, ".idx")
		if !ok || !strings.HasPrefix(base, "pack-") {
			continue
		}
		if len(s.packs) == maxPacks {
			return nil, tooMuch("more than %d packs", maxPacks)
		}
		p, err := openPack(w, f, folder, base)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrMalformed) {
			continue // one that is being written, or nonsense: what only it has is then not found
		}
		if err != nil {
			return nil, err
		}
		s.packs = append(s.packs, p)
	}
	return s, nil
}

func (s *store) close() {
	for _, p := range s.packs {
		p.close()
	}
	if s.dir != nil {
		s.dir.Close()
	}
}

// place is where an object lies: in a pack, or as a file of its own.
type place struct {
	pack   *pack
	offset int64
}

// find looks an object up. What an index says is believed as far as reading it, no further.
func (s *store) find(id ID) (place, error) {
	if err := s.spend(0); err != nil {
		return place{}, err
	}
	for _, p := range s.packs {
		offset, err := p.find(id)
		if err != nil {
			return place{}, err
		}
		if offset > 0 {
			return place{p, offset}, nil
		}
	}
	f, err := s.loose(id)
	if err != nil {
		return place{}, err
	}
	f.Close()
	return place{}, nil
}

func (s *store) has(id ID) (bool, error) {
	_, err := s.find(id)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *store) loose(id ID) (File, error) {
	if s.dir == nil {
		return nil, errNotFound
	}
	name := id.String()
	folder, err := s.dir.Dir(name[:2])
	if err == nil {
		defer folder.Close()
		var f File
		if f, err = folder.File(name[2:]); err == nil {
			return f, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errNotFound
	}
	return nil, err
}

// read gives a whole object whose bytes have the hash id.
func (s *store) read(id ID) (object, error) {
	key := cacheKey{id: id}
	if o, ok := s.cache.get(key); ok {
		return o, s.spend(0)
	}
	kind, size, r, err := s.open(id)
	if err != nil {
		return object{}, err
	}
	if size > maxObject {
		return object{}, tooMuch("object %s has more than %d bytes", id.short(), maxObject)
	}
	data, err := readSized(r, size)
	if err != nil {
		return object{}, malformed("object %s: %v", id.short(), err)
	}
	h := s.format.hasher(kind, size)
	h.Write(data)
	if ID(h.Sum(nil)) != id {
		return object{}, malformed("object %s has other content than its name says", id.short())
	}
	o := object{kind, data}
	if kind != blobType {
		s.cache.put(key, o)
	}
	return o, nil
}

// open gives an object as a stream, whose bytes the caller has to hash. Nothing is larger than maxBlob, and what is
// larger than maxObject is no delta. The reader ends at the size or with an error.
func (s *store) open(id ID) (objectType, int64, io.Reader, error) {
	at, err := s.find(id)
	if err != nil {
		return 0, 0, nil, err
	}
	if at.pack != nil {
		return s.openPacked(at.pack, at.offset)
	}
	f, err := s.loose(id)
	if err != nil {
		return 0, 0, nil, err
	}
	// Files are left to be closed by the reader's end; see closing.
	z, err := zlib.NewReader(bufio.NewReaderSize(io.NewSectionReader(f, 0, f.Size()), 16<<10))
	if err != nil {
		f.Close()
		return 0, 0, nil, malformed("object %s: %v", id.short(), err)
	}
	r := bufio.NewReaderSize(z, 4<<10)
	kind, size, err := readLooseHeader(r)
	if err == nil {
		err = s.spend(size)
	}
	if err != nil {
		f.Close()
		return 0, 0, nil, err
	}
	return kind, size, &closing{exactly(r, size), f}, nil
}

// readLooseHeader reads "blob 12\0".
func readLooseHeader(r *bufio.Reader) (objectType, int64, error) {
	var head []byte
	for len(head) < 32 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, 0, malformed("an object's header is cut short")
		}
		if c == 0 {
			break
		}
		head = append(head, c)
	}
	name, digits, _ := strings.Cut(string(head), " ")
	kind, ok := typeNamed(name)
	size, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || strconv.FormatUint(size, 10) != digits {
		return 0, 0, malformed("an object's header is not one")
	}
	if size > maxBlob {
		return 0, 0, tooMuch("an object has more than %d bytes", int64(maxBlob))
	}
	return kind, int64(size), nil
}

// closing closes a file when its reader has come to an end of either kind.
type closing struct {
	io.Reader
	file File
}

func (c *closing) Read(b []byte) (int, error) {
	if c.file == nil {
		return 0, io.EOF
	}
	n, err := c.Reader.Read(b)
	if err != nil {
		c.abandon()
	}
	return n, err
}

func (c *closing) abandon() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// exact gives size bytes and then EOF; a stream that ends before or goes on is an error.
type exact struct {
	r    io.Reader
	left int64
}

func exactly(r io.Reader, size int64) io.Reader { return &exact{r, size} }

func (e *exact) Read(b []byte) (int, error) {
	if e.left == 0 {
		var one [1]byte
		n, err := io.ReadFull(e.r, one[:])
		switch {
		case n > 0:
			return 0, malformed("more bytes than the object's size")
		case err == io.EOF:
			return 0, io.EOF // the checksum of the stream has been compared
		}
		return 0, err
	}
	n, err := e.r.Read(b[:min(int64(len(b)), e.left)])
	e.left -= int64(n)
	if err == io.EOF {
		if e.left > 0 {
			return n, io.ErrUnexpectedEOF
		}
		err = nil
		if n == 0 {
			return 0, io.EOF
		}
	}
	return n, err
}

// readSized reads all of r, which is to have size bytes. Memory grows with what came, not with what was promised.
func readSized(r io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(min(size+bytes.MinRead, 1<<20)))
	n, err := b.ReadFrom(r)
	if err != nil {
		if c, ok := r.(*closing); ok {
			c.abandon()
		}
		return nil, err
	}
	if n != size {
		return nil, io.ErrUnexpectedEOF
	}
	return b.Bytes(), nil
}
