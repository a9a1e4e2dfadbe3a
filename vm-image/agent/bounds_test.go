package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The numbers of bounds.go stand in protocol.ts in these words. A changed bound there fails here until both agree.
func TestBounds_AreThoseOfTheProtocol(t *testing.T) {
	source, err := os.ReadFile("../../helpers/contract/protocol.ts")
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		`vsockPort = z.int().min(1024).max(0xffff_fffe)`,
		`guestPath = text(1024).regex(/^\/[^\0]*$/)`,
		`unixNs = z.string().regex(/^[0-9]{1,20}$/)`,
		`.regex(/^[A-Za-z0-9+/]*={0,2}$/)`,
		`z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), text(32_768))`,
		`hostname: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)`,
		`name: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/)`,
		`uid: z.int().min(1000).max(65_535)`,
		`gid: z.int().min(1000).max(65_535)`,
		`entropy: base64(256)`,
		`ssh: z.strictObject({ port: vsockPort, hostKey: text(4096), authorizedKey: text(1024) })`,
		`graceMs: z.int().min(0).max(60_000)`,
		`localFolders: z
          .strictObject({ disk: z.string().regex(/^[a-z0-9-]{1,64}$/), paths: z.array(base64(5464).min(1)).min(1).max(100) })`,
		`mountMode = z.enum(["ro", "rw"])`,
		`params: z.strictObject({ guestPath, again: z.boolean().optional(), dead: z.boolean().optional() })`,
		`AGENT_PROTOCOL = 6;`,
		`argv: z.array(base64(262_144)).min(1).max(4096)`,
		`directory: guestPath,`,
		`egress: z.strictObject({ port: vsockPort, certificate: pemCertificate }).optional()`,
		`pemCertificate = text(8192).regex(/^-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,76}\n)+-----END CERTIFICATE-----\n?$/)`,
		`log: z.strictObject({ level: z.enum(["info", "warning", "error"]), message: text(4096) })`,
		`kernel: text(128)`,
	} {
		if !strings.Contains(string(source), words) {
			t.Errorf("protocol.ts has no longer %s: see bounds.go", words)
		}
	}
}

const goodConfigure = `{"protocol":1,"hostname":"receipts","user":{"name":"you","uid":1000,"gid":1000,"sudo":true},"environment":{"A":"b"},
	"timeUnixNs":"1795232517000000000","entropy":"AAAA","ssh":{"port":20000,"hostKey":"k","authorizedKey":"ssh-ed25519 AAAA"}}`

func TestConfigure_Good_IsAccepted(t *testing.T) {
	c, err := parseConfigure(json.RawMessage(goodConfigure))
	if err != nil {
		t.Fatal(err)
	}
	if c.User.home() != "/home/you" || !c.User.Sudo || c.timeNs != 1795232517000000000 || len(c.entropy) != 3 {
		t.Fatalf("%+v", c)
	}
}

func TestConfigure_CertificateOfTheProtocolsForm_IsAccepted_AnyOtherTextIsRefused(t *testing.T) {
	const head, foot = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
	for text, good := range map[string]bool{
		head + "AAAA\n" + foot:                         true,
		head + "AA+/\nAA==\n-----END CERTIFICATE-----": true,
		"":                            false,
		head + foot:                   false,
		head + "\n" + foot:            false,
		head + "AAAA\n\n" + foot:      false,
		head + "AAAA\n" + foot + "\n": false,
		head + "AAAA\r\n" + foot:      false,
		head + "AA AA\n" + foot:       false,
		head + "AAAA" + foot:          false,
		" " + head + "AAAA\n" + foot:  false,
		head + "AAAA\n" + foot + head + "AAAA\n" + foot:                      false,
		head + strings.Repeat("A", 77) + "\n" + foot:                         false,
		head + strings.Repeat(strings.Repeat("A", 64)+"\n", 126) + foot:      false,
		strings.ReplaceAll(head+"AAAA\n"+foot, "CERTIFICATE", "PRIVATE KEY"): false,
	} {
		if err := checkPEMCertificate("certificate", text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestConfigure_OutOfBounds_IsRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"unknown field":        {`"protocol":1`, `"protocol":1,"x":1`},
		"unknown inner field":  {`"sudo":true`, `"sudo":true,"x":1`},
		"missing field":        {`"hostname":"receipts",`, ``},
		"missing inner field":  {`,"sudo":true`, ``},
		"null":                 {`"hostname":"receipts"`, `"hostname":null`},
		"other case":           {`"hostname"`, `"Hostname"`},
		"fraction":             {`"port":20000`, `"port":20000.5`},
		"text for a number":    {`"port":20000`, `"port":"20000"`},
		"protocol zero":        {`"protocol":1`, `"protocol":0`},
		"host name upper case": {`"receipts"`, `"Receipts"`},
		"host name with dash":  {`"receipts"`, `"receipts-"`},
		"host name with dot":   {`"receipts"`, `"a.b"`},
		"host name too long":   {`"receipts"`, `"` + strings.Repeat("a", 64) + `"`},
		"host name empty":      {`"receipts"`, `""`},
		"user with colon":      {`"you"`, `"you:x"`},
		"user with digit":      {`"you"`, `"0you"`},
		"user root":            {`"uid":1000`, `"uid":0`},
		"uid too large":        {`"uid":1000`, `"uid":65536`},
		"gid below":            {`"gid":1000`, `"gid":999`},
		"variable with equals": {`{"A":"b"}`, `{"A=":"b"}`},
		"variable empty":       {`{"A":"b"}`, `{"":"b"}`},
		"variable with blank":  {`{"A":"b"}`, `{"A B":"b"}`},
		"variable too long":    {`{"A":"b"}`, `{"` + strings.Repeat("A", 129) + `":"b"}`},
		"value too long":       {`{"A":"b"}`, `{"A":"` + strings.Repeat("b", 32769) + `"}`},
		"value with NUL":       {`{"A":"b"}`, `{"A":"b\u0000"}`},
		"time with sign":       {`"1795232517000000000"`, `"-1"`},
		"time too long":        {`"1795232517000000000"`, `"000000000000000000001"`},
		"time beyond 2262":     {`"1795232517000000000"`, `"9999999999999999999"`},
		"entropy not base64":   {`"AAAA"`, `"A*AA"`},
		"entropy too long":     {`"AAAA"`, `"` + strings.Repeat("A", 260) + `"`},
		"port below":           {`"port":20000`, `"port":22`},
		"two authorized keys":  {`"ssh-ed25519 AAAA"`, `"ssh-ed25519 AAAA\nssh-ed25519 BBBB"`},
	} {
		text := strings.Replace(goodConfigure, change[0], change[1], 1)
		if text == goodConfigure {
			t.Errorf("%s: the test changes nothing", name)
		}
		if _, err := parseConfigure(json.RawMessage(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClip_EndsAtACharacter(t *testing.T) {
	for n := 0; n < 10; n++ {
		got := clip("aé€😀b", n)
		if len(got) > n || !strings.HasPrefix("aé€😀b", got) || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%d: %q", n, got)
		}
	}
}
