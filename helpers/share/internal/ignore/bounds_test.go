package ignore

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func topFile(content string) *Matcher {
	return New(func(directory []string) ([]byte, error) {
		if len(directory) == 0 {
			return []byte(content), nil
		}
		return nil, nil
	}, nil)
}

func TestAHostileFileCostsABoundedTime(t *testing.T) {
	long := strings.Repeat("a", 255)
	for name, file := range map[string]string{
		"stars":           strings.Repeat(strings.Repeat("*a", 60)+"b\n", 5000),
		"stars of depth":  strings.Repeat(strings.Repeat("**/a/", 40)+"b\n", 5000),
		"one long star":   strings.Repeat("*"+strings.Repeat("a", 120)+"b\n", 5000),
		"a huge bracket":  "[" + strings.Repeat("a", maxFile) + "\n",
		"a huge line":     strings.Repeat("x/", maxFile),
		"nothing but NUL": strings.Repeat("\x00", maxFile),
	} {
		t.Run(name, func(t *testing.T) {
			m := topFile(file)
			m.steps /= 10 // all of them are spent by some of these
			began := time.Now()
			for range 2000 {
				got, err := m.Ignored([]string{"x", "a", "a", "a", "a", "a", "a", "a", long}, false)
				if err != nil || got {
					t.Fatal(got, err)
				}
			}
			// The bound is on steps; the clock only tells that there is one.
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestWhatIsBehindABoundIsShownAndNotIgnored(t *testing.T) {
	if got, _ := topFile(strings.Repeat("# comment\n", 10)+"x\n").Ignored([]string{"x"}, false); !got {
		t.Error("control: x is not ignored")
	}
	if got, _ := topFile(strings.Repeat("#", maxFile)+"\nx\n").Ignored([]string{"x"}, false); got {
		t.Error("a pattern behind the first 256 KiB counts")
	}
	if got, _ := topFile(strings.Repeat("y\n", maxPatterns)+"x\n").Ignored([]string{"x"}, false); got {
		t.Error("a pattern behind the first 4096 counts")
	}
	spent := topFile("x\n")
	spent.steps = -1
	if got, _ := spent.Ignored([]string{"x"}, false); got {
		t.Error("a path is ignored after the work was spent")
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	broken := errors.New("no")
	m := New(func([]string) ([]byte, error) { return nil, broken }, nil)
	if _, err := m.Ignored([]string{"x"}, false); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func FuzzIgnored(f *testing.F) {
	f.Add("a/**/[!b]\\ \n", "a/b")
	f.Fuzz(func(t *testing.T, file, path string) {
		if _, err := topFile(file).Ignored(strings.Split(path, "/"), false); err != nil {
			t.Error(err)
		}
	})
}
