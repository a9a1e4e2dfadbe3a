package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPutFile_ReplacesALinkAndNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "hosts")
	_ = os.WriteFile(victim, []byte("keep"), 0o600)
	_ = os.Symlink(victim, path)
	if err := putFile(path, "new", 0o644, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	if kept, _ := os.ReadFile(victim); string(kept) != "keep" {
		t.Error("the target was written to")
	}
	if st, err := os.Lstat(path); err != nil || st.Mode() != 0o644 {
		t.Error(st.Mode(), err)
	}
}

func TestPutFile_AsItShouldBe_IsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put := func() os.FileInfo {
		if err := putFile(path, "x", 0o600, os.Getuid(), os.Getgid()); err != nil {
			t.Fatal(err)
		}
		st, _ := os.Stat(path)
		return st
	}
	if before := put(); !os.SameFile(before, put()) {
		t.Error("it was made anew")
	}
}

func TestPutFile_NewOrOverAHalfWrittenOne_IsWholeAndAlone(t *testing.T) {
	for name, before := range map[string][]byte{"new": nil, "half": []byte("127.0.0"), "empty": {}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "hosts")
		if before != nil {
			_ = os.WriteFile(path, before, 0o600)
		}
		if err := putFile(path, "127.0.0.1\n", 0o444, os.Getuid(), os.Getgid()); err != nil {
			t.Fatal(name, err)
		}
		content, _ := os.ReadFile(path)
		st, err := os.Lstat(path)
		if err != nil || string(content) != "127.0.0.1\n" || st.Mode() != 0o444 {
			t.Error(name, string(content), st, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Error(name, entries)
		}
	}
}

func TestLookForDisk_BySerial(t *testing.T) {
	sys := t.TempDir()
	for name, serial := range map[string]string{"vda": "layer0\n", "vdb": "data", "vdc": "twin", "vdd": "twin"} {
		_ = os.MkdirAll(filepath.Join(sys, name), 0o755)
		_ = os.WriteFile(filepath.Join(sys, name, "serial"), []byte(serial), 0o644)
		_ = os.WriteFile(filepath.Join(sys, name, "dev"), []byte("254:0\n"), 0o644)
	}
	_ = os.MkdirAll(filepath.Join(sys, "loop0"), 0o755)
	if d, err := lookForDisk(sys, "layer0"); err != nil || d != (disk{"/dev/vda", "254:0"}) {
		t.Error(d, err)
	}
	for _, serial := range []string{"nobody", "twin", "layer"} {
		if d, err := lookForDisk(sys, serial); err == nil {
			t.Errorf("%s: %v", serial, d)
		}
	}
}
