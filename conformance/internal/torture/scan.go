package torture

import (
	"fmt"
	"strings"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// scan looks at all records: each is whole, and those that must be there are, once.
func (l *life) scan() {
	o := &op{event: l.event(), line: "scan"}
	lows := l.keys.lows()
	at := l.place
	o.judge = func(o *op, a testee.Answer) string { return l.keys.scan(o, a.Rows, at, lows) }
	l.add(o)
}

// lows are how far counters and chains have come.
func (k *subjects) lows() map[*subject]uint64 {
	lows := map[*subject]uint64{}
	for _, f := range []family{counter, chain} {
		for _, s := range k.by[f][0] {
			s.mu.Lock()
			lows[s] = s.count.done + s.links.floor // one of them
			s.mu.Unlock()
		}
	}
	return lows
}

// scan judges the rows of a scan of a place.
func (k *subjects) scan(o *op, rows []string, at place, lows map[*subject]uint64) (wrong string) {
	seen := map[*subject]bool{}
	for _, row := range rows {
		w := strings.Split(row, " ")
		if len(w) != 6 {
			return "not understood: " + testee.Short(row)
		}
		key, err := testee.Bytes(w[0])
		if err != nil {
			return err.Error()
		}
		s := k.scanned(key)
		if s == nil {
			return fmt.Sprintf("a record of a key that nobody wrote: %q", key)
		}
		if traits[s.family].place != at && !(at == east && s.family == nomad) {
			o.on = s
			return "a record of another slab: " + s.String()
		}
		if s.family == cleared { // what was cleared stays until it is evicted, under another id
			continue
		}
		if seen[s] && !traits[s.family].vanishes {
			o.on = s
			return s.String() + " comes twice"
		}
		seen[s] = true
		if wrong = s.scannedValue(&o.event, w, lows[s]); wrong != "" {
			o.on = s
			return s.String() + ": " + wrong
		}
	}
	for _, s := range k.all {
		if traits[s.family].place == at && !seen[s] {
			if wrong = s.notScanned(&o.event, lows[s]); wrong != "" {
				o.on = s
				return s.String() + ": " + wrong
			}
		}
	}
	return ""
}

// scannedValue judges a row of a scan.
func (s *subject) scannedValue(e *event, w []string, low uint64) (wrong string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, version, wrong := gotten(testee.Answer{Kind: testee.OK, Words: w[1:]})
	if wrong != "" {
		return wrong
	}
	switch s.family {
	case counter:
		return s.count.found(b, low)
	case chain:
		_, wrong = s.links.found(s.id, b, low)
	default:
		_, wrong = s.found(e, b, version)
	}
	return wrong
}

// notScanned judges that a scan did not tell of the key.
func (s *subject) notScanned(e *event, low uint64) (wrong string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.family {
	case counter:
		return s.count.missing(low)
	case chain:
		return s.links.missing(low)
	}
	return s.missing(e)
}
