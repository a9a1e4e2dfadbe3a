package diff

import (
	"bytes"
	"fmt"
	"strconv"
)

// Hunk is where a hunk of the unified diff lies, counted as its header counts.
type Hunk struct{ OldStart, OldLines, NewStart, NewLines int }

// Same tells whether the two texts are equal.
func (d *Diff) Same() bool { return len(d.edits) == 0 }

// Hunks counts the hunks.
func (d *Diff) Hunks() int { return len(d.hunks) }

// Unified writes the diff with the given lines of context. Names come with their a/ and b/ and are quoted where they
// need it.
func (d *Diff) Unified(oldName, newName string, context int) ([]byte, []Hunk) {
	if d.Same() {
		return nil, nil
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", Quoted(oldName), Quoted(newName))
	list := make([]Hunk, 0, len(d.hunks))
	for i := range d.hunks {
		h := d.writeHunk(&out, i, context)
		list = append(list, h)
	}
	return out.Bytes(), list
}

func (d *Diff) writeHunk(out *bytes.Buffer, i, context int) Hunk {
	edits := d.edits[d.hunks[i][0]:d.hunks[i][1]]
	first, last := edits[0], edits[len(edits)-1]
	// Half the gap to each neighbour at most, so that hunks never overlap; as much before as after, since patch(1)
	// takes a hunk with less on one side for one at that end of the file.
	if i > 0 {
		context = min(context, (first.OldFrom-d.edits[d.hunks[i][0]-1].OldTo)/2)
	}
	if i+1 < len(d.hunks) {
		context = min(context, (d.edits[d.hunks[i][1]].OldFrom-last.OldTo)/2)
	}
	lead, trail := min(context, first.OldFrom), min(context, len(d.old)-last.OldTo)
	oldFrom, newFrom := first.OldFrom-lead, first.NewFrom-lead
	h := Hunk{oldFrom + 1, last.OldTo + trail - oldFrom, newFrom + 1, last.NewTo + trail - newFrom}
	if h.OldLines == 0 { // the header then names the line before (POSIX diff -u)
		h.OldStart--
	}
	if h.NewLines == 0 {
		h.NewStart--
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(h.OldStart, h.OldLines), span(h.NewStart, h.NewLines))
	at := oldFrom
	for _, e := range edits {
		writeLines(out, ' ', d.old[at:e.OldFrom])
		writeLines(out, '-', d.old[e.OldFrom:e.OldTo])
		writeLines(out, '+', d.new[e.NewFrom:e.NewTo])
		at = e.OldTo
	}
	writeLines(out, ' ', d.old[at:last.OldTo+trail])
	return h
}

func span(start, count int) string {
	if count == 1 {
		return strconv.Itoa(start)
	}
	return strconv.Itoa(start) + "," + strconv.Itoa(count)
}

func writeLines(out *bytes.Buffer, mark byte, lines [][]byte) {
	for _, line := range lines {
		out.WriteByte(mark)
		out.Write(line)
		if line[len(line)-1] != '\n' {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// Apply gives the old text with the chosen hunks in it. An index that names no hunk is an error.
func (d *Diff) Apply(chosen []int) ([]byte, error) {
	wanted := make([]bool, len(d.hunks))
	for _, i := range chosen {
		if i < 0 || i >= len(d.hunks) {
			return nil, fmt.Errorf("there is no hunk %d of %d", i, len(d.hunks))
		}
		wanted[i] = true
	}
	var out bytes.Buffer
	at := 0
	for i, edits := range d.hunks {
		if !wanted[i] {
			continue
		}
		for _, e := range d.edits[edits[0]:edits[1]] {
			joined(&out, d.old[at:e.OldFrom])
			joined(&out, d.new[e.NewFrom:e.NewTo])
			at = e.OldTo
		}
	}
	joined(&out, d.old[at:])
	return out.Bytes(), nil
}

// joined appends lines. Only the last line of a text has no end: where a chosen hunk puts lines behind it, the newline
// it lacks is added, so that two lines never become one.
func joined(out *bytes.Buffer, lines [][]byte) {
	for _, line := range lines {
		if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
			out.WriteByte('\n')
		}
		out.Write(line)
	}
}

// Quoted writes a name as git does: in double quotes with octal escapes where it holds a control character, a quote,
// a backslash or a byte outside ASCII, so that a name can neither forge a line of the diff nor act on a terminal.
func Quoted(name string) string {
	plain := true
	for _, b := range []byte(name) {
		if b < 0x20 || b >= 0x7f || b == '"' || b == '\\' {
			plain = false
		}
	}
	if plain {
		return name
	}
	out := []byte{'"'}
	for _, b := range []byte(name) {
		switch {
		case b == '"' || b == '\\':
			out = append(out, '\\', b)
		case b < 0x20 || b >= 0x7f:
			out = append(out, fmt.Sprintf("\\%03o", b)...)
		default:
			out = append(out, b)
		}
	}
	return string(append(out, '"'))
}

// sniffBytes is how much of a file is looked at to tell text from binary.
const sniffBytes = 64 << 10

// IsText tells text from binary as git does, by a NUL byte near the beginning.
func IsText(head []byte) bool {
	return bytes.IndexByte(head[:min(len(head), sniffBytes)], 0) < 0
}
