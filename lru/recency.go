package lru

import "github.com/flagstone-shm/flagstone/internal/layout"

// Recency packs a stamp, domain time in milliseconds, and a turn, the count
// being 0.
func Recency(stamp, turn uint64) uint64 {
	return stamp<<layout.RecencyStampShift | turn&layout.RecencyTurnMask<<layout.RecencyTurnShift
}

// Stamp returns the last use noted in a recency word, domain time in milliseconds.
func Stamp(recency uint64) uint64 { return recency >> layout.RecencyStampShift }

// Due reports whether a hit should try to promote the record: it went to the
// front in another turn.
func Due(recency, turn uint64) bool {
	return (recency>>layout.RecencyTurnShift^turn)&layout.RecencyTurnMask != 0
}

// Touch stamps a record as used now, unless it was stamped within the grain, in
// milliseconds, and raises its count by raise, 0 or 1, as far as the count goes. It
// takes no lock: a CAS from the word that the reader saw while the version was
// right, the stamp forward only, and only when the word changes. If somebody else
// changed it meanwhile, who need not have stamped it, it tries again some times;
// that the cell may belong to another record by then does no harm, as no stamp is
// ever too old by it. A time beyond 48 bits is no time.
func Touch(c *layout.CellHeader, seen, now, grain, raise uint64) {
	for range touchAttempts {
		word := seen + raise&^(seen&(seen>>1)) // a count with both its bits set stays
		if Stamp(seen)+grain < now && now <= 1<<(64-layout.RecencyStampShift)-1 {
			word = now<<layout.RecencyStampShift | word&(1<<layout.RecencyStampShift-1)
		}
		if word == seen || c.Recency.CompareAndSwap(seen, word) {
			return
		}
		seen = c.Recency.Load()
	}
}

const touchAttempts = 3
