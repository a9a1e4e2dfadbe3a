package ignore

import "strings"

const (
	maxSteps       = 1 << 30  // a Matcher's work in its life, in characters compared; a few seconds
	maxDirectories = 1 << 16  // verdicts on directories that are remembered
	maxKeys        = 16 << 20 // bytes of their paths
)

// Matcher answers for one repository. It is not for concurrent use, and sees each .gitignore as it was when first needed.
type Matcher struct {
	keys    int // bytes of the paths that are remembered
	read    func(directory []string) ([]byte, error)
	exclude *Patterns
	files   map[string]*Patterns
	known   map[string]bool // of directories: whether they are ignored
	steps   int
}

// New makes a Matcher. read gives the content of the .gitignore in a directory, relative to the repository's top, nil
// where there is none; exclude is the content of .git/info/exclude.
func New(read func(directory []string) ([]byte, error), exclude []byte) *Matcher {
	return &Matcher{read: read, exclude: Parse(exclude), files: map[string]*Patterns{}, known: map[string]bool{}, steps: maxSteps}
}

// Ignored tells whether git ignores a path that it does not track. All below an ignored directory is ignored; no
// pattern brings it back.
func (m *Matcher) Ignored(path []string, directory bool) (bool, error) {
	for n := 1; n <= len(path); n++ {
		isDirectory := directory || n < len(path)
		key := strings.Join(path[:n], "/")
		known, found := m.known[key]
		if !found || !isDirectory {
			v, err := m.verdict(path[:n], isDirectory)
			if err != nil {
				return false, err
			}
			known = v == ignored
			if isDirectory && len(m.known) < maxDirectories && m.keys+len(key) <= maxKeys {
				m.known[key] = known
				m.keys += len(key)
			}
		}
		if known {
			return true, nil
		}
	}
	return false, nil
}

// verdict asks the files from the path's own directory upwards: the nearest that says anything decides.
func (m *Matcher) verdict(path []string, directory bool) (verdict, error) {
	for depth := len(path) - 1; depth >= 0; depth-- {
		patterns, err := m.file(path[:depth])
		if err != nil {
			return unknown, err
		}
		if v := m.match(patterns, path[depth:], directory); v != unknown {
			return v, nil
		}
	}
	return m.match(m.exclude, path, directory), nil
}

func (m *Matcher) match(patterns *Patterns, path []string, directory bool) verdict {
	if m.steps < 0 {
		return unknown
	}
	return patterns.match(path, directory, &m.steps)
}

func (m *Matcher) file(directory []string) (*Patterns, error) {
	key := strings.Join(directory, "/")
	if patterns, found := m.files[key]; found {
		return patterns, nil
	}
	content, err := m.read(directory)
	if err != nil {
		return nil, err
	}
	patterns := Parse(content)
	if len(m.files) < maxDirectories && m.keys+len(key) <= maxKeys {
		m.keys += len(key)
		m.files[key] = patterns
	}
	return patterns, nil
}
