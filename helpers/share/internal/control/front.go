//go:build linux

package control

import (
	"encoding/json"
	"os"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/confine"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
)

// Run is the first cut: everything in one process, not confined yet.
func Run() error {
	var peer *contract.Peer
	s := &serving{server: &ninep.Server{}, listen: -1}
	peer = contract.NewPeer(os.Stdin, os.Stdout, map[string]contract.Handler{
		"hello": answerHello,
		"identify": func(raw json.RawMessage) (any, error) {
			var p identify
			if err := contract.Params(raw, &p); err != nil {
				return nil, err
			}
			path, err := decodeRoot(p.Root)
			if err != nil {
				return nil, err
			}
			f, err := openFolder(path)
			if err != nil {
				return nil, err
			}
			defer unix.Close(f.fd)
			name, ro, err := f.describe()
			if err != nil {
				return nil, err
			}
			return identifyResult{Identity: f.identity, Filesystem: name, ReadOnly: ro}, nil
		},
		"stats": s.stats,
		"serve": func(raw json.RawMessage) (any, error) {
			p, path, err := parseServe(raw)
			if err != nil {
				return nil, err
			}
			f, err := openFolder(path)
			if err != nil {
				return nil, err
			}
			if p.Identity != nil && *p.Identity != f.identity {
				return nil, contract.Errorf("share.identity", "The folder is not the one that was granted.")
			}
			if s.listen, err = listen(p.Listen); err != nil {
				return nil, err
			}
			proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			unix.Umask(0)
			tree, err := hostfs.New(hostfs.Options{Root: f.fd, Proc: proc, ReadOnly: p.Mode == "ro", UID: uint32(*p.Owner.UID), GID: uint32(*p.Owner.GID)})
			if err != nil {
				return nil, err
			}
			s.server.Tree = tree
			s.peer = peer
			go s.accept()
			return serveResult{Identity: f.identity, Confinement: []confine.Measure{{Name: "landlock", Reason: "not built yet"}}}, nil
		},
	})
	return peer.Serve()
}
