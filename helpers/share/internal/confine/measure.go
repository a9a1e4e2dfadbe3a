package confine

// Measure is one means of confinement as the contract tells it.
type Measure struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Reason string `json:"reason"`
}
