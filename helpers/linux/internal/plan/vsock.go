package plan

import (
	"strconv"

	"cloche/helper/internal/child"
)

// UserCID is every guest's address behind vhost-device-vsock: each device is a world of its own.
const UserCID = 3

// Vsock is a planned vhost-device-vsock.
type Vsock struct {
	Args    []string
	Confine child.Confinement
}

// PlanVsock plans the device process of one machine (arguments as of vhost-device-vsock 0.3.0).
func PlanVsock(device string, paths Paths) Vsock {
	return Vsock{
		Args: []string{"--guest-cid", strconv.Itoa(UserCID), "--socket", paths.VhostSocket, "--uds-path", paths.DeviceStreams},
		Confine: child.Confinement{
			ReadExecute: programPaths(device),
			Read:        []string{"/proc/self"},
			ReadWrite:   []string{"/dev/null"},
			Sockets:     []string{paths.Device},
		},
	}
}

// VersionConfinement is for running a program only to ask its version.
func VersionConfinement(program string) child.Confinement {
	return child.Confinement{ReadExecute: programPaths(program), ReadWrite: []string{"/dev/null"}}
}
