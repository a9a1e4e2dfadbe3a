//go:build linux

package gitrepo_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"cloche/share/internal/gitrepo"
)

// object writes a loose object into the guest's repository as a guest with its own git may, and gives its name.
func (s *scene) object(kind, content string) string {
	s.t.Helper()
	return s.objectAs("", kind, content)
}

// objectAs puts it under a name of the guest's choice.
func (s *scene) objectAs(name, kind, content string) string {
	s.t.Helper()
	whole := fmt.Sprintf("%s %d\x00%s", kind, len(content), content)
	if name == "" {
		sum := sha1.Sum([]byte(whole))
		name = hex.EncodeToString(sum[:])
	}
	path := s.guest + "/.git/objects/" + name[:2] + "/" + name[2:]
	os.Remove(path)
	s.write(path, deflate(whole))
	return name
}

func deflate(text string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.String()
}

func raw(name string) string {
	b, _ := hex.DecodeString(name)
	return string(b)
}

func (s *scene) commitOf(tree string) string {
	return s.object("commit", fmt.Sprintf("tree %s\nparent %s\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nplanted\n", tree, s.git(s.host, "rev-parse", "main")))
}

func (s *scene) guestMain(id string) { s.write(s.guest+"/.git/refs/heads/main", id+"\n") }

// refused: what the guest made cannot be taken over, nothing of the host changes; an honest commit beside it can.
func (s *scene) refused(part string) {
	s.t.Helper()
	before := s.everything(s.host)
	_, err := s.apply(false)
	if err == nil || !strings.Contains(err.Error(), part) {
		s.t.Errorf("the apply ends with %v, not with %q", err, part)
	}
	if after := s.everything(s.host); before != after {
		s.t.Error("the host's repository was changed")
	}
}

func (s *scene) everything(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		content, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha1.Sum(content))
		return nil
	})
	return b.String()
}

func TestTreesThatGitWouldWriteOutsideAreRefused(t *testing.T) {
	s := withHistory(t)
	s.begin()
	blob := s.object("blob", "#!/bin/sh\n")
	modules := s.object("blob", "[submodule \"a/../../b\"]\n\tpath = b\n\turl = https://example.org/\n")
	command := s.object("blob", "[submodule \"b\"]\n\tpath = b\n\turl = https://example.org/\n\tupdate = !touch /tmp/owned\n")
	option := s.object("blob", "[submodule \"b\"]\n\tpath = b\n\turl = --upload-pack=touch\n")
	entry := func(mode, name, id string) string { return mode + " " + name + "\x00" + raw(id) }
	for name, c := range map[string]struct{ tree, part string }{
		"dot git":           {entry("40000", ".git", s.object("tree", entry("100644", "config", blob))), "takes for .git"},
		"dot git in cases":  {entry("100644", ".GiT", blob), "takes for .git"},
		"for HFS+":          {entry("100644", ".g\u200cit", blob), "takes for .git"},
		"short name":        {entry("100644", "GIT~1", blob), "takes for .git"},
		"stream":            {entry("100644", ".git::$INDEX_ALLOCATION", blob), "takes for .git"},
		"trailing dots":     {entry("100644", ".git . .", blob), "takes for .git"},
		"parent":            {entry("100644", "..", blob), "no name"},
		"backslash":         {entry("100644", "a\\..\\b", blob), "separator"},
		"slash":             {entry("100644", "a/b", blob), "cannot be"},
		"twice":             {entry("100644", "a", blob) + entry("100644", "a.b", blob) + entry("40000", "a", s.object("tree", "")), "twice"},
		"not in order":      {entry("100644", "b", blob) + entry("100644", "a", blob), "order"},
		"device":            {entry("20644", "a", blob), "mode"},
		"modules as a link": {entry("120000", ".gitmodules", blob), "link"},
		"modules outside":   {entry("100644", ".gitmodules", modules), "out of its place"},
		"modules command":   {entry("100644", ".gitmodules", command), "a command"},
		"modules option":    {entry("100644", ".gitmodules", option), "an option"},
		"attributes":        {entry("100644", ".gitattributes", s.object("blob", strings.Repeat("a", 3000)+" text\n")), "more than 2048"},
		"mode with a zero":  {entry("0100644", "a", blob), "begins with a zero"},
		"no such file":      {entry("100644", "a", strings.Repeat("ab", 20)), "not found"},
		"tree as a file":    {entry("100644", "a", s.object("tree", "")), "it is a tree"},
		"cut short":         {"100644 a\x00abc", "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := s.t
			s.t = t
			defer func() { s.t = outer }()
			s.guestMain(s.commitOf(s.object("tree", c.tree)))
			s.refused(c.part)
			// Deep inside is no better place.
			s.guestMain(s.commitOf(s.object("tree", entry("40000", "a", s.object("tree", entry("40000", "b", s.object("tree", c.tree)))))))
			s.refused(c.part)
		})
	}
	s.guestMain(s.commitOf(s.object("tree", entry("100644", "a", blob)+entry("40000", "b", s.object("tree", entry("100644", "c", blob))))))
	s.mustApply(false) // the control: the same by the same hand, without a trick
}

