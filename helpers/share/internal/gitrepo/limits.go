package gitrepo

import (
	"context"
	"errors"
	"fmt"
)

// Limits. Whoever meets one gets an error that names it; the repository is then shown as not readable.
const (
	maxObject      = 64 << 20 // bytes of an object that is held in memory: all but plain blobs
	maxBlob        = 2 << 30  // bytes of a blob that is only passed on
	maxDeltaChain  = 4095     // git's own limit for what it writes
	maxPacks       = 256      // of one view
	maxPackObjects = 1 << 24  // in one pack's index
	maxRefs        = 50_000   // of one view
	maxChanges     = 5_000    // refs that the guest changed
	maxRefDepth    = 32       // directories below refs
	maxPackedRefs  = 16 << 20 // bytes
	maxIndex       = 64 << 20 // bytes
	maxEntries     = 500_000  // of an index, of a tree that is compared with one
	maxTaken       = 500_000  // objects that are taken over at once
	maxPackBytes   = 4 << 30  // of the pack that is made of them
	maxWalked      = 20_000   // commits that are looked at to compare two tips
	maxCounted     = 500      // commits that are counted
	maxTreeDepth   = 256      // directories
	maxNames       = 1 << 16  // names in one directory of the git directory
	cacheBytes     = 48 << 20 // objects kept, since deltas and walks come back to them

	// What one operation may inflate and copy. A hostile pack can make every object cost maxDeltaChain × maxObject.
	maxWork    = 64 << 30
	lookupWork = 4 << 10 // what a look-up costs beside bytes
)

// ErrLimit is behind every error that a limit makes.
var ErrLimit = errors.New("more than is looked at")

func tooMuch(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

// ErrMalformed is behind every error about bytes that are not what git writes.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// work bounds one operation.
type work struct {
	ctx  context.Context
	left int64
}

func (w *work) spend(bytes int64) error {
	w.left -= bytes + lookupWork
	if w.left < 0 {
		return tooMuch("the repository takes too much work to read")
	}
	return w.ctx.Err()
}
