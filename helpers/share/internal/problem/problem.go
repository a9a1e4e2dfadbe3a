// Package problem names the codes of helpers/contract/errors.json that work on a folder's changes and versions ends with,
// so that the packages which do the work and the control that answers for them say the same.
package problem

const (
	ChangeUnknown  = "share.change-unknown"
	ChangeMovedOn  = "share.change-moved-on"
	Conflict       = "share.conflict"
	Protected      = "share.protected"
	LinkEscapes    = "share.link-escapes"
	Ignored        = "share.ignored"
	NotAppliable   = "share.not-appliable"
	NotUndoable    = "share.not-undoable"
	VersionUnknown = "share.version-unknown"
	Busy           = "share.busy"
	Layer          = "share.layer"
	Store          = "share.store"
	NoRoom         = "share.no-room"
	Native         = "share.native"
)
