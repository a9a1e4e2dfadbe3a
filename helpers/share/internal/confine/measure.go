package confine

import "fmt"

// Measure is one means of confinement as the contract tells it.
type Measure struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Reason string `json:"reason"`
}

// maxReason is the contract's bound on Measure.Reason.
const maxReason = 512

func active(name, format string, args ...any) Measure {
	return Measure{Name: name, Active: true, Reason: cut(fmt.Sprintf(format, args...))}
}

func missing(name, format string, args ...any) Measure {
	return Measure{Name: name, Reason: cut(fmt.Sprintf(format, args...))}
}

func cut(s string) string { return s[:min(len(s), maxReason)] }
