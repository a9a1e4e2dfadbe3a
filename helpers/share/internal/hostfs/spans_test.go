//go:build linux

package hostfs

import (
	"math/rand/v2"
	"testing"

	"cloche/share/internal/wire"
)

// What is counted is what the kernel holds: each byte as the last lock on it says, and no two spans that could be one.
func TestLockedSpansAreWhatTheLastLocksSay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var bytes [64]uint8
		for i := range bytes {
			bytes[i] = wire.LockUnlock
		}
		var held []span
		for range 40 {
			start := r.Uint64N(64)
			s := span{start, start + 1 + r.Uint64N(64-start), []uint8{wire.LockRead, wire.LockWrite, wire.LockUnlock}[r.IntN(3)]}
			held = with(held, s)
			want := 0
			for i := range bytes {
				if uint64(i) >= s.start && uint64(i) < s.end {
					bytes[i] = s.kind
				}
				if bytes[i] != wire.LockUnlock && (i == 0 || bytes[i-1] != bytes[i]) {
					want++
				}
			}
			if len(held) != want {
				t.Fatalf("%d spans, want %d: %v", len(held), want, held)
			}
			for i, h := range held {
				if i > 0 && held[i-1].end > h.start {
					t.Fatalf("not in order: %v", held)
				}
				for b := h.start; b < h.end; b++ {
					if bytes[b] != h.kind {
						t.Fatalf("byte %d: %v", b, held)
					}
				}
			}
		}
	}
}
