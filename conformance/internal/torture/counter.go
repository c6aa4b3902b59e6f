package torture

import (
	"encoding/binary"
	"fmt"
)

// count is what is known of a key that all increment by one.
type count struct {
	begun, done uint64 // increments
	sums        []uint64
}

// sum judges the answer to an increment: low were done before it was sent.
func (c *count) sum(sum int64, low uint64) (wrong string) {
	c.done++
	if sum <= int64(low) || uint64(sum) > c.begun {
		return fmt.Sprintf("the sum is %d, of %d increments acknowledged before and %d begun by now", sum, low, c.begun)
	}
	word, bit := sum/64, uint64(1)<<(sum%64)
	for int(word) >= len(c.sums) {
		c.sums = append(c.sums, 0)
	}
	if c.sums[word]&bit != 0 {
		return fmt.Sprintf("two increments were answered with the sum %d", sum)
	}
	c.sums[word] |= bit
	return ""
}

// found judges a lookup of a counter.
func (c *count) found(b []byte, low uint64) (wrong string) {
	if len(b) != 8 {
		return fmt.Sprintf("torn: a counter of %d bytes, %x", len(b), b)
	}
	if sum := binary.LittleEndian.Uint64(b); sum < low || sum > c.begun {
		return fmt.Sprintf("the sum is %d, of %d increments acknowledged before and %d begun by now", sum, low, c.begun)
	}
	return ""
}

// missing judges that there is no counter.
func (c *count) missing(low uint64) (wrong string) {
	if low > 0 {
		return fmt.Sprintf("missing: %d increments were acknowledged before", low)
	}
	return ""
}
