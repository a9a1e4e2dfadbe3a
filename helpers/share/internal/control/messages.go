//go:build linux

package control

import (
	"encoding/base64"
	"encoding/json"

	"cloche/contract"
)

// Requests about a folder's changes and versions, as protocol.ts has them.

// innerPath is a path below the folder, components joined by slashes; base64 on the wire, as it is bytes.
type innerPath string

// maxInnerPath is protocol.ts's innerPath in bytes.
const maxInnerPath = 4096

func (p innerPath) MarshalJSON() ([]byte, error) {
	quoted := make([]byte, 0, base64.StdEncoding.EncodedLen(len(p))+2)
	return append(base64.StdEncoding.AppendEncode(append(quoted, '"'), []byte(p)), '"'), nil
}

func (p *innerPath) UnmarshalJSON(b []byte) error {
	var encoded string
	if err := json.Unmarshal(b, &encoded); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return err
	}
	if len(raw) > maxInnerPath {
		return contract.BadParams("a path is too long")
	}
	*p = innerPath(raw)
	return nil
}

type changesParams struct {
	After string `json:"after,omitempty"`
	Limit int    `json:"limit"`
}

type diffParams struct {
	ID      string `json:"id"`
	Side    string `json:"side"`
	Context int    `json:"context"`
	Offset  int64  `json:"offset"`
	Limit   int    `json:"limit"`
}

// chosen is either all at a revision, or some changes with the tokens that they were shown with.
type chosen struct {
	All      bool           `json:"all,omitempty"`
	Revision *int64         `json:"revision,omitempty"`
	Changes  []chosenChange `json:"changes,omitempty"`
}

type chosenChange struct {
	ID    string     `json:"id"`
	Token string     `json:"token"`
	Hunks []int      `json:"hunks,omitempty"`
	As    *innerPath `json:"as,omitempty"`
	Below *bool      `json:"below,omitempty"`
}

// sliced is a request that begins work with What, or goes on with Batch.
type sliced struct {
	What  *chosen `json:"what,omitempty"`
	Batch string  `json:"batch,omitempty"`
}

type undoParams struct {
	Apply string `json:"apply,omitempty"`
	Batch string `json:"batch,omitempty"`
}

type historyParams struct {
	Path  innerPath `json:"path"`
	Below bool      `json:"below"`
	After string    `json:"after,omitempty"`
	Limit int       `json:"limit"`
}

type restoreParams struct {
	Path   *innerPath `json:"path,omitempty"`
	Number *int64     `json:"number,omitempty"`
	Below  *bool      `json:"below,omitempty"`
	Batch  string     `json:"batch,omitempty"`
}

type recordedParams struct {
	Batch int64 `json:"batch"`
}

type roomParams struct {
	Answer     string `json:"answer"`
	UntilBytes *int64 `json:"untilBytes,omitempty"`
}

// Bounds of protocol.ts.
const (
	maxOpaque     = 64
	maxPage       = 500
	maxHunks      = 5000
	maxHunkIndex  = 1_000_000
	maxContext    = 100
	maxDiffSlice  = 262_144
	maxBranchName = 768 // as base64 1024
	maxBatch      = 1<<53 - 1
)

// parsed decodes a method's params and holds them against the bounds; the named fields may be absent but not empty.
func parsed[T any](raw json.RawMessage, inBounds func(*T) bool, opaque ...string) (p T, err error) {
	if err := contract.Params(raw, &p); err != nil {
		return p, err
	}
	for _, field := range opaque {
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(raw, &fields) // was decoded before
		if value, there := fields[field]; there && string(value) == `""` {
			return p, contract.BadParams("%s is empty", field)
		}
	}
	if !inBounds(&p) {
		return p, contract.BadParams("a field is out of bounds, or two exclude each other")
	}
	return p, nil
}

func parseChanges(raw json.RawMessage) (changesParams, error) {
	return parsed(raw, func(p *changesParams) bool {
		return len(p.After) <= maxOpaque && 1 <= p.Limit && p.Limit <= maxPage
	}, "after")
}

