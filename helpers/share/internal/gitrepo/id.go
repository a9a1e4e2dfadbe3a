package gitrepo

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
)

// ID is an object's name: the raw bytes of its hash.
type ID string

func (id ID) String() string { return hex.EncodeToString([]byte(id)) }

// short is what is shown.
func (id ID) short() string { return id.String()[:min(12, 2*len(id))] }

// format is a repository's hash function.
type format struct {
	size int
	name string // as extensions.objectFormat has it
	new  func() hash.Hash
}

var (
	sha1Format   = &format{sha1.Size, "sha1", sha1.New}
	sha256Format = &format{sha256.Size, "sha256", sha256.New}
)

// parseID reads a name as text; git writes lower case only.
func (f *format) parseID(text string) (ID, bool) {
	if len(text) != 2*f.size {
		return "", false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return "", false
	}
	id := ID(raw)
	return id, !id.isZero()
}

// isZero: git's word for "none", which no object has.
func (id ID) isZero() bool {
	for i := range len(id) {
		if id[i] != 0 {
			return false
		}
	}
	return true
}

// objectType as packs number them.
type objectType uint8

const (
	commitType objectType = 1
	treeType   objectType = 2
	blobType   objectType = 3
	tagType    objectType = 4
	ofsDelta   objectType = 6
	refDelta   objectType = 7
)

var typeNames = map[objectType]string{commitType: "commit", treeType: "tree", blobType: "blob", tagType: "tag"}

func (t objectType) String() string { return typeNames[t] }

func typeNamed(name string) (objectType, bool) {
	for t, n := range typeNames {
		if n == name {
			return t, true
		}
	}
	return 0, false
}

// hasher has taken an object's header.
func (f *format) hasher(t objectType, size int64) hash.Hash {
	h := f.new()
	h.Write([]byte(t.String() + " " + strconv.FormatInt(size, 10) + "\x00"))
	return h
}
