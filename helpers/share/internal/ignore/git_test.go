package ignore

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// ask gives git's own opinion on paths of a repository. A path that ends in a slash is a directory; git looks at what is
// there, and would take the slash for a part of the path.
func ask(t *testing.T, repository string, paths []string) map[string]bool {
	t.Helper()
	command := exec.Command("git", "check-ignore", "--no-index", "-z", "--stdin")
	command.Dir = repository
	command.Env = []string{"HOME=" + repository, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1"}
	command.Stdin = strings.NewReader(strings.ReplaceAll(strings.Join(paths, "\x00")+"\x00", "/\x00", "\x00"))
	var errors bytes.Buffer
	command.Stderr = &errors
	out, err := command.Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("git check-ignore: %v: %s", err, errors.String())
	}
	said := map[string]bool{}
	for _, path := range strings.Split(string(out), "\x00") {
		said[path] = true
	}
	return said
}

func matcherFor(repository string) *Matcher {
	exclude, _ := os.ReadFile(filepath.Join(repository, ".git", "info", "exclude"))
	return New(func(directory []string) ([]byte, error) {
		content, err := os.ReadFile(filepath.Join(append(append([]string{repository}, directory...), ".gitignore")...))
		if os.IsNotExist(err) {
			return nil, nil
		}
		return content, err
	}, exclude)
}

