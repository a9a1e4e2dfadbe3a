//go:build linux

package changes_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnUndoGivesSetIDBitsBackOnlyWithOwnerAndGroup(t *testing.T) {
	r := newRig(t)
	r.put("own", "#!/bin/sh\n")
	must(t, os.Chmod(r.host("own"), 0o755|os.ModeSetuid|os.ModeSetgid))
	r.put("kept", "#!/bin/sh\n")
	r.put("other", "#!/bin/sh\n")
	r.put("group", "#!/bin/sh\n")
	root := os.Getuid() == 0
	if root {
		must(t, os.Chown(r.host("kept"), 12345, 12345))
		must(t, os.Chown(r.host("other"), 12345, 12345))
		must(t, os.Chown(r.host("group"), 0, 12345))
	} else {
		t.Log("IGNORED: files of another owner, as this is not root")
	}
	for _, path := range []string{"kept", "other", "group"} {
		must(t, os.Chmod(r.host(path), 0o755|os.ModeSetuid|os.ModeSetgid))
	}
	r.open()
	for _, path := range []string{"own", "other", "group"} {
		r.guest(path, "changed")
	}
	r.chmod("kept", 0o700)
	_, _, refused := r.apply(r.all())
	r.none(refused)
	_, refused = r.undo("")
	r.none(refused)
	for path, both := range map[string]bool{"own": true, "kept": true, "other": !root, "group": !root} {
		var st unix.Stat_t
		must(t, unix.Stat(r.host(path), &st))
		want := uint32(0o755)
		if both {
			want |= unix.S_ISUID | unix.S_ISGID
		}
		if st.Mode&0o7777 != want {
			t.Errorf("%s is of user %d, group %d and %o, not %o", path, st.Uid, st.Gid, st.Mode&0o7777, want)
		}
	}
}
