//go:build linux

package view_test

import (
	"fmt"
	"os"
	"testing"

	"cloche/share/internal/layer"
)

// A host gives the inode number of a file that is gone to the next one. The task's copy of the first keeps its qid, so the next must not get it.
func TestANumberThatTheHostUsesAgainIsNotTwoFilesForTheGuest(t *testing.T) {
	r := newRig(t)
	r.hostWrite("a", "a")
	r.mount()
	r.create("a", "task")
	qid := r.node("a").QID
	must(t, os.Remove(r.host("a")))
	met := false
	for i := 0; i < 200 && !met; i++ {
		name := fmt.Sprint("new", i)
		r.hostWrite(name, "host")
		met = r.baseOf(name).Inode == qid
	}
	if !met {
		t.Log("IGNORED: this filesystem does not use inode numbers again soon")
	}
	for range 2 {
		seen := map[uint64]string{}
		for path, s := range r.picture() {
			if other, twice := seen[s.qid]; twice {
				t.Errorf("%q and %q have one qid", path, other)
			}
			seen[s.qid] = path
		}
		if r.picture()["a"].qid != qid {
			t.Error("the task's file has another qid")
		}
		r.remount()
	}
}

func TestAnAppliedFileKeepsItsQidAndTheNumberIsNobodyElses(t *testing.T) {
	r := newRig(t)
	r.hostWrite("a", "a")
	r.mount()
	r.create("a", "task")
	e := r.node("a")
	r.hostWrite("new", "task")
	must(t, os.Rename(r.host("new"), r.host("a")))
	now := r.baseOf("a")
	must(t, r.l.Change(layer.Remove(e.ID), layer.Remember(now.Device, now.Inode, e.QID)))
	for i := range 20 {
		r.hostWrite(fmt.Sprint("other", i), "host")
	}
	for range 2 {
		seen := map[uint64]string{}
		all := r.picture()
		for path, s := range all {
			if other, twice := seen[s.qid]; twice {
				t.Errorf("%q and %q have one qid", path, other)
			}
			seen[s.qid] = path
		}
		if all["a"].qid != e.QID {
			t.Errorf("the applied file had qid %x and has %x", e.QID, all["a"].qid)
		}
		r.remount()
	}
}
