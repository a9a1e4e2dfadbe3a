package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// samples has one filled message of each type.
func samples() []Message {
	q := QID{Type: QTDir, Version: 7, Path: 1 << 40}
	t := Time{Sec: 1, Nsec: 2}
	odd := "name\n\xff\xfe\x01" // names are bytes
	return []Message{
		&Rlerror{Errno: 2}, &Tstatfs{Fid: 1}, &Rstatfs{Stat: StatFS{Type: 1, NameMax: 255}},
		&Tlopen{Fid: 1, Flags: 2}, &Rlopen{QID: q, IOUnit: 3}, &Tlcreate{Fid: 1, Name: odd, Flags: 2, Mode: 3, GID: 4}, &Rlcreate{QID: q},
		&Tsymlink{Fid: 1, Name: odd, Target: strings.Repeat("x", MaxText)}, &Rsymlink{QID: q}, &Tmknod{Fid: 1, Name: odd, Mode: 2}, &Rmknod{QID: q},
		&Trename{Fid: 1, Dir: 2, Name: odd}, &Rrename{}, &Treadlink{Fid: 1}, &Rreadlink{Target: odd}, &Tgetattr{Fid: 1, Mask: 2},
		&Rgetattr{Valid: 1, Attr: Attr{QID: q, Mode: 2, Size: 3, Atime: t, Mtime: t, Ctime: t}}, &Tsetattr{Fid: 1, Attr: SetAttr{Valid: 1, Size: 5, Mtime: t}}, &Rsetattr{},
		&Txattrwalk{Fid: 1, NewFid: 2, Name: "user.a"}, &Rxattrwalk{Size: 9}, &Txattrcreate{Fid: 1, Name: "user.a", Size: 4, Flags: 1}, &Rxattrcreate{},
		&Treaddir{Fid: 1, Offset: 2, Count: 3}, &Rreaddir{Data: []byte("abc")}, &Tfsync{Fid: 1, DataOnly: 1}, &Rfsync{},
		&Tlock{Fid: 1, Kind: 1, Start: 2, Length: 3, ProcID: 4, ClientID: "c"}, &Rlock{Status: 1},
		&Tgetlock{Fid: 1, Lock: Lock{Type: 1, ClientID: "c"}}, &Rgetlock{Lock: Lock{Type: 2}}, &Tlink{Dir: 1, Fid: 2, Name: odd}, &Rlink{},
		&Tmkdir{Dir: 1, Name: odd, Mode: 2}, &Rmkdir{QID: q}, &Trenameat{OldDir: 1, OldName: odd, NewDir: 2, NewName: odd}, &Rrenameat{},
		&Tunlinkat{Dir: 1, Name: odd, Flags: 0x200}, &Runlinkat{}, &Tversion{MSize: 1, Version: "9P2000.L"}, &Rversion{MSize: 1, Version: "unknown"},
		&Tauth{Fid: 1, User: "u", Tree: "t"}, &Rauth{QID: q}, &Tattach{Fid: 1, AuthFid: NoFid, User: "u", Tree: "t", UID: 3}, &Rattach{QID: q},
		&Tflush{OldTag: 5}, &Rflush{}, &Twalk{Fid: 1, NewFid: 2, Names: []string{"a", odd, ".."}}, &Rwalk{QIDs: []QID{q, q}},
		&Tread{Fid: 1, Offset: 2, Count: 3}, &Rread{Data: []byte("abc")}, &Twrite{Fid: 1, Offset: 2, Data: []byte("abc")}, &Rwrite{Count: 3},
		&Tclunk{Fid: 1}, &Rclunk{}, &Tremove{Fid: 1}, &Rremove{},
	}
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	seen := map[Type]bool{}
	for _, m := range samples() {
		seen[m.Type()] = true
		frame, err := Encode(nil, 77, m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		tag, back, err := Decode(frame)
		if err != nil || tag != 77 || !reflect.DeepEqual(m, back) {
			t.Errorf("%T: got %+v, tag %d, %v", m, back, tag, err)
		}
	}
	for number := range 256 {
		if m := Type(number).blank(); m != nil && !seen[m.Type()] {
			t.Errorf("no sample of %T", m)
		}
	}
}

func TestAFrameThatIsCutOrPaddedIsMalformed(t *testing.T) {
	for _, m := range samples() {
		frame, _ := Encode(nil, 1, m)
		for n := HeaderBytes; n < len(frame); n++ {
			cut := bytes.Clone(frame[:n])
			binary.LittleEndian.PutUint32(cut, uint32(n))
			if _, _, err := Decode(cut); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%T cut to %d of %d bytes: %v", m, n, len(frame), err)
			}
		}
		padded := append(bytes.Clone(frame), 0)
		binary.LittleEndian.PutUint32(padded, uint32(len(padded)))
		if _, _, err := Decode(padded); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%T with a byte too many: %v", m, err)
		}
		if _, _, err := Decode(append(bytes.Clone(frame), 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%T in a frame whose size is another: %v", m, err)
		}
	}
}

func TestBoundsOfStringsAndWalks(t *testing.T) {
	if _, err := Encode(nil, 1, &Treadlink{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Encode(nil, 1, &Tmkdir{Name: strings.Repeat("x", MaxText+1)}); !errors.Is(err, ErrMalformed) {
		t.Errorf("text over the limit: %v", err)
	}
	names := make([]string, MaxWalk)
	for i := range names {
		names[i] = "a"
	}
	frame, err := Encode(nil, 1, &Twalk{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Decode(frame); err != nil {
		t.Errorf("a walk of %d names: %v", MaxWalk, err)
	}
	// One name more, by hand.
	frame[HeaderBytes+8]++
	frame = append(frame, 1, 0, 'a')
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	if _, _, err := Decode(frame); !errors.Is(err, ErrMalformed) {
		t.Errorf("a walk of %d names: %v", MaxWalk+1, err)
	}
}

func TestAnUnknownTypeLeavesTheStreamInStep(t *testing.T) {
	for _, number := range []byte{0, 6, 10, 54 + 2, 106, 255} {
		tag, m, err := Decode([]byte{7, 0, 0, 0, number, 9, 0})
		if !errors.Is(err, ErrUnknown) || tag != 9 || m != nil {
			t.Errorf("type %d: tag %d, %v, %v", number, tag, m, err)
		}
	}
}

// FuzzDecode: what decodes encodes to the same bytes, and nothing panics.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		frame, _ := Encode(nil, 1, m)
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
	}
	f.Add([]byte{})
	f.Add([]byte{7, 0, 0, 0, 110, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= HeaderBytes {
			binary.LittleEndian.PutUint32(data, uint32(len(data)))
		}
		tag, m, err := Decode(data)
		if err != nil {
			return
		}
		back, err := Encode(nil, tag, m)
		if err != nil {
			t.Fatalf("%T decodes and does not encode: %v", m, err)
		}
		if _, isAttr := m.(*Rgetattr); !isAttr && !bytes.Equal(back, data) { // its last four fields are dropped
			t.Fatalf("%T\n in %x\nout %x", m, data, back)
		}
		if r, isList := m.(*Rreaddir); isList {
			_, _ = Dirents(r.Data)
		}
	})
}
