//go:build linux

package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"cloche/contract"
	"cloche/share/internal/broker"
	"cloche/share/internal/confine"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/problem"
	"cloche/share/internal/versions"
)

// kept is the folder's versions as this process has them.
type kept struct {
	store    *versions.Store
	restorer *versions.Restorer
	measures []confine.Measure
}

// openVersions opens the folder's store for this process's writer. ask tells the keeper that there is no room, refused that a
// write failed for that.
func openVersions(h *handoff, ask func(versions.Room), refused func(versions.Room, string)) (*kept, error) {
	p := &h.Serving
	k := &kept{}
	o := versions.Options{Store: confine.StoreFD, Proc: confine.ProcFD, Writer: *p.Writer, KeepDays: *p.KeepDays, Ask: ask, Refused: refused}
	if p.VersionLimitBytes != nil {
		o.LimitBytes = max(1, *p.VersionLimitBytes)
	}
	if h.Plan.Broker {
		client := broker.NewClient(os.NewFile(confine.BrokerFD, "broker"))
		measures, err := client.Measures()
		if err != nil {
			return nil, storeError(fmt.Errorf("the broker does not answer: %w", err))
		}
		k.measures, o.Broker = measures, client
	}
	var err error
	if k.store, err = versions.Open(o); err != nil {
		return nil, storeError(err)
	}
	return k, nil
}

// restoreTo makes a tree for restoring: that of rw, or one beside a tree that the guest may not write through.
func (k *kept) restoreTo(lower *hostfs.Tree, h *handoff) error {
	if h.Serving.Mode != "rw" {
		root, err := duplicate(confine.RootFD)
		if err != nil {
			return storeError(err)
		}
		lower, err = hostfs.New(hostfs.Options{Root: root, Proc: confine.ProcFD, UID: h.UID, GID: h.GID, Versions: k.store})
		if err != nil {
			return folderError(err)
		}
	}
	k.restorer = &versions.Restorer{Store: k.store, Folder: lower}
	return nil
}

