package main

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

var you = guestUser{Name: "you", UID: 1000, GID: 1000, Sudo: true}

// argvSplit is what sshd makes of a configuration line: argv_split of OpenSSH's misc.c, with comments on.
func argvSplit(s string) ([]string, bool) {
	var argv []string
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' || s[i] == '\t' {
			continue
		}
		if s[i] == '#' {
			break
		}
		var arg []byte
		quote := byte(0)
		for ; i < len(s); i++ {
			c := s[i]
			switch {
			case c == '\\':
				if i+1 < len(s) && (s[i+1] == '\'' || s[i+1] == '"' || s[i+1] == '\\' || (quote == 0 && s[i+1] == ' ')) {
					i++
				}
				arg = append(arg, s[i])
				continue
			case quote == 0 && (c == ' ' || c == '\t'):
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
				continue
			case quote != 0 && c == quote:
				quote = 0
				continue
			default:
				arg = append(arg, c)
				continue
			}
			break
		}
		argv = append(argv, string(arg))
		if i >= len(s) && quote != 0 {
			return nil, false
		}
	}
	return argv, true
}

var oddValues = []string{"", "plain", `a "b" 'c'`, `\`, `\\`, `\"`, `end\`, "# no comment", " blanks ", "\ttab", "\r", "é€😀", "$HOME `id` $(id)", "a=b", `' '"`}

func TestSetEnv_EveryValueArrivesAsItIs(t *testing.T) {
	var pairs [][2]string
	var want []string
	for i, v := range oddValues {
		name := "V" + itoa(i)
		pairs = append(pairs, [2]string{name, v})
		want = append(want, name+"="+v)
	}
	got, ok := argvSplit(strings.TrimLeft(sshdWords(pairs), " "))
	if !ok || !reflect.DeepEqual(got, want) {
		t.Fatalf("\n%q\n%q", got, want)
	}
}

func FuzzSetEnv(f *testing.F) {
	for _, v := range oddValues {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\x00\n") {
			return
		}
		got, ok := argvSplit(sshdWords([][2]string{{"A", value}, {"B", "end"}}))
		if !ok || len(got) != 2 || got[0] != "A="+value || got[1] != "B=end" {
			t.Fatalf("%q became %q", value, got)
		}
	})
}

func TestShellLines_EveryValueArrivesAsItIs(t *testing.T) {
	for _, v := range oddValues {
		out, err := exec.Command("sh", "-c", shellLines([][2]string{{"V", v}})+`printf %s "$V"`).Output()
		if err != nil || string(out) != v {
			t.Errorf("%q became %q (%v)", v, out, err)
		}
	}
}

func TestMerged_TheHostsVariablesGoOverTheDefaults(t *testing.T) {
	got := merged(you, map[string]string{"PATH": "/x", "A": "1"})
	want := [][2]string{{"A", "1"}, {"LANG", "C.UTF-8"}, {"PATH", "/x"}, {"XDG_RUNTIME_DIR", "/run/user/1000"}}
	if !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestSshdConfig_HasOneSetEnvAndNoForeignLine(t *testing.T) {
	config := sshdConfig(you, map[string]string{"A": "x\rPermitRootLogin yes"})
	for _, line := range strings.Split(config, "\n") {
		if strings.HasPrefix(line, "PermitRootLogin") && line != "PermitRootLogin no" {
			t.Error(line)
		}
	}
	if strings.Count(config, "\nSetEnv ") != 1 {
		t.Error("sshd would read only the first SetEnv")
	}
}
