package flagstone

// policy are the steward's options as decisions need them, in milliseconds of domain time
// and in bytes.
type policy struct {
	keep         uint64 // 0: no growing, no shrinking
	budget, size uint64 // 0: as large as tier 0
	below        float64
}

// Hysteresis, in milliseconds of domain time unless it says otherwise. What is needed has to
// be needed in a second look before a slab is added; what is not needed has to be not
// needed for a while before one goes, and in between nothing happens for some time.
const (
	growLooks   = 2
	growQuiet   = 300    // after a change, before a slab is added
	spareFor    = 3000   // how long a slab has to be not needed
	shrinkQuiet = 5000   // after a change, before a slab goes
	mostBackoff = 300000 // of what did not work; each time twice as long, from shrinkQuiet on
)

// leastPart is which part of its size a slab has to have at least.
const leastPart = 8

// move is what a steward decides to do about the number of slabs.
type move int

const (
	stay   move = iota
	grow        // add a slab
	refuse      // a slab is needed that the budget does not allow
	shrink      // drain the last one
)

// mind is what a steward remembers between its looks.
type mind struct {
	needed             int    // looks in a row in which a slab was needed
	spare              uint64 // since when the last one was not; 0: it is
	mayGrow, mayShrink uint64 // not before
	backoff            uint64 // of the next shrinking that fails
}

// decide is a pure function of what was seen now and before. Size is that of the slab to
// be added.
func (m *mind) decide(p policy, see observation) (do move, size uint64) {
	switch {
	case p.keep == 0:
		return stay, 0
	case see.leaving < p.keep:
		m.spare = 0
		if m.needed++; m.needed < growLooks || see.now < m.mayGrow {
			return stay, 0
		}
		if size = p.affords(see); size == 0 {
			return refuse, 0
		}
		return grow, size
	}
	m.needed = 0
	if !p.spares(see) {
		m.spare = 0
		return stay, 0
	}
	if m.spare == 0 || m.spare > see.now { // later than now is garbage
		m.spare = max(see.now, 1)
	}
	if see.now-m.spare >= spareFor && see.now >= m.mayShrink {
		return shrink, 0
	}
	return stay, 0
}

// spares reports whether the last slab is not needed: what there is has room in the
// others, or nobody asks for what is in it and the others keep records for long enough.
func (p policy) spares(see observation) bool {
	if see.tiers < 2 || see.draining {
		return false
	}
	return see.staying == forever || see.hits < p.below && see.staying >= p.keep+p.keep/4
}

// affords returns the size of the slab that the budget allows to add; 0 if none, or
// one so small that it were not worth a look in every lookup.
func (p policy) affords(see observation) uint64 {
	budget, size := p.budget, p.size
	if budget == 0 {
		budget = see.size
	}
	if size == 0 {
		size = see.size
	}
	left := budget - min(see.below, budget)
	if left < size/leastPart {
		return 0
	}
	return min(size, left)
}

// changed notes that the last slab is another one, whoever did it.
func (m *mind) changed(now uint64) {
	m.needed, m.spare = 0, 0
	m.mayGrow = now + growQuiet
	m.mayShrink = max(min(m.mayShrink, now+mostBackoff), now+shrinkQuiet)
}

// went notes that the last slab could be taken away.
func (m *mind) went(now uint64) {
	m.backoff, m.mayShrink = 0, 0
	m.changed(now)
}

// stayed notes that the last slab could not be taken away.
func (m *mind) stayed(now uint64) {
	m.spare = 0
	m.backoff = min(max(2*m.backoff, shrinkQuiet), mostBackoff)
	m.mayShrink = now + m.backoff
}

// failed notes that no slab could be added.
func (m *mind) failed(now uint64) { m.needed, m.mayGrow = 0, now+shrinkQuiet }