func newRepository(t *testing.T) string {
	t.Helper()
	repository := t.TempDir()
	for _, directory := range []string{"objects", "refs", "info"} {
		must(t, os.MkdirAll(filepath.Join(repository, ".git", directory), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(repository, ".git", "HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
	return repository
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare makes the paths, asks git and us, and gives how many are ignored.
func compare(t *testing.T, repository string, paths []string) int {
	t.Helper()
	m := matcherFor(repository)
	said := ask(t, repository, paths)
	count := 0
	for _, path := range paths {
		components := strings.Split(strings.TrimSuffix(path, "/"), "/")
		got, err := m.Ignored(components, strings.HasSuffix(path, "/"))
		must(t, err)
		if want := said[strings.TrimSuffix(path, "/")]; got != want {
			var files strings.Builder
			_ = filepath.Walk(repository, func(file string, _ os.FileInfo, _ error) error {
				if base := filepath.Base(file); base == ".gitignore" || base == "exclude" {
					content, _ := os.ReadFile(file)
					fmt.Fprintf(&files, "\n%s: %q", strings.TrimPrefix(file, repository), content)
				}
				return nil
			})
			t.Errorf("%q: ignored %v, git says %v%s", path, got, want, files.String())
		}
		if got {
			count++
		}
	}
	return count
}

func TestGitAgreesOnGeneratedFiles(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("this test compares with git, which is not there")
	}
	random := rand.New(rand.NewSource(7))
	pick := func(from ...string) string { return from[random.Intn(len(from))] }
	piece := func() string {
		return pick("a", "b", "ab", "abc", "a.o", "*", "*", "**", "***", "?", "a*", "*b", "*.o", "a?c", "[ab]", "[!a]", "[^b]", "[a-c]", "[]a]", "[!]a]", "[a/b]", "[[:alpha:]]", "[[:digit:]x]",
			"[[:nope:]]", "[a", "a[", "\\*", "\\a", "\\", "[\\]a]", "[a-]", "[-a]", "a**b", "x y", "\xff", "[[:alpha:]-b]", "[a-\\c]", "[[:a]", "ü", "[b-a]", "a\\", "{a,b}", "**a", "[*]", "[/]")
	}
	line := func() string {
		s := pick("", "", "", "", "!", "!", "/", "!/", "**/", "#", "\\!", "\\#", " ", "./")
		for n := 1 + random.Intn(3); n > 0; n-- {
			s += piece()
			if n > 1 {
				s += pick("/", "/", "/", "/**/", "", "//", "\\/")
			}
		}
		return s + pick("", "", "", "", "/", "/", "/**", " ", "\\ ", "  ", " \\ ", "\r", "/*", "\t", "\\\\", "/ ")
	}
	file := func() []byte {
		var b strings.Builder
		b.WriteString(pick("", "", "", "\xef\xbb\xbf"))
		for n := random.Intn(7); n > 0; n-- {
			b.WriteString(line() + pick("\n", "\n", "\n", "\r\n", "\n\n"))
		}
		return []byte(strings.TrimRight(b.String(), pick("", "\n")))
	}
	names := []string{"a", "b", "ab", "abc", "a.o", "b.o", "c", "*", "x y", "-", "]", "!a", "#a", "ü", "\xff", "a ", "axb", "1", "\\", "[", "a\\", "[a", "[ab]", "a\t"}
	total, checked := 0, 0
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for range rounds {
		repository := newRepository(t)
		tree := map[string]bool{}
		var directories []string
		for range 40 {
			path := pick(names...)
			if len(directories) > 0 && random.Intn(4) > 0 {
				path = pick(directories...) + path
			}
			_, isFile := tree[path]
			if tree[path+"/"] || isFile {
				continue
			}
			if strings.Count(path, "/") < 3 && random.Intn(2) == 0 {
				must(t, os.Mkdir(filepath.Join(repository, path), 0o755))
				path += "/"
				directories = append(directories, path)
			} else {
				must(t, os.WriteFile(filepath.Join(repository, path), nil, 0o644))
			}
			tree[path] = true
		}
		must(t, os.WriteFile(filepath.Join(repository, ".gitignore"), file(), 0o644))
		for _, directory := range directories {
			if random.Intn(3) == 0 {
				must(t, os.WriteFile(filepath.Join(repository, directory, ".gitignore"), file(), 0o644))
			}
		}
		must(t, os.WriteFile(filepath.Join(repository, ".git", "info", "exclude"), file(), 0o644))
		var paths []string
		for path := range tree {
			paths = append(paths, path)
		}
		sort.Strings(paths)
		total += compare(t, repository, paths)
		checked += len(paths)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d paths, %d of them ignored", checked, total)
	if total < checked/10 || total > checked*9/10 {
		t.Error("the corpus says little: nearly all paths have one verdict")
	}
}

// The manual's own rules, one each, with git's word on them.
func TestTheManualsRulesHold(t *testing.T) {
	for name, c := range map[string]struct {
		file, nested string
		ignored      []string
		not          []string
	}{
		"a name at any depth":                    {"node_modules\n", "", []string{"node_modules/", "d/node_modules/", "d/node_modules/x"}, []string{"node_modules2"}},
		"anchored by a slash in front":           {"/build\n", "", []string{"build"}, []string{"d/build"}},
		"anchored by a slash in the middle":      {"d/out\n", "", []string{"d/out"}, []string{"x/d/out", "out"}},
		"directories only":                       {"log/\n", "", []string{"log/", "d/log/", "log/x"}, []string{"d/x/log"}},
		"a negation brings back":                 {"*.o\n!keep.o\n", "", []string{"a.o", "d/a.o"}, []string{"keep.o", "d/keep.o"}},
		"not below an ignored directory":         {"out/\n!out/keep\n", "", []string{"out/keep"}, []string{"keep"}},
		"all but one, the manual's example":      {"/*\n!/foo\n/foo/*\n!/foo/bar\n", "", []string{"x", "foo/x"}, []string{"foo/", "foo/bar/", "foo/bar/x"}},
		"two stars in front":                     {"**/foo/bar\n", "", []string{"foo/bar", "a/b/foo/bar"}, []string{"foo/x/bar"}},
		"two stars at the end":                   {"abc/**\n", "", []string{"abc/x", "abc/x/y"}, []string{"abc/", "d/abc/x"}},
		"two stars in between":                   {"a/**/b\n", "", []string{"a/b", "a/x/b", "a/x/y/b"}, []string{"b", "x/a/b"}},
		"a nested file decides before the top's": {"*.log\n", "!*.log\n", []string{"a.log"}, []string{"d/a.log", "d/e/a.log"}},
		"escapes":                                {"\\#x\n\\!y\nz\\ \n", "", []string{"#x", "!y", "z "}, []string{"x", "y", "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			repository := newRepository(t)
			must(t, os.WriteFile(filepath.Join(repository, ".gitignore"), []byte(c.file), 0o644))
			paths := append(append([]string{}, c.ignored...), c.not...)
			sort.Sort(sort.Reverse(sort.StringSlice(paths)))
			for _, path := range paths {
				if strings.HasSuffix(path, "/") {
					must(t, os.MkdirAll(filepath.Join(repository, path), 0o755))
				} else if _, err := os.Lstat(filepath.Join(repository, path)); err != nil {
					must(t, os.MkdirAll(filepath.Dir(filepath.Join(repository, path)), 0o755))
					must(t, os.WriteFile(filepath.Join(repository, path), nil, 0o644))
				}
			}
			if c.nested != "" {
				must(t, os.WriteFile(filepath.Join(repository, "d", ".gitignore"), []byte(c.nested), 0o644))
			}
			if got := compare(t, repository, paths); got != len(c.ignored) {
				t.Errorf("%d are ignored, want %d", got, len(c.ignored))
			}
		})
	}
}
