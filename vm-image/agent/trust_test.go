package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pemOf(der string) string {
	return pemBegin + "\n" + base64.StdEncoding.EncodeToString([]byte(der)) + "\n" + pemEnd + "\n"
}

func TestWithAuthority_TheOneOfAnEarlierStartGoes_TheWorldsStay(t *testing.T) {
	world := []string{pemOf("subject: Root R1"), pemOf("subject: Root R2")}
	old, now := pemOf("subject: Cloche task CA, old"), pemOf("subject: Cloche task CA, new")
	for name, c := range map[string][2]string{
		"no authority of ours yet":   {world[0] + world[1], world[0] + world[1] + now},
		"an old one at the end":      {world[0] + world[1] + old, world[0] + world[1] + now},
		"an old one in the middle":   {world[0] + old + world[1], world[0] + world[1] + now},
		"two old ones":               {old + world[0] + old, world[0] + now},
		"the same one":               {world[0] + now, world[0] + now},
		"no last newline":            {strings.TrimSuffix(world[0], "\n"), world[0] + now},
		"comments":                   {"# roots\n" + world[0] + "\n# end\n", "# roots\n" + world[0] + "\n# end\n" + now},
		"a block that does not end":  {world[0] + pemBegin + "\nAAAA\n", world[0] + pemBegin + "\nAAAA\n" + now},
		"a block that is no base64":  {pemBegin + "\n*Cloche task CA*\n" + pemEnd + "\n", pemBegin + "\n*Cloche task CA*\n" + pemEnd + "\n" + now},
		"an empty bundle":            {"", now},
		"lines with carriage return": {strings.ReplaceAll(old, "\n", "\r\n") + world[0], "\r\n" + world[0] + now},
	} {
		got := withAuthority(c[0], now)
		if name == "lines with carriage return" {
			got, c[1] = strings.TrimPrefix(got, "\r\n"), strings.TrimPrefix(c[1], "\r\n")
		}
		if got != c[1] {
			t.Errorf("%s:\n%s\nand not\n%s", name, got, c[1])
		}
	}
}

func TestWriteHot_GoesToMemory_UnlessTheTasksDiskHasAFileOfItsOwn(t *testing.T) {
	hot, data := t.TempDir(), t.TempDir()
	for _, directory := range []string{hot + "/etc/ssl/certs", data + "/upper"} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(hot+"/"+bundleFile, "world\n")
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	r := newRootState()
	if done, err := r.writeHot(bundleFile, "ours\n", unix.O_APPEND); done || err != nil {
		t.Error("an image without a hot layer", done, err)
	}
	r.hotFd, r.dataFd = open(hot), open(data)
	if done, err := r.writeHot(bundleFile, "ours\n", unix.O_APPEND); !done || err != nil {
		t.Error(done, err)
	}
	if done, err := r.writeHot(authorityFile, "ours\n", unix.O_TRUNC); done || err != nil {
		t.Error("a file that the image has not", done, err)
	}
	content, _ := os.ReadFile(hot + "/" + bundleFile)
	if string(content) != "world\nours\n" {
		t.Errorf("%q", content)
	}
	if entries, _ := os.ReadDir(data + "/upper"); len(entries) != 0 {
		t.Error("something is on the task's disk:", entries)
	}
	if err := os.MkdirAll(data+"/upper/etc/ssl/certs", 0o755); err != nil {
		t.Fatal(err)
	}
	write(data+"/upper/"+bundleFile, "the user's own\n")
	if done, err := r.writeHot(bundleFile, "ours\n", unix.O_APPEND); done || err != nil {
		t.Error("a file that is hidden by the task's disk was written", done, err)
	}
}

func jks(entries ...[]byte) []byte {
	made := binary.BigEndian.AppendUint32(nil, jksMagic)
	made = binary.BigEndian.AppendUint32(made, jksVersion)
	made = binary.BigEndian.AppendUint32(made, uint32(len(entries)))
	for _, e := range entries {
		made = append(made, e...)
	}
	digest := jksDigest(made)
	return append(made, digest[:]...)
}

func TestJavaKeystore_OurEntryIsTheNewOne_TheOthersStay(t *testing.T) {
	world, old, now := jksEntry("debian:root.pem", []byte("root")), jksEntry(javaAlias, []byte("old")), jksEntry(javaAlias, []byte("new"))
	key := binary.BigEndian.AppendUint32(nil, jksPrivateKey)
	key = append(key, 0, 2, 'm', 'e', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 'k', 'e', 'y', 0, 0, 0, 1, 0, 5, 'X', '.', '5', '0', '9', 0, 0, 0, 1, 'c')
	for name, c := range map[string][2][]byte{
		"none":             {jks(), jks(now)},
		"others":           {jks(world, key), jks(world, key, now)},
		"an old one first": {jks(old, world, key), jks(world, key, now)},
		"an old one last":  {jks(world, old), jks(world, now)},
	} {
		if got, err := withJavaAuthority(c[0], []byte("new")); err != nil || !bytes.Equal(got, c[1]) {
			t.Errorf("%s: %x %v", name, got, err)
		}
	}
	good := jks(world, old)
	for n := range good {
		if _, err := withJavaAuthority(good[:n], []byte("new")); err == nil {
			t.Fatalf("a keystore that was cut at %d is written anew", n)
		}
		changed := bytes.Clone(good)
		changed[n] ^= 1
		if _, err := withJavaAuthority(changed, []byte("new")); err == nil {
			t.Fatalf("a keystore that is damaged at %d is written anew", n)
		}
	}
}

// Any bytes are refused, or become a keystore that stays the same.
func FuzzJavaKeystore(f *testing.F) {
	f.Add(jks(jksEntry("a", []byte("b")), jksEntry(javaAlias, []byte("c"))))
	f.Fuzz(func(t *testing.T, body []byte) {
		digest := jksDigest(body)
		made, err := withJavaAuthority(append(bytes.Clone(body), digest[:]...), []byte("new"))
		if err != nil {
			return
		}
		again, err := withJavaAuthority(made, []byte("new"))
		if err != nil || !bytes.Equal(again, made) {
			t.Fatalf("%x: %v", made, err)
		}
	})
}

// OpenSSL finds an authority by a link whose name is a hash of its subject (X509_NAME_hash): SHA-1 over the canonical form, which is the
// name's sets with their text in lower case as UTF8String, read as a little-endian number of its first four bytes.
func TestImage_HashedLinkIsThatOfTheAuthoritysSubject(t *testing.T) {
	text := strings.ToLower(authorityName)
	attribute := append([]byte{0x06, 3, 0x55, 4, 3, 0x0c, byte(len(text))}, text...)
	sequence := append([]byte{0x30, byte(len(attribute))}, attribute...)
	hash := sha1.Sum(append([]byte{0x31, byte(len(sequence))}, sequence...))
	link := fmt.Sprintf("%08x.0", binary.LittleEndian.Uint32(hash[:4]))
	finish, err := os.ReadFile("../rootfs/finish.sh")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(finish), "/etc/ssl/certs/"+link+`"`) {
		t.Errorf("finish.sh makes no link %s", link)
	}
}

func TestImage_FilesOfTheAuthorityAreInTheHotLayer(t *testing.T) {
	hot, err := os.ReadFile("../rootfs/hot.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{authorityFile, bundleFile, chromiumFile} {
		if !strings.Contains(string(hot), "\n"+name+"\n") {
			t.Errorf("hot.txt has no %s", name)
		}
	}
}
