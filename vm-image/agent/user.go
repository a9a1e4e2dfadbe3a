package main

import (
	"os"
	"strconv"
	"strings"

	"cloche/contract"
)

// guestUser is the one person of the machine.
type guestUser struct {
	Name string `json:"name"`
	UID  int64  `json:"uid"`
	GID  int64  `json:"gid"`
	Sudo bool   `json:"sudo"`
}

const (
	sudoersFile = "/etc/sudoers.d/cloche-you"
	// the group of a user who may write below /usr/local; Debian's "staff"
	extraGroups = "staff"
)

func (u guestUser) home() string { return "/home/" + u.Name }

func (u guestUser) check() error {
	if err := checkUserName(u.Name); err != nil {
		return err
	}
	if err := checkInt("user.uid", u.UID, firstUserID, lastUserID); err != nil {
		return err
	}
	return checkInt("user.gid", u.GID, firstUserID, lastUserID)
}

// make has the user exist with a home, a runtime directory and, as asked, sudo. A user of the image under another name or number
// is not renamed: files of the task's disk belong to him.
func (u guestUser) make() error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nativeError("agent.native", "the list of users cannot be read", err)
	}
	uid, gid := int(u.UID), int(u.GID)
	switch found, conflict := findUser(string(passwd), u); {
	case conflict != "":
		return contract.BadParams("the image has the user %s, the host asks for %s with uid %d and gid %d", conflict, u.Name, uid, gid)
	case !found:
		if err := u.add(string(passwd)); err != nil {
			return nativeError("agent.native", "the user cannot be added", err)
		}
	}
	if err := makeHome(u.home(), uid, gid); err != nil {
		return nativeError("agent.native", "the home folder cannot be made", err)
	}
	if err := putDir("/run/user", 0o755, 0, 0); err != nil {
		return nativeError("agent.native", "the runtime directory cannot be made", err)
	}
	if err := putDir("/run/user/"+itoa(uid), 0o700, uid, gid); err != nil {
		return nativeError("agent.native", "the runtime directory cannot be made", err)
	}
	if err := u.switchSudo(); err != nil {
		return nativeError("agent.native", "sudo cannot be switched", err)
	}
	return nil
}

// findUser looks for the user's line; conflict is a line that has his name or his number but not both.
func findUser(passwd string, u guestUser) (found bool, conflict string) {
	for _, line := range strings.Split(passwd, "\n") {
		f := strings.Split(line, ":")
		if len(f) < 7 {
			continue
		}
		sameName, sameUID, sameGID := f[0] == u.Name, f[2] == strconv.FormatInt(u.UID, 10), f[3] == strconv.FormatInt(u.GID, 10)
		if sameName && sameUID && sameGID {
			found = true
		} else if sameName || sameUID {
			return false, f[0] + " (uid " + f[2] + ", gid " + f[3] + ")"
		}
	}
	return found, ""
}

// add writes the lines that useradd would. The password `*` matches none and, unlike `!`, does not lock the account.
func (u guestUser) add(passwd string) error {
	uid, gid := strconv.FormatInt(u.UID, 10), strconv.FormatInt(u.GID, 10)
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	groups := joinGroup(string(group), extraGroups, u.Name) + u.Name + ":x:" + gid + ":\n"
	for _, file := range []struct {
		path, content string
		mode          os.FileMode
	}{
		{"/etc/group", groups, 0o644},
		{"/etc/shadow", string(shadow) + u.Name + ":*:20000:0:99999:7:::\n", 0o640},
		{"/etc/passwd", passwd + u.Name + ":x:" + uid + ":" + gid + "::" + u.home() + ":/bin/bash\n", 0o644},
	} {
		if err := putFile(file.path, file.content, file.mode, 0, shadowGroup(file.path, string(group))); err != nil {
			return err
		}
	}
	return nil
}

// shadowGroup is the group that may read /etc/shadow; all else is root's.
func shadowGroup(path, group string) int {
	if path != "/etc/shadow" {
		return 0
	}
	for _, line := range strings.Split(group, "\n") {
		if f := strings.Split(line, ":"); len(f) == 4 && f[0] == "shadow" {
			gid, _ := strconv.Atoi(f[2])
			return gid
		}
	}
	return 0
}

// joinGroup adds a member to one group of an /etc/group.
func joinGroup(group, name, member string) string {
	lines := strings.Split(group, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, name+":") {
			if !strings.HasSuffix(line, ":") {
				line += ","
			}
			lines[i] = line + member
		}
	}
	return strings.Join(lines, "\n")
}

// makeHome makes the home folder from the skeleton when it is not there. One that is there belongs to the user, who may have changed it.
func makeHome(home string, uid, gid int) error {
	if _, err := os.Lstat(home); err == nil {
		return nil
	}
	if err := putDir(home, 0o755, uid, gid); err != nil {
		return err
	}
	entries, _ := os.ReadDir("/etc/skel")
	for _, e := range entries {
		if content, err := os.ReadFile("/etc/skel/" + e.Name()); err == nil {
			if err := putFile(home+"/"+e.Name(), string(content), 0o644, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// switchSudo holds for this start of the task; the file is the image's (vm-image/rootfs). Whoever was root before may have
// left other ways to be it: a convenience, as everything in the guest.
func (u guestUser) switchSudo() error {
	if !u.Sudo {
		if err := os.Remove(sudoersFile); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	if _, err := os.Lstat(sudoersFile); err == nil && u.Name == "you" {
		return nil
	}
	return putFile(sudoersFile, u.Name+" ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440, 0, 0)
}
