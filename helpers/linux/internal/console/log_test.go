package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func keep(t *testing.T, source io.Reader, limit int64) (string, *Log) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "console.log")
	file, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, Keep(source, file, limit)
}

func TestLog_KeepsAllBelowTheLimit(t *testing.T) {
	path, log := keep(t, iotest.OneByteReader(strings.NewReader("hello")), 4096)
	<-log.Done()
	if got, _ := os.ReadFile(path); string(got) != "hello" || log.Bytes() != 5 {
		t.Errorf("%q, %d bytes", got, log.Bytes())
	}
	select {
	case <-log.First():
	default:
		t.Error("the first byte was not told")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}

func TestLog_KeepsTheNewest_NeverPassesTheLimit(t *testing.T) {
	const limit = 4096
	source, guest := io.Pipe()
	path, log := keep(t, source, limit)
	var all bytes.Buffer
	for i := range 2000 {
		line := fmt.Sprintf("line %d\n", i)
		all.WriteString(line)
		_, _ = io.WriteString(guest, line)
		if i%97 == 0 {
			if info, _ := os.Stat(path); info.Size() > limit {
				t.Fatalf("%d bytes", info.Size())
			}
		}
	}
	guest.Close()
	<-log.Done()
	got, _ := os.ReadFile(path)
	if !bytes.HasSuffix(all.Bytes(), got) || len(got) < limit/4 || len(got) > limit {
		t.Errorf("kept %d bytes, not the newest ones in their order", len(got))
	}
	if log.Bytes() != int64(all.Len()) {
		t.Errorf("counted %d of %d", log.Bytes(), all.Len())
	}
}

func TestLog_OneChunkPastTheLimit(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	path, log := keep(t, strings.NewReader(text), 4096)
	<-log.Done()
	if got, _ := os.ReadFile(path); !strings.HasSuffix(text, string(got)) || len(got) != 4096 {
		t.Errorf("kept %d", len(got))
	}
}

// /dev/full refuses every write: the guest must not notice.
func TestLog_FullDisk_DoesNotStopTheGuest(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	log := Keep(io.LimitReader(zeroes{}, 8<<20), full, 4096)
	select {
	case <-log.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("stuck")
	}
	if log.Bytes() != 8<<20 {
		t.Errorf("counted %d", log.Bytes())
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCreate_RefusesALink_EmptiesAndTightensAFile(t *testing.T) {
	dir := t.TempDir()
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	_ = os.WriteFile(victim, []byte("mine"), 0o644)
	_ = os.Symlink(victim, link)
	if _, err := Create(link); err == nil {
		t.Error("a link was followed")
	}
	if got, _ := os.ReadFile(victim); string(got) != "mine" {
		t.Error("and its target emptied")
	}
	file, err := Create(victim)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, _ := file.Stat(); info.Size() != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes, mode %o", info.Size(), info.Mode().Perm())
	}
}