func TestObjectsThatAreNotWhatTheirNameSaysAreRefused(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.commit(s.guest, "good.txt", "good\n", "honest")
	blob := s.git(s.guest, "rev-parse", "HEAD:good.txt")
	s.objectAs(blob, "blob", "evil\n")
	s.refused("other content")
	s.objectAs(blob, "blob", "good\n")

	tip := s.git(s.guest, "rev-parse", "HEAD")
	content := s.git(s.guest, "cat-file", "commit", tip) + "\n"
	s.objectAs(tip, "commit", strings.Replace(content, "honest", "others", 1))
	if _, err := s.tryOpen(); err == nil || !strings.Contains(err.Error(), "other content") {
		t.Errorf("a commit is shown that is not the one that its name says: %v", err)
	}
	s.objectAs(tip, "commit", content)

	// The host's own objects are never read from the guest.
	tree := s.git(s.host, "rev-parse", "main^{tree}")
	s.objectAs(tree, "tree", "")
	s.mustApply(false)
}

func TestCommitsThatAreNotWholeAreRefused(t *testing.T) {
	s := withHistory(t)
	s.begin()
	tree := s.git(s.host, "rev-parse", "main^{tree}")
	missing := strings.Repeat("ab", 20)
	for part, id := range map[string]string{
		"names no tree":      s.object("commit", "author A <a@b> 1 +0000\n"),
		"NUL in its message": s.object("commit", "tree "+tree+"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\x00y"),
		"no address":         s.object("commit", "tree "+tree+"\nauthor A a@b 1 +0000\ncommitter A <a@b> 1 +0000\n\nx"),
		"no name":            s.object("commit", "tree "+tree+"\nauthor A <a@b> 1 +0000\ncommitter <a@b> 1 +0000\n\nx"),
		"no date":            s.object("commit", "tree "+tree+"\nauthor A <a@b> 01 +0000\ncommitter A <a@b> 1 +0000\n\nx"),
		"no zone":            s.object("commit", "tree "+tree+"\nauthor A <a@b> 1 +000\ncommitter A <a@b> 1 +0000\n\nx"),
		"NUL in its header":  s.object("commit", "tree "+tree+"\nauthor A\x00 <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx"),
		"names no committer": s.object("commit", "tree "+tree+"\nauthor A <a@b> 1 +0000\n\nx"),
		"is no commit":       s.object("blob", "x"),
		"not found":          missing,
		"tree abababababab":  s.object("commit", "tree "+missing+"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx"),
	} {
		s.guestMain(id)
		s.refused(part)
	}
	s.guestMain(s.commitOf(tree))
	s.mustApply(false) // the control
}

// packEntry is one of a pack that a guest makes by hand.
type packEntry struct {
	kind byte
	size int // what it says
	base string
	data string // before compression
}

