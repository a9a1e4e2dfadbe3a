package diff

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func hunks(d *Diff) []int {
	list := make([]int, d.Hunks())
	for i := range list {
		list[i] = i
	}
	return list
}

// randomText makes lines from few words, so that they repeat, with odd ends.
func randomText(r *rand.Rand) []byte {
	var out bytes.Buffer
	ends := []string{"\n", "\r\n", "\n\n", "\x00\n", "\xff\n"}
	for range r.Intn(60) {
		fmt.Fprintf(&out, "w%d%s", r.Intn(12), ends[r.Intn(len(ends))])
	}
	if r.Intn(2) == 0 {
		out.WriteString("no end")
	}
	return out.Bytes()
}

func changed(r *rand.Rand, text []byte) []byte {
	list := lines(text)
	var out bytes.Buffer
	for _, line := range list {
		switch r.Intn(12) {
		case 0:
		case 1:
			out.WriteString("changed\n")
		case 2:
			out.WriteString("more\n")
			out.Write(line)
		default:
			out.Write(line)
		}
	}
	return out.Bytes()
}

func TestAllHunksMakeTheNewText_NoneLeavesTheOld(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	for i := range 3000 {
		old := randomText(r)
		new := changed(r, old)
		if i%5 == 0 {
			new = randomText(r)
		}
		d := Of(old, new)
		got, err := d.Apply(hunks(d))
		if err != nil || !bytes.Equal(got, new) {
			t.Fatalf("case %d: %q to %q gave %q, %v", i, old, new, got, err)
		}
		if got, _ := d.Apply(nil); !bytes.Equal(got, old) {
			t.Fatalf("case %d: nothing chosen gave %q of %q", i, got, old)
		}
		if d.Same() != bytes.Equal(old, new) {
			t.Fatalf("case %d: Same is %v", i, d.Same())
		}
	}
}

func TestHunksChosenOneAfterTheOtherMakeTheNewText(t *testing.T) {
	r := rand.New(rand.NewSource(8))
	for i := range 500 {
		old := randomText(r)
		new := changed(r, old)
		text := old
		for range 100 {
			d := Of(text, new)
			if d.Same() {
				break
			}
			var err error
			if text, err = d.Apply([]int{r.Intn(d.Hunks())}); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(text, new) {
			t.Fatalf("case %d: ended with %q instead of %q", i, text, new)
		}
	}
}

func TestAnUnknownHunkIsRefused(t *testing.T) {
	d := Of([]byte("a\n"), []byte("b\n"))
	for _, i := range []int{-1, 1} {
		if _, err := d.Apply([]int{i}); err == nil {
			t.Errorf("hunk %d was applied", i)
		}
	}
}

// patch(1) reads what we write, at every width of context.
func TestUnified_IsReadByPatch(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Log("IGNORED: there is no patch(1) here")
		return
	}
	r := rand.New(rand.NewSource(9))
	for i := range 60 {
		old := bytes.ReplaceAll(randomText(r), []byte{0}, []byte("0"))
		new := bytes.ReplaceAll(changed(r, old), []byte{0}, []byte("0"))
		d := Of(old, new)
		if d.Same() || len(new) == 0 || len(old) == 0 {
			continue
		}
		text, _ := d.Unified("a/f", "b/f", []int{3, 0, 20}[i%3])
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, old, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(patch, "--binary", "-s", "-F0", file)
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("case %d: %v: %s\n%s", i, err, out, text)
		}
		if got, _ := os.ReadFile(file); !bytes.Equal(got, new) {
			t.Fatalf("case %d: patch made %q of %q", i, got, new)
		}
	}
}

func TestUnified_HeadersAndMissingEnd(t *testing.T) {
	text, list := Of([]byte("a\nb\nc\n"), []byte("a\nB\nc")).Unified("a/x", "b/x", 1)
	want := "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n-c\n+B\n+c\n\\ No newline at end of file\n"
	if string(text) != want || len(list) != 1 || list[0] != (Hunk{1, 3, 1, 3}) {
		t.Errorf("%q %v", text, list)
	}
	text, _ = Of(nil, []byte("a\n")).Unified("/dev/null", "b/x", 3)
	if !strings.Contains(string(text), "@@ -0,0 +1 @@\n+a\n") {
		t.Errorf("%q", text)
	}
}

