package wire

// Type numbers a message. Replies are their request's number plus one.
type Type uint8

// The two replies that a session builds in place, see SealData.
const (
	TypeRreaddir Type = 41
	TypeRread    Type = 117
)

// QID names a file to the client: the same path number is the same file, for as long as the file exists.
type QID struct {
	Type    uint8
	Version uint32
	Path    uint64
}

// Bits of QID.Type.
const (
	QTDir     = 0x80
	QTSymlink = 0x02
	QTFile    = 0x00
)

// Time is seconds and nanoseconds as 9P carries them.
type Time struct{ Sec, Nsec uint64 }

// Attr is what getattr tells.
type Attr struct {
	QID       QID
	Mode      uint32
	UID, GID  uint32
	Nlink     uint64
	Rdev      uint64
	Size      uint64
	BlockSize uint64
	Blocks    uint64
	Atime     Time
	Mtime     Time
	Ctime     Time
}

// AttrBasic is the mask of the fields of Attr that are always valid (P9_STATS_BASIC).
const AttrBasic = 0x000007ff

// Bits of Tsetattr.Valid.
const (
	SetMode     = 0x001
	SetUID      = 0x002
	SetGID      = 0x004
	SetSize     = 0x008
	SetAtime    = 0x010
	SetMtime    = 0x020
	SetCtime    = 0x040
	SetAtimeTo  = 0x080 // to Atime; without it: to now
	SetMtimeTo  = 0x100
	SetAllKnown = 0x1ff
)

// SetAttr is a change of attributes; only what Valid names counts.
type SetAttr struct {
	Valid        uint32
	Mode         uint32
	UID, GID     uint32
	Size         uint64
	Atime, Mtime Time
}

// StatFS describes the filesystem.
type StatFS struct {
	Type       uint32
	BlockSize  uint32
	Blocks     uint64
	BlocksFree uint64
	BlocksAvl  uint64
	Files      uint64
	FilesFree  uint64
	FSID       uint64
	NameMax    uint32
}

// Lock types, flags and states of Tlock and Tgetlock.
const (
	LockRead   = 0
	LockWrite  = 1
	LockUnlock = 2

	LockSuccess = 0
	LockBlocked = 1
	LockError   = 2

	LockWaits = 1 // flag of Tlock: answer when it is granted
)

// Lock is a byte range; Length 0 reaches to the end of the file.
type Lock struct {
	Type     uint8
	Start    uint64
	Length   uint64
	ProcID   uint32
	ClientID string
}
