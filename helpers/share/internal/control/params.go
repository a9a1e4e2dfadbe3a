//go:build linux

package control

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/confine"
)

// The messages of `share` in helpers/contract/protocol.ts, with its bounds.

const protocol = 1

type hello struct {
	Protocol int    `json:"protocol"`
	Client   string `json:"client"`
}

type helloResult struct {
	Protocol int    `json:"protocol"`
	Name     string `json:"name"`
	Version  string `json:"version"`
}

// identity is what a folder is, beyond its path.
type identity struct {
	Volume string `json:"volume"`
	File   string `json:"file"`
	BornNs string `json:"bornNs,omitempty"`
}

type owner struct {
	UID *int `json:"uid"`
	GID *int `json:"gid"`
}

type serve struct {
	Root     string    `json:"root"`
	Mode     string    `json:"mode"`
	Identity *identity `json:"identity,omitempty"`
	Listen   string    `json:"listen"`
	Owner    *owner    `json:"owner"`
}

type serveResult struct {
	Identity    identity          `json:"identity"`
	Confinement []confine.Measure `json:"confinement"`
}

type identify struct {
	Root string `json:"root"`
}

type identifyResult struct {
	Identity   identity `json:"identity"`
	Filesystem string   `json:"filesystem"`
	ReadOnly   bool     `json:"readOnly"`
}

type statsResult struct {
	Connections  int64 `json:"connections"`
	Fids         int64 `json:"fids"`
	Requests     int64 `json:"requests"`
	BytesRead    int64 `json:"bytesRead"`
	BytesWritten int64 `json:"bytesWritten"`
}

type detached struct {
	Reason string `json:"reason"`
}

func answerHello(raw json.RawMessage) (any, error) {
	var p hello
	if err := contract.Params(raw, &p); err != nil {
		return nil, err
	}
	if p.Protocol < 1 || len(p.Client) > 64 {
		return nil, contract.BadParams("protocol or client is out of bounds")
	}
	if p.Protocol != protocol {
		return nil, contract.Errorf("protocol.version", "This share server speaks protocol %d, the client %d.", protocol, p.Protocol)
	}
	return helloResult{Protocol: protocol, Name: "cloche-share", Version: Version}, nil
}

// Version is told in hello; the build sets it.
var Version = "0.1.0"

// decodeRoot gives the folder's path, which is bytes and not text.
func decodeRoot(encoded string) (string, error) {
	if len(encoded) > 8192 {
		return "", contract.BadParams("root is too long")
	}
	path, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", contract.BadParams("root is not base64")
	}
	for _, b := range path {
		if b == 0 {
			return "", contract.BadParams("root has a NUL byte")
		}
	}
	if len(path) == 0 || path[0] != '/' {
		return "", contract.BadParams("root is not an absolute path")
	}
	return string(path), nil
}

func parseServe(raw json.RawMessage) (p serve, path string, err error) {
	if err := contract.Params(raw, &p); err != nil {
		return p, "", err
	}
	if path, err = decodeRoot(p.Root); err != nil {
		return p, "", err
	}
	switch {
	case p.Mode != "ro" && p.Mode != "rw":
		err = contract.BadParams("mode is neither ro nor rw")
	case p.Listen == "" || len(p.Listen) > 4096:
		err = contract.BadParams("listen is out of bounds")
	case p.Owner == nil || p.Owner.UID == nil || p.Owner.GID == nil:
		err = contract.BadParams("owner is missing")
	case *p.Owner.UID < 0 || *p.Owner.UID > 65535 || *p.Owner.GID < 0 || *p.Owner.GID > 65535:
		err = contract.BadParams("owner is out of bounds")
	case p.Identity != nil && !p.Identity.wellFormed():
		err = contract.BadParams("identity is out of bounds")
	}
	return p, path, err
}

func (i *identity) wellFormed() bool {
	return decimal(i.Volume) && decimal(i.File) && (i.BornNs == "" || decimal(i.BornNs))
}

// same holds a granted identity against the folder's. A birth time counts when both sides know one.
func (i *identity) same(found identity) bool {
	return i.Volume == found.Volume && i.File == found.File && (i.BornNs == "" || found.BornNs == "" || i.BornNs == found.BornNs)
}

func decimal(s string) bool {
	if len(s) == 0 || len(s) > 20 {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func identityOf(st *unix.Statx_t) identity {
	id := identity{
		Volume: strconv.FormatUint(unix.Mkdev(st.Dev_major, st.Dev_minor), 10),
		File:   strconv.FormatUint(st.Ino, 10),
	}
	if st.Mask&unix.STATX_BTIME != 0 && st.Btime.Sec >= 0 {
		id.BornNs = strconv.FormatUint(uint64(st.Btime.Sec)*1e9+uint64(st.Btime.Nsec), 10)
	}
	return id
}