func TestHunksHaveTheSameIndexAtEveryContext(t *testing.T) {
	r := rand.New(rand.NewSource(10))
	for range 200 {
		old := randomText(r)
		d := Of(old, changed(r, old))
		_, narrow := d.Unified("a", "b", 0)
		_, wide := d.Unified("a", "b", 100)
		if len(narrow) != len(wide) {
			t.Fatalf("%d hunks with no context, %d with 100 lines", len(narrow), len(wide))
		}
		for i := 1; i < len(wide); i++ {
			if wide[i-1].OldStart+wide[i-1].OldLines > wide[i].OldStart {
				t.Fatalf("hunks overlap: %v", wide)
			}
		}
	}
}

func TestANameCannotForgeALineOfTheDiff(t *testing.T) {
	text, _ := Of(nil, []byte("a\n")).Unified("/dev/null", "b/x\n+++ b/innocent\x1b[31m", 3)
	if bytes.ContainsRune(text, 0x1b) || bytes.Count(text, []byte("\n+++ ")) != 1 {
		t.Errorf("%q", text)
	}
}

func TestMegabytesWithinASecond_WhateverTheyAre(t *testing.T) {
	size := 3 << 20
	if os.Getenv("CLOCHE_LONG") != "" {
		size = 10 << 20 // the promise
	}
	r := rand.New(rand.NewSource(11))
	filled := func(line func(i int) string) []byte {
		var out bytes.Buffer
		for i := 0; out.Len() < size; i++ {
			out.WriteString(line(i))
		}
		return out.Bytes()
	}
	text := filled(func(i int) string { return fmt.Sprintf("line %d of a long text, as texts are\n", i) })
	some := bytes.ReplaceAll(text, []byte("7 of a"), []byte("7 of one"))
	words := func(int) string { return []string{"}\n", "\treturn nil\n", "\t}\n", "\tfor range x {\n"}[r.Intn(4)] }
	for _, c := range []struct {
		name     string
		old, new []byte
	}{
		{"a tenth of the lines changed", text, some},
		{"completely different", text, filled(func(i int) string { return fmt.Sprintf("other %d\n", i*7) })},
		{"four words in random order", filled(words), filled(words)},
		{"reversed halves", text, append(append([]byte{}, text[size/2:]...), text[:size/2]...)},
		{"lines of a byte", bytes.Repeat([]byte("\n"), size/5), bytes.Repeat([]byte("x\n"), size/5-100_000)},
		{"one line each", bytes.Repeat([]byte("a"), size), bytes.Repeat([]byte("b"), size)},
		{"two lines in turn, shifted", bytes.Repeat([]byte("a fine\nb\n"), size/10), bytes.Repeat([]byte("b\na fine\na fine\n"), size/16)},
	} {
		begin := time.Now()
		d := Of(c.old, c.new)
		out, list := d.Unified("a/f", "b/f", 3)
		took := time.Since(begin)
		t.Logf("%s: %d ms, %d hunks, diff of %d bytes", c.name, took.Milliseconds(), len(list), len(out))
		// The promise is one second on a quiet machine; a busy one must not fail, an unbounded search must.
		if took > 8*time.Second {
			t.Errorf("%s took %v", c.name, took)
		}
		if got, _ := d.Apply(hunks(d)); !bytes.Equal(got, c.new) {
			t.Errorf("%s: the hunks do not make the new text", c.name)
		}
	}
}

func TestTextsBeyondTheBoundsAreSaid(t *testing.T) {
	if Fits(bytes.Repeat([]byte("\n"), MaxLines), []byte("\n")) || Fits(make([]byte, MaxBytes), []byte("x")) {
		t.Error("too much fits")
	}
	if !Fits(make([]byte, MaxBytes/2), make([]byte, MaxBytes/2)) || !Fits(bytes.Repeat([]byte("\n"), MaxLines/2), nil) {
		t.Error("control: what is within the bounds does not fit")
	}
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("b\na"))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		d := Of(old, new)
		if got, err := d.Apply(hunks(d)); err != nil || !bytes.Equal(got, new) {
			t.Errorf("%q to %q gave %q, %v", old, new, got, err)
		}
		d.Unified("a", "b", 3)
	})
}
