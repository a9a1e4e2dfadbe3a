package main

import (
	"io"
	"reflect"
	"testing"
)

var you = guestUser{Name: "you", UID: 1000, GID: 1000, Sudo: true}

var oddValues = []string{"", "plain", `a "b" 'c'`, `\`, `\\`, `\"`, `end\`, "# no comment", " blanks ", "\ttab", "\r", "two\nlines\n", "é€😀", "$HOME `id` $(id)", "a=b", `' '"`}

func TestShellLines_EveryValueArrivesAsItIs(t *testing.T) {
	for _, v := range oddValues {
		ours, theirs, err := pipe(false)
		if err != nil {
			t.Fatal(err)
		}
		c := sh(shellLines([][2]string{{"V", v}}) + `printf %s "$V"`)
		c.files[1] = theirs.Fd()
		if _, err := testProcs().start(c); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		out, err := io.ReadAll(ours)
		ours.Close()
		if err != nil || string(out) != v {
			t.Errorf("%q became %q (%v)", v, out, err)
		}
	}
}

func TestMerged_TheHostsVariablesGoOverTheDefaults(t *testing.T) {
	got := merged(you, false, map[string]string{"PATH": "/x", "A": "1"})
	want := [][2]string{{"A", "1"}, {"LANG", "C.UTF-8"}, {"PATH", "/x"}, {"XDG_RUNTIME_DIR", "/run/user/1000"}}
	if !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestMerged_RootsOfTheirOwn_AreToldOnlyWhereSomethingLeaves(t *testing.T) {
	has := func(captured bool, env map[string]string) (value string, found bool) {
		for _, p := range merged(you, captured, env) {
			if p[0] == "SSL_CERT_FILE" {
				return p[1], true
			}
		}
		return "", false
	}
	if v, _ := has(true, nil); v != "/etc/ssl/certs/ca-certificates.crt" {
		t.Errorf("%q", v)
	}
	if _, found := has(false, nil); found {
		t.Error("a machine that nothing leaves has the variable")
	}
	if v, _ := has(true, map[string]string{"SSL_CERT_FILE": "/mine"}); v != "/mine" {
		t.Errorf("the host's own value is lost: %q", v)
	}
}
