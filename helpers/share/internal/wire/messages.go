package wire

// The messages, each with its fields in wire order. A table in Go's clothes: long, and with nothing else in it.

type Rlerror struct {
	Errno uint32
}

func (*Rlerror) Type() Type { return 7 }
func (m *Rlerror) fields(c *codec) {
	c.u32(&m.Errno)
}

type Tstatfs struct {
	Fid uint32
}

func (*Tstatfs) Type() Type { return 8 }
func (m *Tstatfs) fields(c *codec) {
	c.u32(&m.Fid)
}

type Rstatfs struct {
	Stat StatFS
}

func (*Rstatfs) Type() Type { return 9 }
func (m *Rstatfs) fields(c *codec) {
	c.statFS(&m.Stat)
}

type Tlopen struct {
	Fid   uint32
	Flags uint32
}

func (*Tlopen) Type() Type { return 12 }
func (m *Tlopen) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.Flags)
}

type Rlopen struct {
	QID    QID
	IOUnit uint32
}

func (*Rlopen) Type() Type { return 13 }
func (m *Rlopen) fields(c *codec) {
	c.qid(&m.QID)
	c.u32(&m.IOUnit)
}

type Tlcreate struct {
	Fid   uint32
	Name  string
	Flags uint32
	Mode  uint32
	GID   uint32
}

func (*Tlcreate) Type() Type { return 14 }
func (m *Tlcreate) fields(c *codec) {
	c.u32(&m.Fid)
	c.text(&m.Name)
	c.u32(&m.Flags)
	c.u32(&m.Mode)
	c.u32(&m.GID)
}

type Rlcreate struct {
	QID    QID
	IOUnit uint32
}

func (*Rlcreate) Type() Type { return 15 }
func (m *Rlcreate) fields(c *codec) {
	c.qid(&m.QID)
	c.u32(&m.IOUnit)
}

type Tsymlink struct {
	Fid    uint32
	Name   string
	Target string
	GID    uint32
}

func (*Tsymlink) Type() Type { return 16 }
func (m *Tsymlink) fields(c *codec) {
	c.u32(&m.Fid)
	c.text(&m.Name)
	c.text(&m.Target)
	c.u32(&m.GID)
}

type Rsymlink struct {
	QID QID
}

func (*Rsymlink) Type() Type { return 17 }
func (m *Rsymlink) fields(c *codec) {
	c.qid(&m.QID)
}

type Tmknod struct {
	Fid   uint32
	Name  string
	Mode  uint32
	Major uint32
	Minor uint32
	GID   uint32
}

func (*Tmknod) Type() Type { return 18 }
func (m *Tmknod) fields(c *codec) {
	c.u32(&m.Fid)
	c.text(&m.Name)
	c.u32(&m.Mode)
	c.u32(&m.Major)
	c.u32(&m.Minor)
	c.u32(&m.GID)
}

type Rmknod struct {
	QID QID
}

func (*Rmknod) Type() Type { return 19 }
func (m *Rmknod) fields(c *codec) {
	c.qid(&m.QID)
}

type Trename struct {
	Fid  uint32
	Dir  uint32
	Name string
}

func (*Trename) Type() Type { return 20 }
func (m *Trename) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.Dir)
	c.text(&m.Name)
}

type Rrename struct{}

func (*Rrename) Type() Type    { return 21 }
func (*Rrename) fields(*codec) {}

type Treadlink struct {
	Fid uint32
}

func (*Treadlink) Type() Type { return 22 }
func (m *Treadlink) fields(c *codec) {
	c.u32(&m.Fid)
}

type Rreadlink struct {
	Target string
}

func (*Rreadlink) Type() Type { return 23 }
func (m *Rreadlink) fields(c *codec) {
	c.text(&m.Target)
}

type Tgetattr struct {
	Fid  uint32
	Mask uint64
}

func (*Tgetattr) Type() Type { return 24 }
func (m *Tgetattr) fields(c *codec) {
	c.u32(&m.Fid)
	c.u64(&m.Mask)
}

type Rgetattr struct {
	Valid uint64
	Attr  Attr
}

func (*Rgetattr) Type() Type { return 25 }
func (m *Rgetattr) fields(c *codec) {
	c.u64(&m.Valid)
	c.attr(&m.Attr)
	// btime, gen and data_version are told to nobody: they are not in AttrBasic.
	var unused [4]uint64
	for i := range unused {
		c.u64(&unused[i])
	}
}

