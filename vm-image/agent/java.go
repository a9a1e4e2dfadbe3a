package main

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// Debian's Java reads its authorities from one keystore, which its package makes when it is installed: from the links in /etc/ssl/certs, and
// so with the authority of that start in it, under the alias of our link. At later starts that entry gets the new one. The package's own
// program for it would start a Java machine, some seconds of a small computer.
//
// The format is JKS: numbers big-endian; a magic, a version, a count, the entries, and SHA-1 over the password, a phrase and all of it.
const (
	javaKeystore = "/etc/ssl/certs/java/cacerts"
	javaAlias    = "debian:cloche.pem"
	javaPassword = "changeit" // Debian's and everybody's; another one is its user's business
	maxKeystore  = 4 << 20

	jksMagic      = 0xfeedfeed
	jksVersion    = 2
	jksPrivateKey = 1
	jksTrusted    = 2
	jksPhrase     = "Mighty Aphrodite"
)

var errNoKeystore = errors.New("not a keystore of Debian's Java")

// trustInJava puts the authority into the keystore, when there is one.
func trustInJava(certificate string) error {
	der, err := base64.StdEncoding.DecodeString(pemBody(certificate))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Lstat(javaKeystore, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxKeystore {
		return nil
	}
	store, err := os.ReadFile(javaKeystore)
	if err != nil {
		return err
	}
	changed, err := withJavaAuthority(store, der)
	if err != nil {
		return err
	}
	return putFile(javaKeystore, string(changed), 0o644, 0, 0)
}

// withJavaAuthority gives the keystore with this certificate under our alias and no other there.
func withJavaAuthority(store, der []byte) ([]byte, error) {
	body := len(store) - sha1.Size
	if body < 12 || jksDigest(store[:body]) != [sha1.Size]byte(store[body:]) {
		return nil, errNoKeystore
	}
	r := jksReader{b: store[:body]}
	if r.u32() != jksMagic || r.u32() != jksVersion {
		return nil, errNoKeystore
	}
	count := r.u32()
	var kept []byte
	var keptCount uint32
	for range count {
		from := r.at
		tag := r.u32()
		alias := string(r.take(int(r.u16())))
		r.take(8) // when it was made
		certificates := uint32(1)
		switch tag {
		case jksTrusted:
		case jksPrivateKey:
			r.take(int(r.u32()))
			certificates = r.u32()
		default:
			return nil, errNoKeystore
		}
		for range certificates {
			r.take(int(r.u16())) // its type
			r.take(int(r.u32()))
			if r.failed {
				return nil, errNoKeystore
			}
		}
		if alias != javaAlias {
			kept = append(kept, r.b[from:r.at]...)
			keptCount++
		}
	}
	if r.failed || r.at != len(r.b) {
		return nil, errNoKeystore
	}
	made := binary.BigEndian.AppendUint32(nil, jksMagic)
	made = binary.BigEndian.AppendUint32(made, jksVersion)
	made = binary.BigEndian.AppendUint32(made, keptCount+1)
	made = append(append(made, kept...), jksEntry(javaAlias, der)...)
	digest := jksDigest(made)
	return append(made, digest[:]...), nil
}

func jksEntry(alias string, der []byte) []byte {
	e := binary.BigEndian.AppendUint32(nil, jksTrusted)
	e = append(binary.BigEndian.AppendUint16(e, uint16(len(alias))), alias...)
	e = binary.BigEndian.AppendUint64(e, 0)
	e = append(binary.BigEndian.AppendUint16(e, 5), "X.509"...)
	return append(binary.BigEndian.AppendUint32(e, uint32(len(der))), der...)
}

func jksDigest(body []byte) [sha1.Size]byte {
	var all []byte
	for _, unit := range utf16.Encode([]rune(javaPassword)) {
		all = binary.BigEndian.AppendUint16(all, unit)
	}
	return sha1.Sum(append(append(all, jksPhrase...), body...))
}

// jksReader reads within its bytes; what is beyond them reads as nothing and is remembered.
type jksReader struct {
	b      []byte
	at     int
	failed bool
}

func (r *jksReader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b)-r.at {
		r.failed = true
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *jksReader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *jksReader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
