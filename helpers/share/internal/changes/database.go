//go:build linux

package changes

import (
	"bytes"
	"fmt"
	"strings"

	"cloche/share/internal/diff"
	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// A SQLite database and what it has beside it while it is in use are one line: half of it would be no database. Only what an engine does
// is in it, so that nothing else hides behind the name of a file that is shown.

// beginning is how many bytes tell what a file of a database is.
const beginning = 16

const databaseBegins = "SQLite format 3\x00"

// besides are the files beside a database by their endings, and what they begin with.
var besides = map[string]func(begins []byte) bool{
	"-wal": func(b []byte) bool {
		return bytes.HasPrefix(b, []byte("\x37\x7f\x06\x82")) || bytes.HasPrefix(b, []byte("\x37\x7f\x06\x83"))
	},
	// An engine that keeps its journal between transactions fills the beginning with zeros.
	"-journal": func(b []byte) bool {
		return bytes.HasPrefix(b, []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")) || bytes.HasPrefix(b, make([]byte, 8))
	},
	"-shm": func(b []byte) bool {
		return bytes.HasPrefix(b, []byte("\x18\xe2\x2d\x00")) || bytes.HasPrefix(b, make([]byte, 4))
	},
}

func isDatabase(begins []byte) bool { return bytes.HasPrefix(begins, []byte(databaseBegins)) }

// databaseOf gives the database that a file lies beside by its name.
func databaseOf(name string) (main string, is func([]byte) bool) {
	at := strings.LastIndexByte(name, '-')
	if at < 1 || besides[name[at:]] == nil {
		return "", nil
	}
	return name[:at], besides[name[at:]]
}

// spot is a name in a directory.
type spot struct {
	dir  *place
	name string
}

// findDatabases finds the parts that are one line with a database.
func (f *folds) findDatabases(look *lookout, parts []part) {
	here := map[spot]*part{}
	for i := range parts {
		if main, is := databaseOf(parts[i].node.Name); is != nil {
			here[spot{parts[i].dir, main}] = nil
		}
	}
	for i := range parts {
		at := spot{parts[i].dir, parts[i].node.Name}
		if _, wanted := here[at]; wanted {
			here[at] = &parts[i]
		}
	}
	for i := range parts {
		p := &parts[i]
		name, looks := databaseOf(p.node.Name)
		at := spot{p.dir, name}
		if other := f.databases[at]; looks == nil || other != "" && other != name || !p.of(look, looks) {
			continue
		}
		path := pathIn(at.dir, name)
		if len(path) >= MaxPath {
			continue
		}
		if main := here[at]; main != nil {
			if main.kind == Deleted || !main.of(look, isDatabase) {
				continue
			}
			f.databases[at] = name
		} else if b := look.base(path); b == nil || b.Kind != layer.File || !look.begins(path, b, isDatabase) {
			continue
		}
		f.databases[spot{p.dir, p.node.Name}] = name
	}
}

// of tells whether a part is what an engine does to a file of a database in its place, and both what it makes and what it had are such a file.
func (p *part) of(look *lookout, looks func([]byte) bool) bool {
	n := p.node
	if n.Kind != layer.File || p.kind != Added && p.kind != Modified && p.kind != Deleted || n.Over != nil {
		return false
	}
	if p.kind != Deleted && (p.file == nil || p.file.Size > 0 && !looks(p.begins[:])) {
		return false
	}
	return p.base == nil || p.now == nil || look.begins(p.base.Path, p.now, looks)
}

// begins tells whether the folder's file is empty, or begins as it should.
func (l *lookout) begins(path string, b *layer.Base, looks func([]byte) bool) bool {
	if b.Kind != layer.File || b.Size == 0 {
		return b.Kind == layer.File
	}
	n, err := l.node(path)
	if err != nil {
		l.note(err)
		return false
	}
	defer n.Drop()
	f, err := n.Open(0)
	if err != nil {
		l.note(err)
		return false
	}
	defer f.Close()
	var head [beginning]byte
	read, err := f.ReadAt(head[:], 0)
	return err == nil && looks(head[:read])
}

// partLines tell what becomes of each file of a line that stands for many: of all of one that can be applied.
func partLines(c *Change) []byte {
	var lines []byte
	for i := range c.parts {
		if i == writeback.MaxSteps {
			return fmt.Appendf(lines, "and %d more, which are too many to be applied\n", len(c.parts)-i)
		}
		p := &c.parts[i]
		p.wake()
		lines = fmt.Appendf(lines, "%s %s", p.kind, diff.Quoted(p.path))
		if p.from != "" {
			lines = fmt.Appendf(lines, " from %s", diff.Quoted(p.from))
		}
		if p.base != nil {
			lines = fmt.Appendf(lines, ", %d bytes", p.base.Size)
		}
		if p.file != nil && p.base != nil {
			lines = append(lines, " before"...)
		}
		if p.file != nil {
			lines = fmt.Appendf(lines, ", %d bytes", p.file.Size)
		}
		if p.node.Kind == layer.Link && p.node.Target != "" && !p.node.Whiteout {
			lines = fmt.Appendf(lines, ", link to %s", diff.Quoted(p.node.Target))
		}
		lines = append(lines, '\n')
		if c.Type == Database {
			lines = append(lines, headLines(p)...)
		}
	}
	return lines
}
