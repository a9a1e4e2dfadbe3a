//go:build linux

package changes_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A name of the file outside of the folder, as `cp -al` and package managers' stores leave them.
func TestAModeIsAppliedToTheFoldersFileAlone_NotToAnotherNameOfIt(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(r.base, "outside")
	must(t, os.WriteFile(outside, []byte("outside"), 0o644))
	must(t, os.Link(outside, r.host("f")))
	r.put("single", "host")
	single, err := os.Stat(r.host("single"))
	must(t, err)
	before := r.folder()
	r.open()
	for _, path := range []string{"f", "single"} {
		r.chmod(path, 0o777)
		n := r.at(path)
		must(t, n.SetXattr("user.evil", []byte("x"), 0))
		n.Drop()
	}
	unchanged := func(when string) {
		t.Helper()
		st, err := os.Stat(outside)
		must(t, err)
		if st.Mode().Perm() != 0o644 {
			t.Errorf("%s the file outside has mode %v", when, st.Mode())
		}
		if n, err := unix.Getxattr(outside, "user.evil", make([]byte, 10)); err == nil {
			t.Errorf("%s the file outside has the attribute, %d bytes", when, n)
		}
		if data, err := os.ReadFile(outside); err != nil || string(data) != "outside" {
			t.Errorf("%s the file outside is %q, %v", when, data, err)
		}
	}
	_, done, refused := r.apply(r.all())
	r.none(refused)
	if done != 2 {
		t.Errorf("%d were applied", done)
	}
	unchanged("after the apply")
	r.content("f", "outside")
	for _, path := range []string{"f", "single"} {
		st, err := os.Stat(r.host(path))
		must(t, err)
		if st.Mode().Perm() != 0o777 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		if _, err := unix.Getxattr(r.host(path), "user.evil", make([]byte, 10)); err != nil {
			t.Errorf("%s has not the attribute: %v", path, err)
		}
	}
	if now, err := os.Stat(r.host("single")); err != nil || !os.SameFile(single, now) {
		t.Error("a file with one name was replaced")
	}
	r.expect()
	// A second name that the host gave the file since the apply: the undo is not for it either.
	must(t, os.Link(r.host("single"), filepath.Join(r.base, "later")))
	_, refused = r.undo("")
	r.none(refused)
	unchanged("after the undo")
	if st, err := os.Stat(filepath.Join(r.base, "later")); err != nil || st.Mode().Perm() != 0o777 {
		t.Errorf("the name that came later: %v, %v", st, err)
	}
	for path, was := range before {
		if now := r.folder()[path]; now != was {
			t.Errorf("%s is %q after the undo, was %q", path, now, was)
		}
	}
}
