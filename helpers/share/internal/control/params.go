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

const protocol = 4

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
	Root         string    `json:"root"`
	Mode         string    `json:"mode"`
	Identity     *identity `json:"identity,omitempty"`
	Listen       string    `json:"listen,omitempty"`
	Owner        *owner    `json:"owner"`
	HideSecrets  *bool     `json:"hideSecrets"`
	LocalFolders *bool     `json:"localFolders"`

	// Of rw and review; ro has none of them.
	Layer             *string `json:"layer,omitempty"`
	Store             *string `json:"store,omitempty"`
	Writer            *string `json:"writer,omitempty"`
	VersionLimitBytes *int64  `json:"versionLimitBytes,omitempty"`
	KeepDays          *int    `json:"keepDays,omitempty"`
}

type serveResult struct {
	Identity     identity          `json:"identity"`
	Confinement  []confine.Measure `json:"confinement"`
	LocalFolders []innerPath       `json:"localFolders"`
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

	LayerBytes *int64 `json:"layerBytes,omitempty"`
	StoreBytes *int64 `json:"storeBytes,omitempty"`
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

func parseIdentify(raw json.RawMessage) (path string, err error) {
	var p identify
	if err := contract.Params(raw, &p); err != nil {
		return "", err
	}
	return decodeRoot(p.Root)
}

func parseServe(raw json.RawMessage) (p serve, path string, err error) {
	if err := contract.Params(raw, &p); err != nil {
		return p, "", err
	}
	if path, err = decodeRoot(p.Root); err != nil {
		return p, "", err
	}
	switch {
	case p.Owner == nil || p.Owner.UID == nil || p.Owner.GID == nil || p.HideSecrets == nil || p.LocalFolders == nil:
		err = contract.BadParams("owner, hideSecrets or localFolders is missing")
	case *p.Owner.UID < 0 || *p.Owner.UID > 65535 || *p.Owner.GID < 0 || *p.Owner.GID > 65535:
		err = contract.BadParams("owner is out of bounds")
	case p.Identity != nil && !p.Identity.wellFormed():
		err = contract.BadParams("identity is out of bounds")
	case has(raw, "listen") && (p.Listen == "" || len(p.Listen) > maxHostPath):
		err = contract.BadParams("listen is out of bounds")
	default:
		err = p.checkMode()
	}
	return p, path, err
}

const maxHostPath = 4096

func (p *serve) checkMode() error {
	switch p.Mode {
	case "ro":
		if p.Layer != nil || p.Store != nil || p.Writer != nil || p.VersionLimitBytes != nil || p.KeepDays != nil {
			return contract.BadParams("a read-only folder has no layer, store, writer, versionLimitBytes or keepDays")
		}
		if p.Listen == "" {
			return contract.BadParams("listen is missing")
		}
		return nil
	case "rw", "review":
		if p.Layer == nil || p.Store == nil || p.Writer == nil {
			return contract.BadParams("layer, store or writer is missing")
		}
	default:
		return contract.BadParams("mode is none of ro, rw and review")
	}
	for _, path := range []*string{p.Layer, p.Store} {
		if *path == "" || len(*path) > maxHostPath {
			return contract.BadParams("layer or store is out of bounds")
		}
	}
	switch {
	case !writerName(*p.Writer):
		return contract.BadParams("writer is out of bounds")
	case p.VersionLimitBytes != nil && *p.VersionLimitBytes < 0:
		return contract.BadParams("versionLimitBytes is out of bounds")
	case p.KeepDays == nil || *p.KeepDays < 1 || *p.KeepDays > 3650:
		return contract.BadParams("keepDays is missing or out of bounds")
	}
	return nil
}

func writerName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// has tells an empty field from an absent one.
func has(raw json.RawMessage, field string) bool {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // was decoded before
	_, there := fields[field]
	return there
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