type Tsetattr struct {
	Fid  uint32
	Attr SetAttr
}

func (*Tsetattr) Type() Type { return 26 }
func (m *Tsetattr) fields(c *codec) {
	c.u32(&m.Fid)
	c.setAttr(&m.Attr)
}

type Rsetattr struct{}

func (*Rsetattr) Type() Type    { return 27 }
func (*Rsetattr) fields(*codec) {}

type Txattrwalk struct {
	Fid    uint32
	NewFid uint32
	Name   string
}

func (*Txattrwalk) Type() Type { return 30 }
func (m *Txattrwalk) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.NewFid)
	c.text(&m.Name)
}

type Rxattrwalk struct {
	Size uint64
}

func (*Rxattrwalk) Type() Type { return 31 }
func (m *Rxattrwalk) fields(c *codec) {
	c.u64(&m.Size)
}

type Txattrcreate struct {
	Fid   uint32
	Name  string
	Size  uint64
	Flags uint32
}

func (*Txattrcreate) Type() Type { return 32 }
func (m *Txattrcreate) fields(c *codec) {
	c.u32(&m.Fid)
	c.text(&m.Name)
	c.u64(&m.Size)
	c.u32(&m.Flags)
}

type Rxattrcreate struct{}

func (*Rxattrcreate) Type() Type    { return 33 }
func (*Rxattrcreate) fields(*codec) {}

type Treaddir struct {
	Fid    uint32
	Offset uint64
	Count  uint32
}

func (*Treaddir) Type() Type { return 40 }
func (m *Treaddir) fields(c *codec) {
	c.u32(&m.Fid)
	c.u64(&m.Offset)
	c.u32(&m.Count)
}

type Rreaddir struct {
	Data []byte
}

func (*Rreaddir) Type() Type { return 41 }
func (m *Rreaddir) fields(c *codec) {
	c.data(&m.Data)
}

type Tfsync struct {
	Fid      uint32
	DataOnly uint32
}

func (*Tfsync) Type() Type { return 50 }
func (m *Tfsync) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.DataOnly)
}

type Rfsync struct{}

func (*Rfsync) Type() Type    { return 51 }
func (*Rfsync) fields(*codec) {}

type Tlock struct {
	Fid      uint32
	Kind     uint8
	Flags    uint32
	Start    uint64
	Length   uint64
	ProcID   uint32
	ClientID string
}

func (*Tlock) Type() Type { return 52 }
func (m *Tlock) fields(c *codec) {
	c.u32(&m.Fid)
	c.u8(&m.Kind)
	c.u32(&m.Flags)
	c.u64(&m.Start)
	c.u64(&m.Length)
	c.u32(&m.ProcID)
	c.text(&m.ClientID)
}

type Rlock struct {
	Status uint8
}

func (*Rlock) Type() Type { return 53 }
func (m *Rlock) fields(c *codec) {
	c.u8(&m.Status)
}

type Tgetlock struct {
	Fid  uint32
	Lock Lock
}

func (*Tgetlock) Type() Type { return 54 }
func (m *Tgetlock) fields(c *codec) {
	c.u32(&m.Fid)
	c.lock(&m.Lock)
}

type Rgetlock struct {
	Lock Lock
}

func (*Rgetlock) Type() Type { return 55 }
func (m *Rgetlock) fields(c *codec) {
	c.lock(&m.Lock)
}

type Tlink struct {
	Dir  uint32
	Fid  uint32
	Name string
}

func (*Tlink) Type() Type { return 70 }
func (m *Tlink) fields(c *codec) {
	c.u32(&m.Dir)
	c.u32(&m.Fid)
	c.text(&m.Name)
}

type Rlink struct{}

func (*Rlink) Type() Type    { return 71 }
func (*Rlink) fields(*codec) {}

type Tmkdir struct {
	Dir  uint32
	Name string
	Mode uint32
	GID  uint32
}

func (*Tmkdir) Type() Type { return 72 }
func (m *Tmkdir) fields(c *codec) {
	c.u32(&m.Dir)
	c.text(&m.Name)
	c.u32(&m.Mode)
	c.u32(&m.GID)
}

type Rmkdir struct {
	QID QID
}

func (*Rmkdir) Type() Type { return 73 }
func (m *Rmkdir) fields(c *codec) {
	c.qid(&m.QID)
}