// plant puts a pack of hand-made entries under the given names into the guest's repository.
func (s *scene) plant(named map[string]int, entries []packEntry) {
	s.t.Helper()
	pack := append([]byte("PACK\x00\x00\x00\x02"), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(pack[8:], uint32(len(named)))
	var offsets []int
	for _, e := range entries {
		offsets = append(offsets, len(pack))
		head := []byte{e.kind<<4 | byte(e.size&15)}
		for rest := e.size >> 4; rest > 0; rest >>= 7 {
			head[len(head)-1] |= 0x80
			head = append(head, byte(rest&0x7f))
		}
		pack = append(append(append(pack, head...), e.base...), deflate(e.data)...)
	}
	sum := sha1.Sum(pack)
	pack = append(pack, sum[:]...)
	ids := make([]string, 0, len(named))
	for id := range named {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	idx := []byte("\xfftOc\x00\x00\x00\x02")
	for first := range 256 {
		n := sort.Search(len(ids), func(i int) bool { return int(raw(ids[i])[0]) > first })
		idx = binary.BigEndian.AppendUint32(idx, uint32(n))
	}
	for _, id := range ids {
		idx = append(idx, raw(id)...)
	}
	for range ids {
		idx = binary.BigEndian.AppendUint32(idx, crc32.ChecksumIEEE(nil))
	}
	for _, id := range ids {
		idx = binary.BigEndian.AppendUint32(idx, uint32(offsets[named[id]]))
	}
	idx = append(idx, sum[:]...)
	end := sha1.Sum(idx)
	base := s.guest + "/.git/objects/pack/pack-" + hex.EncodeToString(sum[:])
	s.write(base+".pack", string(pack))
	s.write(base+".idx", string(append(idx, end[:]...)))
}

func TestPacksMadeToExhaustTheReaderEndWithAReason(t *testing.T) {
	id := strings.Repeat("cd", 20)
	other := strings.Repeat("ce", 20)
	const ofs, ref = 6, 7
	for name, c := range map[string]struct {
		named   map[string]int
		entries []packEntry
		part    string
	}{
		"a delta of itself":        {map[string]int{id: 0}, []packEntry{{kind: ref, size: 3, base: raw(id), data: "abc"}}, "chain of more"},
		"two deltas of each other": {map[string]int{id: 0, other: 1}, []packEntry{{kind: ref, size: 3, base: raw(other), data: "abc"}, {kind: ref, size: 3, base: raw(id), data: "abc"}}, "chain of more"},
		"a base before the pack":   {map[string]int{id: 0}, []packEntry{{kind: ofs, size: 3, base: "\x7f", data: "abc"}}, "out of bounds"},
		"a base that is missing":   {map[string]int{id: 0}, []packEntry{{kind: ref, size: 3, base: raw(other), data: "abc"}}, "not in its pack"},
		"more than it says":        {map[string]int{id: 0}, []packEntry{{kind: 1, size: 10, data: strings.Repeat("\x00", 10<<20)}}, "more bytes"},
		"less than it says":        {map[string]int{id: 0}, []packEntry{{kind: 1, size: 60 << 20, data: "x"}}, "EOF"},
		"a size beyond all bounds": {map[string]int{id: 0}, []packEntry{{kind: 1, size: 1 << 60, data: "x"}}, "beyond all bounds"},
		"a large commit":           {map[string]int{id: 0}, []packEntry{{kind: 1, size: 1 << 31, data: "x"}}, "more than"},
		"an unknown type":          {map[string]int{id: 0}, []packEntry{{kind: 5, size: 1, data: "x"}}, "no known type"},
		"a result beyond bounds": {map[string]int{id: 1}, []packEntry{{kind: 1, size: 1, data: "x"}, {kind: ofs, size: 7, base: string(rune(1 + len(deflate("x")))),
			data: "\x01\xff\xff\xff\xff\x7f\x90"}}, "more than"},
		"a copy from outside": {map[string]int{id: 1}, []packEntry{{kind: 1, size: 1, data: "x"}, {kind: ofs, size: 5, base: string(rune(1 + len(deflate("x")))),
			data: "\x01\x10\x91\x09\x10"}}, "outside its base"},
	} {
		t.Run(name, func(t *testing.T) {
			s := withHistory(t)
			s.begin()
			s.plant(c.named, c.entries)
			s.guestMain(id)
			started := time.Now()
			s.refused(c.part)
			if took := time.Since(started); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestALongWayOfDeltasEndsWithItsContext(t *testing.T) {
	s := withHistory(t)
	s.begin()
	// 200 steps of 60 MiB each, from a pack of a few kilobytes.
	const size = 60 << 20
	varint := func(n int) (b []byte) {
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n))
	}
	grow := append(varint(1<<16), varint(size)...)
	same := append(varint(size), varint(size)...)
	for range size / (1 << 16) {
		grow = append(grow, 0x80)
		same = append(same, 0x80)
	}
	named := map[string]int{}
	name := func(i int) string { return fmt.Sprintf("%040x", i+1) }
	entries := []packEntry{{kind: 1, size: 1 << 16, data: strings.Repeat("a", 1<<16)}, {kind: 7, size: len(grow), base: raw(name(0)), data: string(grow)}}
	for i := 2; i < 200; i++ {
		entries = append(entries, packEntry{kind: 7, size: len(same), base: raw(name(i - 1)), data: string(same)})
	}
	for i := range entries {
		named[name(i)] = i
	}
	s.plant(named, entries)
	s.guestMain(name(199))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	r, err := gitrepo.Open(ctx, s.input())
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v", err)
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestLinksAndPipesInAGitDirectoryAreNeitherFollowedNorOpened(t *testing.T) {
	s := withHistory(t)
	s.begin()
	tip := s.commit(s.guest, "x", "x", "x")
	secret := filepath.Join(t.TempDir(), "secret")
	s.write(secret, tip+"\n")
	git := s.guest + "/.git/"
	for name, plant := range map[string]func(){
		"a ref as a link":        func() { s.must(os.Symlink(secret, git+"refs/heads/linked")) },
		"a ref as a pipe":        func() { s.must(mkfifo(git + "refs/heads/pipe")) },
		"refs as a link outside": func() { s.must(os.Symlink(filepath.Dir(secret), git+"refs/heads/folder")) },
	} {
		plant()
		sum := s.summary()
		for _, b := range sum.Branches {
			if b.Name != "main" {
				t.Errorf("%s: shown as branch %s", name, b.Name)
			}
		}
		if len(sum.Refused) == 0 {
			t.Errorf("%s: not named", name)
		}
	}
	for _, name := range []string{"objects", "HEAD", "packed-refs", "config"} {
		os.Rename(git+name, git+"kept")
		s.must(mkfifo(git + name))
		ended := make(chan error, 1)
		go func() {
			r, err := s.tryOpen()
			if err == nil {
				_, err = r.Plan(false)
			}
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil && name != "config" {
				t.Errorf("%s is a pipe and the repository readable", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is a pipe and the reader waits", name)
		}
		s.must(os.Remove(git + name))
		os.Rename(git+"kept", git+name)
	}
	s.mustApply(false)
	s.same("main", tip, s.git(s.host, "rev-parse", "main"))
}

func TestNothingIsOpenedThatIsOfAnotherKind(t *testing.T) {
	s := withHistory(t)
	s.must(os.Symlink("HEAD", s.host+"/.git/link"))
	s.must(os.Symlink("refs", s.host+"/.git/linked"))
	s.must(mkfifo(s.host + "/.git/pipe"))
	d := s.dir(s.host + "/.git")
	defer d.Close()
	for _, name := range []string{"refs", "link", "linked", "pipe", "..", ".", "", "refs/heads", "a\x00b"} {
		if f, err := d.File(name); err == nil {
			f.Close()
			t.Errorf("%q is opened as a file", name)
		}
	}
	for _, name := range []string{"HEAD", "link", "linked", "pipe", "..", ".", "", "refs/heads"} {
		if below, err := d.Dir(name); err == nil {
			below.Close()
			t.Errorf("%q is opened as a directory", name)
		}
	}
	f, err := d.File("HEAD") // the control
	s.must(err)
	f.Close()
}

func TestNamesOfBranchesThatHarmAreNotTaken(t *testing.T) {
	s := withHistory(t)
	s.begin()
	tip := s.commit(s.guest, "x", "x", "x")
	for _, name := range []string{"-evil", "a\x1b[2Jb", "rev\u202etxt", "x.lock/y", "HEAD", "a..b"} {
		s.write(s.guest+"/.git/refs/heads/"+name, tip+"\n")
	}
	s.write(s.guest+"/.git/packed-refs", tip+" refs/heads/../../hooks/post-checkout\n")
	sum := s.summary()
	if len(sum.Branches) != 1 || len(sum.Refused) < 7 {
		t.Errorf("branches %+v, refused %q", sum.Branches, sum.Refused)
	}
	for _, name := range sum.Refused {
		if strings.ContainsAny(name, "\x1b\u202e") {
			t.Errorf("%q is not fit to be shown", name)
		}
	}
	s.mustApply(false)
	s.same("the branches", "main", s.git(s.host, "for-each-ref", "--format=%(refname:short)"))
}

func TestNamesThatCannotBeBesideEachOtherAreAConflict(t *testing.T) {
	for _, name := range []string{"MAIN", "main/x"} {
		s := withHistory(t)
		s.begin()
		tip := s.git(s.guest, "rev-parse", "HEAD")
		s.write(s.guest+"/.git/packed-refs", tip+" refs/heads/"+name+"\n")
		s.conflicts("cannot both be there")
	}
}

func TestMessagesAreShownWithoutTheirControlCharacters(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.commit(s.guest, "x", "x\n", "clears \x1b[2J the screen, turns \u202e the line")
	var diff strings.Builder
	s.must(s.open().Diff(&diff, lines))
	if strings.ContainsAny(diff.String(), "\x1b\u202e") || !strings.Contains(diff.String(), `\x1b[2J`) || !strings.Contains(diff.String(), `\u202e`) {
		t.Errorf("the diff is %q", diff.String())
	}
}

func TestAFileThatCannotBeComparedHidesNoOther(t *testing.T) {
	s := withHistory(t)
	s.begin()
	s.write(s.guest+"/a", "a\n")
	s.write(s.guest+"/b", strings.Repeat("b", 2<<20))
	s.write(s.guest+"/c", "\x00\x01")
	s.commit(s.guest, "d", "d\n", "four")
	var diff strings.Builder
	s.must(s.open().Diff(&diff, func(old, new []byte) ([]byte, error) {
		if string(new) == "a\n" {
			return nil, errors.New("more than is compared")
		}
		return lines(old, new)
	}))
	for _, part := range []string{"# Not shown: more than is compared.", "# Not shown: 2097152 bytes.", "# Binary, 2 bytes.", "+d"} {
		if !strings.Contains(diff.String(), part) {
			t.Errorf("the diff lacks %q:\n%s", part, diff.String())
		}
	}
}

// Whatever bytes stand in the guest's files: an error or an answer, never a crash, and nothing that git finds fault with.
func TestABrokenRepositoryOfTheTaskHarmsNothing(t *testing.T) {
	s := withHistory(t)
	s.begin()
	for i := range 5 {
		s.commit(s.guest, "long.txt", strings.Repeat("text\n", 100*i), "more")
	}
	s.git(s.guest, "repack", "-adq")
	s.git(s.guest, "pack-refs", "--all")
	s.commit(s.guest, "loose.txt", "x", "loose")
	s.git(s.guest, "tag", "-a", "v1", "-m", "tag")
	var files []string
	s.must(filepath.WalkDir(s.guest+"/.git", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.Contains(path, "hooks") && !strings.Contains(path, "/logs/") {
			files = append(files, path)
		}
		return err
	}))
	random := rand.New(rand.NewSource(1))
	applied, refused := 0, 0
	for range 200 {
		path := files[random.Intn(len(files))]
		good, err := os.ReadFile(path)
		s.must(err)
		if len(good) == 0 {
			continue
		}
		bad := bytes.Clone(good)
		switch random.Intn(4) {
		case 0:
			bad = bad[:random.Intn(len(bad))]
		case 1:
			bad = append(bad, bad[:random.Intn(len(bad))]...)
		default:
			for range 1 + random.Intn(4) {
				bad[random.Intn(len(bad))] ^= byte(1 << random.Intn(8))
			}
		}
		s.must(os.Chmod(path, 0o644))
		s.must(os.WriteFile(path, bad, 0o644))
		before := s.state(s.host)
		r, err := s.tryOpen()
		if err == nil {
			r.Diff(&strings.Builder{}, lines)
			var undo func()
			if undo, err = s.apply(false); err == nil {
				applied++
				if applied%10 == 0 {
					if out, err := s.tryGit(s.host, "fsck", "--strict"); err != nil {
						t.Errorf("%s changed: git fsck: %s", path, out)
					}
				}
				undo()
			} else {
				refused++
			}
		}
		s.same("the host", before, s.state(s.host))
		s.must(os.WriteFile(path, good, 0o644))
	}
	if applied == 0 || refused == 0 {
		t.Errorf("%d applied, %d refused: this test shows nothing", applied, refused)
	}
	s.mustApply(false)
}

func TestARepositoryThatIsNotReadSaysWhy(t *testing.T) {
	for part, plant := range map[string]func(s *scene){
		"borrowed":         func(s *scene) { s.write(s.host+"/.git/objects/info/alternates", "/elsewhere\n") },
		"format 7":         func(s *scene) { s.git(s.host, "config", "core.repositoryformatversion", "7") },
		"kept as reftable": func(s *scene) { s.git(s.host, "config", "extensions.refStorage", "reftable") },
		"removed":          func(s *scene) { s.must(os.RemoveAll(s.guest + "/.git")) },
	} {
		t.Run(part, func(t *testing.T) {
			s := withHistory(t)
			s.begin()
			plant(s)
			if _, err := s.tryOpen(); err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestGitDirectoriesAreFoundWhateverTheyAreCalled(t *testing.T) {
	s := withHistory(t)
	s.git(s.host, "init", "-q", "--bare", "bare.d")
	s.git(s.host, "init", "-q", "inner")
	s.write(s.host+"/docs/HEAD", "a file\n")
	s.write(s.host+"/linked/.git", "gitdir: /outside/of/it\n")
	s.begin()
	s.git(s.guest, "init", "-q", "--bare", "bare2")
	s.must(os.MkdirAll(s.guest+"/.git/modules/sub", 0o755))
	s.must(os.CopyFS(s.guest+"/.git/modules/sub", os.DirFS(s.guest+"/bare2")))
	for _, dir := range []string{"objects", "refs"} {
		s.must(os.MkdirAll(s.guest+"/docs/"+dir, 0o755))
	}
	l := &gitrepo.Locator{Lower: s.dir(s.host), Merged: s.dir(s.guest)}
	defer l.Close()
	for path, want := range map[string]string{
		"notes.txt":                      "",
		"src/deep/file0.c":               "",
		".git":                           ".git",
		".git/objects/ab/cd":             ".git",
		".GIT/config":                    ".GIT pointer",
		".git/worktrees/x/HEAD":          ".git",
		".git/modules/sub/refs/heads/x":  ".git/modules/sub",
		"bare.d/refs/heads/x":            "bare.d",
		"bare2/config":                   "bare2",
		"inner/.git/index":               "inner/.git",
		"inner/file":                     "",
		"linked/.git":                    "linked/.git pointer",
		"docs/HEAD":                      "", // the guest cannot turn a folder of the user's into one
		"docs/objects/text":              "",
		"not/there/.git/refs/heads/main": "not/there/.git pointer",

		strings.Repeat("d/", 1000) + ".git/hooks/x": strings.Repeat("d/", 1000) + ".git",
	} {
		place, ok, err := l.Find(strings.Split(path, "/"))
		s.must(err)
		got := strings.Join(place.Dir, "/")
		if place.Pointer {
			got += " pointer"
		}
		if got != want || ok != (want != "") {
			t.Errorf("%s belongs to %q, want %q", path, got, want)
		}
	}
}

// A branch's own commits may have any date: dated last, the first of them would be taken for the last, and its changes for the
// host's.
func TestANewBranchShowsAllItsChangesWhateverItsCommitsAreDated(t *testing.T) {
	s := withHistory(t)
	s.begin()
	main := s.git(s.host, "rev-parse", "main")
	dated := func(parent, file, content string, seconds int) string {
		tree := s.object("tree", "100644 "+file+"\x00"+raw(s.object("blob", content)))
		return s.object("commit", fmt.Sprintf("tree %s\nparent %s\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> %d +0000\n\nx\n", tree, parent, seconds))
	}
	first := dated(main, "planted.sh", "planted\n", 1900000000)
	s.write(s.guest+"/.git/refs/heads/topic", dated(first, "planted.sh", "planted\nharmless\n", 1000000000)+"\n")
	var diff strings.Builder
	s.must(s.open().Diff(&diff, lines))
	if !strings.Contains(diff.String(), "--- /dev/null\n+++ b/planted.sh") {
		t.Errorf("what the first commit planted is not shown:\n%s", diff.String())
	}
}

// What was taken over as an ordinary file is in the host's store then, where nothing looks at it again.
func TestAHarmfulModulesFileIsRefusedThoughTheHostHasItsBytesAlready(t *testing.T) {
	s := withHistory(t)
	s.begin()
	command := s.object("blob", "[submodule \"b\"]\n\tpath = b\n\turl = https://example.org/\n\tupdate = !touch /tmp/owned\n")
	s.guestMain(s.commitOf(s.object("tree", "100644 notes\x00"+raw(command))))
	s.mustApply(false) // the control: a file of another name may say what it likes
	s.guestMain(s.commitOf(s.object("tree", "100644 .gitmodules\x00"+raw(command))))
	s.refused("a command")
	// Staged only, with the host's index naming the bytes elsewhere.
	s = withHistory(t)
	s.commit(s.host, "notes", "[submodule \"b\"]\n\tpath = b\n\turl = https://example.org/\n\tupdate = !touch /tmp/owned\n", "notes")
	s.begin()
	s.git(s.guest, "update-index", "--add", "--cacheinfo", "100644,"+command+",.gitmodules")
	s.refused("a command")
}
