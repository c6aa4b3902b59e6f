package torture

import "fmt"

// links is what is known of a key whose values are swapped, each for the next. Each
// says which one it follows.
type links struct {
	floor uint64            // the last one that was acknowledged or seen
	of    map[uint64]uint64 // by number: who is there for good
}

// link notes that v is in the chain for good: no other may have its place.
func (l *links) link(v value) (wrong string) {
	if who, known := l.of[v.number]; known && who != v.writer {
		return fmt.Sprintf("two swaps of one value: link %d is %#x and %#x", v.number, who, v.writer)
	}
	if who, known := l.of[v.number-1]; known && who != v.before {
		return fmt.Sprintf("link %d follows %#x, but link %d is %#x", v.number, v.before, v.number-1, who)
	}
	l.of[v.number] = v.writer
	l.floor = max(l.floor, v.number)
	return ""
}

// found judges a lookup: low was the floor when it was sent.
func (l *links) found(id uint64, b []byte, low uint64) (v value, wrong string) {
	v, wrong = parse(b)
	switch {
	case wrong != "":
	case v.id != id:
		wrong = fmt.Sprintf("another key's: number %d of key %d, this is key %d", v.number, v.id, id)
	case v.number < low:
		wrong = fmt.Sprintf("older: link %d, though %d was acknowledged or seen before", v.number, low)
	default:
		wrong = l.link(v)
	}
	return v, wrong
}

// missing judges that there is no chain.
func (l *links) missing(low uint64) (wrong string) {
	if low > 0 {
		return fmt.Sprintf("missing: link %d was acknowledged or seen before", low)
	}
	return ""
}