func parseDiff(raw json.RawMessage) (diffParams, error) {
	return parsed(raw, func(p *diffParams) bool {
		return opaque(p.ID) && (p.Side == "change" || p.Side == "theirs") && 0 <= p.Context && p.Context <= maxContext &&
			0 <= p.Offset && 1 <= p.Limit && p.Limit <= maxDiffSlice
	})
}

func parseApply(raw json.RawMessage) (sliced, error) {
	return parsed(raw, (*sliced).inBounds, "batch")
}

// parseDiscard: whichever way something was chosen, all of it is dropped.
func parseDiscard(raw json.RawMessage) (sliced, error) {
	return parsed(raw, func(p *sliced) bool {
		if p.What != nil {
			for _, one := range p.What.Changes {
				if one.Below != nil {
					return false
				}
			}
		}
		return p.inBounds()
	}, "batch")
}

func (p *sliced) inBounds() bool {
	if (p.What == nil) == (p.Batch == "") || len(p.Batch) > maxOpaque {
		return false
	}
	return p.What == nil || p.What.inBounds()
}

func (c *chosen) inBounds() bool {
	if c.All {
		return c.Changes == nil && c.Revision != nil && *c.Revision >= 0
	}
	if c.Revision != nil && *c.Revision < 0 || len(c.Changes) == 0 || len(c.Changes) > maxPage {
		return false
	}
	for _, one := range c.Changes {
		if !opaque(one.ID) || !opaque(one.Token) || one.Hunks != nil && len(one.Hunks) == 0 || len(one.Hunks) > maxHunks {
			return false
		}
		if one.As != nil && len(*one.As) > maxBranchName || one.Below != nil && !*one.Below {
			return false
		}
		for _, hunk := range one.Hunks {
			if hunk < 0 || hunk > maxHunkIndex {
				return false
			}
		}
	}
	return true
}

func parseUndo(raw json.RawMessage) (undoParams, error) {
	return parsed(raw, func(p *undoParams) bool {
		return len(p.Apply) <= maxOpaque && len(p.Batch) <= maxOpaque && (p.Apply == "" || p.Batch == "")
	}, "apply", "batch")
}

func parseRecorded(raw json.RawMessage) (recordedParams, error) {
	return parsed(raw, func(p *recordedParams) bool { return 1 <= p.Batch && p.Batch <= maxBatch })
}

func parseHistory(raw json.RawMessage) (historyParams, error) {
	return parsed(raw, func(p *historyParams) bool {
		return len(p.After) <= maxOpaque && 1 <= p.Limit && p.Limit <= maxPage
	}, "after")
}

func parseRestore(raw json.RawMessage) (restoreParams, error) {
	return parsed(raw, func(p *restoreParams) bool {
		if p.Batch != "" {
			return len(p.Batch) <= maxOpaque && p.Path == nil && p.Number == nil && p.Below == nil
		}
		return p.Path != nil && p.Below != nil && (p.Number == nil || *p.Number >= 1)
	}, "batch")
}

func parseRoom(raw json.RawMessage) (roomParams, error) {
	return parsed(raw, func(p *roomParams) bool {
		return (p.Answer == "allow" || p.Answer == "refuse") && (p.UntilBytes == nil || *p.UntilBytes >= 0)
	})
}

func parseNothing(raw json.RawMessage) (struct{}, error) {
	return parsed(raw, func(*struct{}) bool { return true })
}

func opaque(s string) bool { return 0 < len(s) && len(s) <= maxOpaque }

type activityEntry struct {
	What   string     `json:"what"`
	Path   innerPath  `json:"path"`
	To     *innerPath `json:"to,omitempty"`
	Count  uint64     `json:"count"`
	Bytes  *uint64    `json:"bytes,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

type activityNotice struct {
	Batch   uint64          `json:"batch"`
	Entries []activityEntry `json:"entries"`
}

type secretsResult struct {
	Paths []innerPath `json:"paths"`
	More  bool        `json:"more"`
}

// folderMethods are the requests that only the serving process can answer.
var folderMethods = []string{"changes", "diff", "apply", "discard", "applies", "undo", "history", "restore", "secrets", "room", "recorded", "stats"}

// all gives every method of a list the same handler.
func all(methods []string, handler contract.Handler) map[string]contract.Handler {
	handlers := map[string]contract.Handler{}
	for _, method := range methods {
		handlers[method] = handler
	}
	return handlers
}