type Trenameat struct {
	OldDir  uint32
	OldName string
	NewDir  uint32
	NewName string
}

func (*Trenameat) Type() Type { return 74 }
func (m *Trenameat) fields(c *codec) {
	c.u32(&m.OldDir)
	c.text(&m.OldName)
	c.u32(&m.NewDir)
	c.text(&m.NewName)
}

type Rrenameat struct{}

func (*Rrenameat) Type() Type    { return 75 }
func (*Rrenameat) fields(*codec) {}

type Tunlinkat struct {
	Dir   uint32
	Name  string
	Flags uint32
}

func (*Tunlinkat) Type() Type { return 76 }
func (m *Tunlinkat) fields(c *codec) {
	c.u32(&m.Dir)
	c.text(&m.Name)
	c.u32(&m.Flags)
}

type Runlinkat struct{}

func (*Runlinkat) Type() Type    { return 77 }
func (*Runlinkat) fields(*codec) {}

type Tversion struct {
	MSize   uint32
	Version string
}

func (*Tversion) Type() Type { return 100 }
func (m *Tversion) fields(c *codec) {
	c.u32(&m.MSize)
	c.text(&m.Version)
}

type Rversion struct {
	MSize   uint32
	Version string
}

func (*Rversion) Type() Type { return 101 }
func (m *Rversion) fields(c *codec) {
	c.u32(&m.MSize)
	c.text(&m.Version)
}

type Tauth struct {
	Fid  uint32
	User string
	Tree string
	UID  uint32
}

func (*Tauth) Type() Type { return 102 }
func (m *Tauth) fields(c *codec) {
	c.u32(&m.Fid)
	c.text(&m.User)
	c.text(&m.Tree)
	c.u32(&m.UID)
}

type Rauth struct {
	QID QID
}

func (*Rauth) Type() Type { return 103 }
func (m *Rauth) fields(c *codec) {
	c.qid(&m.QID)
}

type Tattach struct {
	Fid     uint32
	AuthFid uint32
	User    string
	Tree    string
	UID     uint32
}

func (*Tattach) Type() Type { return 104 }
func (m *Tattach) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.AuthFid)
	c.text(&m.User)
	c.text(&m.Tree)
	c.u32(&m.UID)
}

type Rattach struct {
	QID QID
}

func (*Rattach) Type() Type { return 105 }
func (m *Rattach) fields(c *codec) {
	c.qid(&m.QID)
}

type Tflush struct {
	OldTag uint16
}

func (*Tflush) Type() Type { return 108 }
func (m *Tflush) fields(c *codec) {
	c.u16(&m.OldTag)
}

type Rflush struct{}

func (*Rflush) Type() Type    { return 109 }
func (*Rflush) fields(*codec) {}

type Twalk struct {
	Fid    uint32
	NewFid uint32
	Names  []string
}

func (*Twalk) Type() Type { return 110 }
func (m *Twalk) fields(c *codec) {
	c.u32(&m.Fid)
	c.u32(&m.NewFid)
	c.names(&m.Names)
}

type Rwalk struct {
	QIDs []QID
}

func (*Rwalk) Type() Type { return 111 }
func (m *Rwalk) fields(c *codec) {
	c.qids(&m.QIDs)
}

type Tread struct {
	Fid    uint32
	Offset uint64
	Count  uint32
}

func (*Tread) Type() Type { return 116 }
func (m *Tread) fields(c *codec) {
	c.u32(&m.Fid)
	c.u64(&m.Offset)
	c.u32(&m.Count)
}

type Rread struct {
	Data []byte
}

func (*Rread) Type() Type { return 117 }
func (m *Rread) fields(c *codec) {
	c.data(&m.Data)
}

type Twrite struct {
	Fid    uint32
	Offset uint64
	Data   []byte
}

func (*Twrite) Type() Type { return 118 }
func (m *Twrite) fields(c *codec) {
	c.u32(&m.Fid)
	c.u64(&m.Offset)
	c.data(&m.Data)
}

type Rwrite struct {
	Count uint32
}

func (*Rwrite) Type() Type { return 119 }
func (m *Rwrite) fields(c *codec) {
	c.u32(&m.Count)
}

type Tclunk struct {
	Fid uint32
}

func (*Tclunk) Type() Type { return 120 }
func (m *Tclunk) fields(c *codec) {
	c.u32(&m.Fid)
}

type Rclunk struct{}

