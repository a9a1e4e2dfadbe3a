//go:build linux

// Package gittest lets real git work for a guest of tests: git runs in a copy of the folder, and what it did there is
// written into the guest's view as git writes it, beside and renamed.
package gittest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"cloche/share/internal/gitrepo"
	"cloche/share/internal/ninep"
)

const maxNames = 10_000

// Replay makes a directory of a view what a directory of the host's is.
func Replay(t testing.TB, node ninep.Node, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
	}
	d := gitrepo.FromNode(node)
	seen, err := d.Names(maxNames)
	must(err)
	list, err := os.ReadDir(dir)
	must(err)
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name()] = true
		kind, err := d.Kind(e.Name())
		missing := errors.Is(err, fs.ErrNotExist)
		if e.IsDir() {
			if missing {
				_, err := node.Mkdir(e.Name(), 0o755)
				must(err)
			}
			child, err := node.Walk(e.Name())
			must(err)
			Replay(t, child, dir+"/"+e.Name())
			child.Drop()
			continue
		}
		content, err := os.ReadFile(dir + "/" + e.Name())
		must(err)
		if !missing && kind == gitrepo.Regular {
			f, err := d.File(e.Name())
			must(err)
			old := make([]byte, f.Size())
			n, _ := f.ReadAt(old, 0)
			f.Close()
			if bytes.Equal(old[:n], content) {
				continue
			}
		}
		const writeOnlyExclusive = 0o1 | 0o200
		made, f, err := node.Create(e.Name()+".lock", writeOnlyExclusive, 0o644)
		must(err)
		_, err = f.WriteAt(content, 0)
		must(err)
		f.Close()
		made.Drop()
		must(node.Rename(e.Name()+".lock", node, e.Name()))
	}
	for _, name := range seen {
		if !there[name] {
			must(removeAll(node, name))
		}
	}
}

func removeAll(node ninep.Node, name string) error {
	child, err := node.Walk(name)
	if err != nil {
		return err
	}
	defer child.Drop()
	const directory = 0x80
	if child.QID().Type&directory == 0 {
		return node.Unlink(name, false)
	}
	names, err := gitrepo.FromNode(child).Names(maxNames)
	if err != nil {
		return err
	}
	for _, below := range names {
		if err := removeAll(child, below); err != nil {
			return err
		}
	}
	return node.Unlink(name, true)
}

// Copy writes what a view has into an empty directory of the host.
func Copy(t testing.TB, node ninep.Node, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
	}
	d := gitrepo.FromNode(node)
	names, err := d.Names(maxNames)
	must(err)
	for _, name := range names {
		kind, err := d.Kind(name)
		must(err)
		switch kind {
		case gitrepo.Directory:
			must(os.Mkdir(dir+"/"+name, 0o755))
			child, err := node.Walk(name)
			must(err)
			Copy(t, child, dir+"/"+name)
			child.Drop()
		case gitrepo.Regular:
			f, err := d.File(name)
			must(err)
			content := make([]byte, f.Size())
			n, err := f.ReadAt(content, 0)
			if err != nil && err != io.EOF {
				must(err)
			}
			f.Close()
			must(os.WriteFile(dir+"/"+name, content[:n], 0o644))
		}
	}
}
