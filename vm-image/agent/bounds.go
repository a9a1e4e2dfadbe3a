package main

import (
	"encoding/base64"
	"strconv"
	"strings"

	"cloche/contract"
)

// The bounds of helpers/contract/protocol.ts that its types cannot carry into Go. Lengths there count UTF-16 units.
const (
	maxHostname      = 63
	maxUserName      = 32
	firstUserID      = 1000
	lastUserID       = 65_535
	maxVariableName  = 128
	maxVariableValue = 32_768
	maxEntropyText   = 256
	maxHostKey       = 4096
	maxAuthorizedKey = 1024
	maxGuestPath     = 1024
	maxGraceMs       = 60_000
	maxCertificate   = 8192
	maxPEMLine       = 76
	maxWords         = 4096
	maxWordText      = 262_144

	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	base64s = upper + lower + digits + "+/="
)

func checkInt(name string, n, min, max int64) error {
	if n < min || n > max {
		return contract.BadParams("%s is not between %d and %d", name, min, max)
	}
	return nil
}

func checkLength(name, text string, max int) error {
	if utf16Length(text) > max {
		return contract.BadParams("%s is longer than %d", name, max)
	}
	return nil
}

func utf16Length(text string) int {
	n := 0
	for _, r := range text {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// checkHostname: ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$
func checkHostname(name string) error {
	if len(name) < 1 || len(name) > maxHostname || !only(name, lower+digits+"-") || name[0] == '-' || name[len(name)-1] == '-' {
		return contract.BadParams("hostname is not a host name")
	}
	return nil
}

// checkUserName: ^[a-z][a-z0-9-]{0,31}$
func checkUserName(name string) error {
	if len(name) < 1 || len(name) > maxUserName || !only(name[:1], lower) || !only(name, lower+digits+"-") {
		return contract.BadParams("user.name is not a user name")
	}
	return nil
}

// checkVariableName: ^[A-Za-z_][A-Za-z0-9_]{0,127}$
func checkVariableName(name string) error {
	if len(name) < 1 || len(name) > maxVariableName || !only(name[:1], lower+upper+"_") || !only(name, lower+upper+digits+"_") {
		return contract.BadParams("environment has a name that is no variable's")
	}
	return nil
}

// parseUnixNs: ^[0-9]{1,20}$, and within the kernel's clock.
func parseUnixNs(name, text string) (int64, error) {
	if len(text) < 1 || len(text) > 20 || !only(text, digits) {
		return 0, contract.BadParams("%s is not a number of nanoseconds", name)
	}
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, contract.BadParams("%s is beyond the clock's range, which ends in 2262", name)
	}
	return ns, nil
}

// parseBase64: ^[A-Za-z0-9+/]*={0,2}$
func parseBase64(name, text string, max int) ([]byte, error) {
	if len(text) > max || !only(text, base64s) {
		return nil, contract.BadParams("%s is not base64 of at most %d characters", name, max)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, contract.BadParams("%s is not base64", name)
	}
	return b, nil
}

// checkGuestPath: ^\/[^\0]*$ of at most 1024
func checkGuestPath(name, path string) error {
	if err := checkLength(name, path, maxGuestPath); err != nil {
		return err
	}
	if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return contract.BadParams("%s is not absolute, or holds NUL", name)
	}
	return nil
}

// checkPEMCertificate: ^-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,76}\n)+-----END CERTIFICATE-----\n?$
func checkPEMCertificate(name, text string) error {
	if err := checkLength(name, text, maxCertificate); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	last := len(lines) - 1
	good := last >= 2 && lines[0] == "-----BEGIN CERTIFICATE-----" && lines[last] == "-----END CERTIFICATE-----"
	for i := 1; good && i < last; i++ {
		good = len(lines[i]) >= 1 && len(lines[i]) <= maxPEMLine && only(lines[i], base64s)
	}
	if !good {
		return contract.BadParams("%s is not one certificate in PEM", name)
	}
	return nil
}
