//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hugelgupf/p9/p9"
)

// What a user asks of a folder, timed from the request to its last answer.

const (
	changedFiles = 10_000
	textBytes    = 10 << 20
)

// task is one such thing; prepare's work is not timed.
type task struct {
	name, mode string
	prepare    func(c *contender, m *mount) error
	run        func(c *contender) error
}

var tasks = []task{
	{"list 10,000 changes", "review", newFiles, listChanges},
	{"diff of a 10 MB text", "review", changedText, diffText},
	{"restore 10,000 files deleted in rw", "rw", deletedFiles, restoreAll},
}

type taskResult struct {
	Task string    `json:"task"`
	Ms   []float64 `json:"ms"`
	// PrepareMs is what the guest's side of it took, through 9P.
	PrepareMs []float64 `json:"prepareMs"`
}

// benchTasks runs each task on a folder, layer and store of its own.
func benchTasks(share, base string, rounds int, only string) ([]taskResult, error) {
	results := []taskResult{}
	for _, t := range tasks {
		if !strings.Contains(t.name, only) {
			continue
		}
		r := taskResult{Task: t.name}
		for round := range rounds {
			took, prepared, err := onceTask(t, share, filepath.Join(base, fmt.Sprintf("task-%s-%d", strings.Fields(t.name)[0], round)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			r.Ms = append(r.Ms, float64(took.Microseconds())/1000)
			r.PrepareMs = append(r.PrepareMs, float64(prepared.Microseconds())/1000)
		}
		fmt.Fprintf(os.Stderr, "%-36s %v (prepared in %v)\n", t.name, r.Ms, r.PrepareMs)
		results = append(results, r)
	}
	return results, nil
}

func onceTask(t task, share, folder string) (took, prepared time.Duration, err error) {
	if err := os.Mkdir(folder, 0o777); err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(folder)
	c, err := startOurs(share, folder, t.mode, guestMSize)
	if err != nil {
		return 0, 0, err
	}
	defer c.stop()
	m, err := c.dial(c.msize)
	if err != nil {
		return 0, 0, err
	}
	defer m.close()
	begin := time.Now()
	if err := t.prepare(c, m); err != nil {
		return 0, 0, err
	}
	prepared = time.Since(begin)
	begin = time.Now()
	err = t.run(c)
	return time.Since(begin), prepared, err
}

func nthFile(i int) (dir, name string) { return fmt.Sprintf("d%02d", i%100), fmt.Sprintf("f%05d", i) }

func newFiles(_ *contender, m *mount) error {
	for i := range 100 {
		if _, err := m.root.Mkdir(fmt.Sprintf("d%02d", i), 0o755, 0, 0); err != nil {
			return err
		}
	}
	for i := range changedFiles - 100 { // the directories are changes too
		dir, name := nthFile(i)
		_, d, err := m.root.Walk([]string{dir})
		if err != nil {
			return err
		}
		f, _, _, err := d.Create(name, p9.ReadWrite, 0o644, 0, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("new\n"), 0); err != nil {
			return err
		}
		_ = f.Close()
	}
	return nil
}

func listChanges(c *contender) error {
	seen := 0
	params := map[string]any{"limit": 500}
	for {
		page, err := c.call("changes", params)
		if err != nil {
			return err
		}
		seen += len(page["changes"].([]any))
		next, more := page["next"]
		if !more {
			break
		}
		params["after"] = next
	}
	if seen < changedFiles-1 {
		return fmt.Errorf("only %d changes of %d", seen, changedFiles)
	}
	return nil
}

// changedText is a text of numbered lines in which the guest changes each hundredth.
func changedText(c *contender, m *mount) error {
	var before, after bytes.Buffer
	for i := 0; before.Len() < textBytes; i++ {
		line := fmt.Sprintf("line %d of a text that is long enough to be a log or a table\n", i)
		before.WriteString(line)
		if i%100 == 0 {
			line = strings.ToUpper(line)
		}
		after.WriteString(line)
	}
	if err := os.WriteFile(filepath.Join(c.folder, "text"), before.Bytes(), 0o666); err != nil {
		return err
	}
	f, err := m.open("text", p9.ReadWrite)
	if err != nil {
		return err
	}
	defer f.Close()
	for at, all := 0, after.Bytes(); at < len(all); {
		n, err := f.WriteAt(all[at:min(at+blockSize, len(all))], int64(at))
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

func diffText(c *contender) error {
	page, err := c.call("changes", map[string]any{"limit": 10})
	if err != nil {
		return err
	}
	id := page["changes"].([]any)[0].(map[string]any)["id"]
	total := 0
	for offset := any(0); ; {
		part, err := c.call("diff", map[string]any{"id": id, "side": "change", "context": 3, "offset": offset, "limit": 262_144})
		if err != nil {
			return err
		}
		if part["kind"] != "text" {
			return fmt.Errorf("the diff is %v, not a text", part["kind"])
		}
		total += base64.StdEncoding.DecodedLen(len(part["bytes"].(string)))
		next, more := part["next"]
		if !more {
			break
		}
		offset = next
	}
	if total < textBytes/100 {
		return fmt.Errorf("a diff of %d bytes", total)
	}
	return nil
}

// deletedFiles are the host's; the guest deletes them all.
func deletedFiles(c *contender, m *mount) error {
	for i := range 100 {
		if err := os.Mkdir(filepath.Join(c.folder, fmt.Sprintf("d%02d", i)), 0o777); err != nil {
			return err
		}
	}
	for i := range changedFiles {
		dir, name := nthFile(i)
		if err := os.WriteFile(filepath.Join(c.folder, dir, name), []byte(name), 0o644); err != nil {
			return err
		}
	}
	for i := range changedFiles {
		dir, name := nthFile(i)
		_, d, err := m.root.Walk([]string{dir})
		if err != nil {
			return err
		}
		if err := d.UnlinkAt(name, 0); err != nil {
			return err
		}
		_ = d.Close()
	}
	return nil
}

func restoreAll(c *contender) error {
	restored := 0
	params := map[string]any{"path": "", "below": true}
	for {
		part, err := c.call("restore", params)
		if err != nil {
			return err
		}
		restored += int(part["restored"].(float64))
		if part["remaining"].(float64) == 0 {
			break
		}
		params = map[string]any{"batch": part["batch"]}
	}
	for i := range changedFiles {
		dir, name := nthFile(i)
		got, err := os.ReadFile(filepath.Join(c.folder, dir, name))
		if err != nil || string(got) != name {
			return fmt.Errorf("%s is not as it was: %q, %v (%d restored)", name, got, err, restored)
		}
	}
	return nil
}
