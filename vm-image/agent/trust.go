package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The host ends TLS with certificates of an authority that is this run's alone, and the guest's programs are to trust it as they trust the
// world's. These files say so, and the image has all links to them in place (vm-image/rootfs/finish.sh):
//
//	/etc/ssl/cloche/ca.pem                         the authority; /usr/local/share/ca-certificates/cloche.crt, OpenSSL's hashed link and
//	                                               Firefox's policy lead to it
//	/etc/ssl/certs/ca-certificates.crt             the bundle of all authorities, with it at the end
//	                                               and read by OpenSSL, GnuTLS, Go and, through p11-kit, NSS
//	/etc/chromium/policies/managed/cloche.json     Chromium and Chrome have roots of their own, and take more from a policy
//
// They lie in the hot layer, which is the initramfs's memory under the overlay, fresh at each start. They are written there, by a descriptor
// and before any program of the guest has seen them: nothing is copied onto the task's disk, nothing is read from the image, and no
// authority of an earlier start is left. Only where the task's disk has a file of its own in their place (after update-ca-certificates,
// say) is that one rewritten. Java's keystore is there only once Java is (java.go).
const (
	authorityFile = "etc/ssl/cloche/ca.pem"
	bundleFile    = "etc/ssl/certs/ca-certificates.crt"
	chromiumFile  = "etc/chromium/policies/managed/cloche.json"

	// in the subject of every authority of ours, so that one of an earlier start is known
	authorityName = "Cloche task CA"
	// The world's authorities are 220 KB; a bundle above this is nobody's.
	maxBundle = 4 << 20
)

// Programs with roots of their own are told of ours by variables; what looks into the system's store needs none.
var trustVariables = map[string]string{
	"NODE_EXTRA_CA_CERTS":              "/" + authorityFile, // Node's own builds; Debian's uses the system's store
	"REQUESTS_CA_BUNDLE":               "/" + bundleFile,    // Python's requests, and pip before 24.2: certifi
	"SSL_CERT_FILE":                    "/" + bundleFile,    // OpenSSL of other origin (conda, uv's Pythons), httpx, Rust programs
	"AWS_CA_BUNDLE":                    "/" + bundleFile,    // botocore and the AWS CLI
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/" + bundleFile,
	"DENO_TLS_CA_STORE":                "system",
}

// trust makes the certificate, in PEM, one of the guest's authorities.
func (r *rootState) trust(certificate string) error {
	if !strings.HasSuffix(certificate, "\n") {
		certificate += "\n"
	}
	return errors.Join(
		r.trustAlone(authorityFile, certificate),
		r.trustAlone(chromiumFile, `{"CACertificates":["`+pemBody(certificate)+"\"]}\n"),
		r.trustInBundle(certificate),
	)
}

// trustAlone has a file say this and nothing else.
func (r *rootState) trustAlone(name, content string) error {
	if done, err := r.writeHot(name, content, unix.O_TRUNC); done {
		return err
	}
	if _, err := os.Lstat("/" + name); os.IsNotExist(err) {
		return nil // its user has arranged it in another way
	}
	return putFile("/"+name, content, 0o644, 0, 0)
}

func (r *rootState) trustInBundle(certificate string) error {
	if done, err := r.writeHot(bundleFile, certificate, unix.O_APPEND); done {
		return err
	}
	const path = "/" + bundleFile
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == unix.ENOENT || err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	} else if err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Size > maxBundle {
		return &os.PathError{Op: "read", Path: path, Err: unix.EFBIG}
	}
	bundle, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return putFile(path, withAuthority(string(bundle), certificate), 0o644, 0, 0)
}

// writeHot writes to a file of the hot layer, anew or at its end; not done where the image has none, or the task's disk hides it.
func (r *rootState) writeHot(name, content string, how int) (done bool, err error) {
	var st unix.Stat_t
	if r.hotFd < 0 || unix.Fstatat(r.dataFd, "upper/"+name, &st, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT {
		return false, nil
	}
	fd, err := unix.Openat(r.hotFd, name, unix.O_WRONLY|how|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err == nil {
		f := os.NewFile(uintptr(fd), name)
		_, err = f.WriteString(content)
		f.Close()
	}
	return true, err
}

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

// withAuthority gives the bundle without authorities of earlier starts and with this one at its end.
func withAuthority(bundle, certificate string) string {
	var kept strings.Builder
	for {
		begin := strings.Index(bundle, pemBegin)
		if begin < 0 {
			break
		}
		length := strings.Index(bundle[begin:], pemEnd)
		if length < 0 {
			break
		}
		end := begin + length + len(pemEnd)
		if end < len(bundle) && bundle[end] == '\n' {
			end++
		}
		if isAuthority(bundle[begin:end]) {
			kept.WriteString(bundle[:begin])
		} else {
			kept.WriteString(bundle[:end])
		}
		bundle = bundle[end:]
	}
	kept.WriteString(bundle)
	if text := kept.String(); text != "" && !strings.HasSuffix(text, "\n") {
		kept.WriteByte('\n')
	}
	return kept.String() + certificate
}

func isAuthority(block string) bool {
	der, err := base64.StdEncoding.DecodeString(pemBody(block))
	return err == nil && bytes.Contains(der, []byte(authorityName))
}

// pemBody is the base64 of a block, in one line.
func pemBody(block string) string {
	_, body, _ := strings.Cut(block, pemBegin)
	body, _, _ = strings.Cut(body, pemEnd)
	return strings.Join(strings.Fields(body), "")
}
