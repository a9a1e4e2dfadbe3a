//go:build linux

package changes_test

import (
	"os"
	"strings"
	"testing"
)

func sqlite(text string) string  { return "SQLite format 3\x00" + text }
func wal(text string) string     { return "\x37\x7f\x06\x82" + text }
func journal(text string) string { return "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + text }

func (r *rig) diff(path string) string {
	r.t.Helper()
	d, err := r.set.Diff(r.change(path).ID, "change", 3, 0, 1<<20)
	must(r.t, err)
	return d.Kind + " " + string(d.Bytes)
}

func TestNoMoveAndNoDeletionHidesBehindAFileThatIsShown(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rig)
		want []string
	}{
		{"a text is no database", func(r *rig) {
			r.rename("contract.docx", "notes-wal")
			r.remove("notes-journal", false)
			r.guest("notes", "new notes\n")
		}, []string{"notes modified file", "notes-journal deleted file", "notes-wal moved file from contract.docx"}},
		{"beside a database", func(r *rig) {
			r.guest("real.db", sqlite("new"))
			r.rename("contract.docx", "real.db-shm")
			r.remove("real.db-wal", false)
		}, []string{"real.db modified file", "real.db-shm moved file from contract.docx", "real.db-wal deleted file"}},
		{"a move over a database's file", func(r *rig) {
			r.guest("real.db", sqlite("new"))
			r.rename("contract.docx", "real.db-journal")
		}, []string{"real.db modified file", "real.db-journal moved file from contract.docx"}},
		{"a text becomes one", func(r *rig) {
			r.guest("notes", sqlite("new"))
			r.guest("notes-journal", journal("new"))
		}, []string{"notes modified file", "notes-journal modified file"}},
		{"the database is deleted", func(r *rig) {
			r.remove("real.db", false)
			r.remove("real.db-journal", false)
		}, []string{"real.db deleted file", "real.db-journal deleted file"}},
		{"control: a transaction that was rolled back", func(r *rig) {
			r.guest("real.db", sqlite("new"))
			r.remove("real.db-journal", false)
			r.guest("real.db-shm", "\x18\xe2\x2d\x00")
		}, []string{"real.db modified database of 3"}},
		{"control: the database itself is as it was", func(r *rig) {
			r.remove("real.db-journal", false)
		}, []string{"real.db modified database of 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.put("contract.docx", "the contract")
			r.put("notes", "old notes\n")
			r.put("notes-journal", "the user's journal\n")
			r.put("real.db", sqlite("old"))
			r.put("real.db-wal", "the user's wall\n")
			r.put("real.db-journal", journal("hot"))
			r.open()
			c.do(r)
			r.expect(c.want...)
			saw := r.sees()
			_, _, refused := r.apply(r.all())
			r.none(refused)
			if now := r.sees(); now != saw {
				t.Errorf("the guest sees\n%s\nafter the apply, was\n%s", now, saw)
			}
			if r.picture(r.lower) != saw {
				t.Errorf("the folder is\n%s\nthe guest sees\n%s", r.picture(r.lower), saw)
			}
		})
	}
}

func TestADatabasesDiffSaysWhatBecomesOfEachOfItsFiles(t *testing.T) {
	r := newRig(t)
	r.put("real.db", sqlite("old"))
	r.put("real.db-journal", journal("hot"))
	r.open()
	r.guest("real.db", sqlite("newer"))
	r.guest("real.db-wal", wal("x"))
	r.chmod("real.db-wal", 0o755)
	r.remove("real.db-journal", false)
	got := r.diff("real.db")
	for _, want := range []string{
		"text ", "modified real.db, 19 bytes before, 21 bytes\n", "deleted real.db-journal, 11 bytes\n", "new real.db-wal, 5 bytes\n", "new file mode 100755\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the diff is %q, without %q", got, want)
		}
	}
	_, _, refused := r.apply(r.chosen("real.db"))
	r.none(refused)
	if _, err := os.Lstat(r.host("real.db-journal")); err == nil {
		t.Error("the journal that was rolled back is still there")
	}
}
