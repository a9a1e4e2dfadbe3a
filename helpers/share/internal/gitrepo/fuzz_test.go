package gitrepo

import (
	"bytes"
	"context"
	"testing"
)

// What is read here comes from a guest: an error or an answer, never a panic, and what is written again is the same.
func FuzzWhatAGuestWrites(f *testing.F) {
	id := ID(bytes.Repeat([]byte{0xab}, 20))
	entries := []indexEntry{{mode: 0o100644, id: id, path: "a"}, {mode: 0o100755, id: id, path: "dir/b", extended: intentToAdd}}
	f.Add(sha1Format.writeIndex(entries))
	f.Add(append([]byte("100644 a\x00"), id...))
	f.Add([]byte("tree " + id.String() + "\nparent " + id.String() + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"))
	f.Add([]byte("object " + id.String() + "\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nx\n"))
	f.Add([]byte("\x10\x08\x90\x08\x04text\x91\x02\x04"))
	f.Add([]byte("[submodule \"a\"]\n\tpath = a\n\turl = https://example.org/a\n"))
	f.Add([]byte("ref: refs/heads/main\n"))
	f.Add([]byte("# pack-refs\n" + id.String() + " refs/tags/v1\n^" + id.String() + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range []*format{sha1Format, sha256Format} {
			w := &work{context.Background(), 1 << 30}
			// A checksum that is right lets the rest be reached.
			h := format.new()
			h.Write(b)
			for _, content := range [][]byte{b, h.Sum(bytes.Clone(b))} {
				ix, err := format.parseIndex(w, content)
				if err != nil {
					continue
				}
				again, err := format.parseIndex(w, format.writeIndex(ix.entries))
				if err != nil || again.differences(ix) != 0 {
					t.Fatalf("an index that is written again is not the same: %v", err)
				}
				if ix.unsafe() == "" {
					if taken, err := format.parseIndex(w, format.take(&index{}, ix)); err != nil || taken.differences(ix) != 0 {
						t.Fatalf("an index that was taken is not the same: %v", err)
					}
				}
			}
			if list, err := format.parseTree(b); err == nil {
				for _, e := range list {
					harmful(e.name, e.mode)
				}
			}
			_, _ = format.parseCommit(b)
			_, _, _ = format.tagTarget(b)
			format.parseRef(b)
			s := &store{work: w, format: format}
			if out, err := s.applyDelta(bytes.Repeat([]byte("0123456789abcdef"), 64), b); err == nil && len(out) > maxObject {
				t.Fatal("a delta made more than it may")
			}
			harmfulModules(b)
			withoutPacked(b, "refs/tags/v1")
			isBranchName(string(b))
			looksLike(string(b), "git")
			for _, r := range shown(string(b)) {
				if r < ' ' && r != '\t' || r == 0x7f || r == 0x202e {
					t.Fatalf("%q is shown", r)
				}
			}
		}
	})
}