func (*Rclunk) Type() Type    { return 121 }
func (*Rclunk) fields(*codec) {}

type Tremove struct {
	Fid uint32
}

func (*Tremove) Type() Type { return 122 }
func (m *Tremove) fields(c *codec) {
	c.u32(&m.Fid)
}

type Rremove struct{}

func (*Rremove) Type() Type    { return 123 }
func (*Rremove) fields(*codec) {}

func (c *codec) statFS(v *StatFS) {
	c.u32(&v.Type)
	c.u32(&v.BlockSize)
	c.u64(&v.Blocks)
	c.u64(&v.BlocksFree)
	c.u64(&v.BlocksAvl)
	c.u64(&v.Files)
	c.u64(&v.FilesFree)
	c.u64(&v.FSID)
	c.u32(&v.NameMax)
}

func (c *codec) attr(v *Attr) {
	c.qid(&v.QID)
	c.u32(&v.Mode)
	c.u32(&v.UID)
	c.u32(&v.GID)
	c.u64(&v.Nlink)
	c.u64(&v.Rdev)
	c.u64(&v.Size)
	c.u64(&v.BlockSize)
	c.u64(&v.Blocks)
	c.time(&v.Atime)
	c.time(&v.Mtime)
	c.time(&v.Ctime)
}

func (c *codec) setAttr(v *SetAttr) {
	c.u32(&v.Valid)
	c.u32(&v.Mode)
	c.u32(&v.UID)
	c.u32(&v.GID)
	c.u64(&v.Size)
	c.time(&v.Atime)
	c.time(&v.Mtime)
}

func (c *codec) lock(v *Lock) {
	c.u8(&v.Type)
	c.u64(&v.Start)
	c.u64(&v.Length)
	c.u32(&v.ProcID)
	c.text(&v.ClientID)
}

// blank makes an empty message of a type; nil for a number that 9P2000.L does not use.
func (t Type) blank() Message {
	switch t {
	case 7:
		return &Rlerror{}
	case 8:
		return &Tstatfs{}
	case 9:
		return &Rstatfs{}
	case 12:
		return &Tlopen{}
	case 13:
		return &Rlopen{}
	case 14:
		return &Tlcreate{}
	case 15:
		return &Rlcreate{}
	case 16:
		return &Tsymlink{}
	case 17:
		return &Rsymlink{}
	case 18:
		return &Tmknod{}
	case 19:
		return &Rmknod{}
	case 20:
		return &Trename{}
	case 21:
		return &Rrename{}
	case 22:
		return &Treadlink{}
	case 23:
		return &Rreadlink{}
	case 24:
		return &Tgetattr{}
	case 25:
		return &Rgetattr{}
	case 26:
		return &Tsetattr{}
	case 27:
		return &Rsetattr{}
	case 30:
		return &Txattrwalk{}
	case 31:
		return &Rxattrwalk{}
	case 32:
		return &Txattrcreate{}
	case 33:
		return &Rxattrcreate{}
	case 40:
		return &Treaddir{}
	case 41:
		return &Rreaddir{}
	case 50:
		return &Tfsync{}
	case 51:
		return &Rfsync{}
	case 52:
		return &Tlock{}
	case 53:
		return &Rlock{}
	case 54:
		return &Tgetlock{}
	case 55:
		return &Rgetlock{}
	case 70:
		return &Tlink{}
	case 71:
		return &Rlink{}
	case 72:
		return &Tmkdir{}
	case 73:
		return &Rmkdir{}
	case 74:
		return &Trenameat{}
	case 75:
		return &Rrenameat{}
	case 76:
		return &Tunlinkat{}
	case 77:
		return &Runlinkat{}
	case 100:
		return &Tversion{}
	case 101:
		return &Rversion{}
	case 102:
		return &Tauth{}
	case 103:
		return &Rauth{}
	case 104:
		return &Tattach{}
	case 105:
		return &Rattach{}
	case 108:
		return &Tflush{}
	case 109:
		return &Rflush{}
	case 110:
		return &Twalk{}
	case 111:
		return &Rwalk{}
	case 116:
		return &Tread{}
	case 117:
		return &Rread{}
	case 118:
		return &Twrite{}
	case 119:
		return &Rwrite{}
	case 120:
		return &Tclunk{}
	case 121:
		return &Rclunk{}
	case 122:
		return &Tremove{}
	case 123:
		return &Rremove{}
	}
	return nil
}