// duplicate opens a directory once more; the filter knows no dup.
func duplicate(fd int) (int, error) {
	return unix.Openat(fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// storeError says what is wrong with the folder's store; its files are left as they are.
func storeError(err error) error {
	code := problem.Store
	if errors.Is(err, unix.EAGAIN) {
		code = problem.Busy
	}
	e := contract.Errorf(code, "The versions of the folder's files cannot be used: %v.", err)
	var damage *versions.Damage
	if errors.As(err, &damage) {
		e.Evidence = damage.Error()
	}
	e.Native = native(err)
	return e
}

type version struct {
	Path    innerPath       `json:"path"`
	Number  int64           `json:"number"`
	TimeMs  int64           `json:"timeMs"`
	Reason  versions.Reason `json:"reason"`
	Size    int64           `json:"sizeBytes"`
	Mode    uint32          `json:"mode"`
	MtimeNs string          `json:"mtimeNs"`
	Writer  string          `json:"writer"`
	Whole   bool            `json:"whole"`
}

type historyResult struct {
	Versions []version `json:"versions"`
	Next     string    `json:"next,omitempty"`
}

type refusedVersion struct {
	Path    innerPath `json:"path"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

type restoreResult struct {
	Batch     string           `json:"batch"`
	Refused   []refusedVersion `json:"refused"`
	Remaining int              `json:"remaining"`
	Restored  int              `json:"restored"`
	Number    int64            `json:"number,omitempty"`
}

type roomNotice struct {
	NeededBytes int64     `json:"neededBytes"`
	LimitBytes  int64     `json:"limitBytes"`
	UsedBytes   int64     `json:"usedBytes"`
	Path        innerPath `json:"path"`
}

// maxPageBytes ends a page whose paths are long before its line is too long.
const maxPageBytes = contract.MaxLineBytes / 2

func (k *kept) history(raw json.RawMessage) (any, error) {
	p, err := parseHistory(raw)
	if err != nil {
		return nil, err
	}
	before := int64(math.MaxInt64)
	if p.After != "" {
		if before, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, contract.BadParams("after is no cursor of this history")
		}
	}
	found, err := k.store.History(string(p.Path), p.Below)
	if err != nil && len(found) == 0 {
		return nil, storeError(err)
	}
	result := historyResult{Versions: []version{}}
	bytes := 0
	for _, v := range found {
		if v.Number >= before || v.Kind == versions.Directory {
			continue
		}
		if len(result.Versions) == p.Limit || bytes > maxPageBytes {
			result.Next = strconv.FormatInt(result.Versions[len(result.Versions)-1].Number, 10)
			break
		}
		bytes += 2*len(v.Path) + 256
		result.Versions = append(result.Versions, version{
			Path: innerPath(v.Path), Number: v.Number, TimeMs: max(0, v.Time.UnixMilli()), Reason: v.Reason, Size: v.Size,
			Mode: v.Mode, MtimeNs: strconv.FormatInt(max(0, v.MtimeNs), 10), Writer: v.Writer, Whole: v.Whole,
		})
	}
	if err != nil && result.Next == "" {
		return nil, storeError(err) // the last page says that there is more than can be read
	}
	return result, nil
}

func (k *kept) restore(raw json.RawMessage) (any, error) {
	p, err := parseRestore(raw)
	if err != nil {
		return nil, err
	}
	var slice versions.Slice
	if p.Batch != "" {
		slice, err = k.restorer.Next(p.Batch)
	} else {
		number := int64(0)
		if p.Number != nil {
			number = *p.Number
		}
		slice, err = k.restorer.Begin(string(*p.Path), number, *p.Below)
	}
	var damage *versions.Damage
	switch {
	case errors.Is(err, versions.ErrUnknown):
		return nil, contract.Errorf(problem.VersionUnknown, "There is no such version, or no such batch any more.")
	case err != nil && (!errors.As(err, &damage) || slice.Batch == ""):
		return nil, storeError(err)
	}
	result := restoreResult{Batch: slice.Batch, Refused: []refusedVersion{}, Remaining: slice.Remaining, Restored: slice.Restored}
	if p.Batch == "" && !*p.Below {
		result.Number = slice.Number
	}
	for _, r := range slice.Refused {
		code, message := refusal(r.Err)
		result.Refused = append(result.Refused, refusedVersion{Path: innerPath(r.Version.Path), Code: code, Message: message})
	}
	if damage != nil && len(result.Refused) < maxPage {
		result.Refused = append(result.Refused, refusedVersion{Code: problem.Store, Message: contract.Tail(damage.Error(), 512)})
	}
	return result, nil
}

func refusal(err error) (code, message string) {
	switch {
	case errors.Is(err, versions.ErrNotExact):
		return problem.VersionUnknown, "Only what was overwritten of this large file was kept, and somebody else has changed the rest since."
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return problem.NoRoom, "There is no room."
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ELOOP):
		return problem.Conflict, "Something of another kind stands there now."
	case errors.Is(err, unix.ENOENT):
		return problem.VersionUnknown, "The version's content is gone."
	}
	return problem.Native, contract.Tail(err.Error(), 512)
}

func (k *kept) answerRoom(raw json.RawMessage) (any, error) {
	p, err := parseRoom(raw)
	if err != nil {
		return nil, err
	}
	if p.Answer == "refuse" {
		k.store.Answer(0)
		return nil, nil
	}
	limit := int64(math.MaxInt64) // a yes without a bound
	if p.UntilBytes != nil {
		limit = max(1, *p.UntilBytes)
	}
	k.store.Answer(limit)
	return nil, nil
}

// brokered is the front's part for a share with versions.
type brokered struct {
	broker  *broker.Broker
	socket  *os.File
	sockets *os.File // the directory of the listening socket, whose name is removed at the end
}

// newBroker makes the broker and the serving process's end of its socket.
func newBroker(root, store *os.File, writer, listen string) (*brokered, *os.File, error) {
	ours, theirs, err := broker.Socketpair()
	if err != nil {
		return nil, nil, err
	}
	b := &brokered{socket: ours}
	sockets := -1
	if listen != "" {
		fd, err := unix.Open(filepath.Dir(listen), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			b.sockets = os.NewFile(uintptr(fd), "sockets")
			sockets = fd
		}
	}
	b.broker = &broker.Broker{
		Root: int(root.Fd()), Store: int(store.Fd()), Writer: writer,
		Seal: func() []confine.Measure { return confine.SealBroker(int(root.Fd()), int(store.Fd()), sockets) },
	}
	return b, theirs, nil
}

func (b *brokered) serve() {
	if err := b.broker.Serve(b.socket); err != nil {
		fmt.Fprintln(os.Stderr, "cloche-share:", err)
	}
	b.socket.Close() // the serving process goes on by copying
}
