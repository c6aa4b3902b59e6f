package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// errLoader is what a loader of ours returns now and then.
var errLoader = errors.New("torture: refused to load")

// load asks for a key that expires soon, or was never there: one process at a time
// computes it.
func (p *process) load() {
	k := p.any(loaded)
	l, b := &p.Loads[k.n], k.bytes()
	if p.random.IntN(4) == 0 {
		p.readLoaded(k, b)
		return
	}
	refuse, ttl := p.random.IntN(10) == 0, time.Duration(1+p.random.IntN(50))*time.Millisecond
	it := flagstone.Item{TTL: ttl, NegativeTTL: ttl}
	if p.random.IntN(4) == 0 {
		it.StaleFor = time.Second
	}
	pause := time.Duration(0)
	if p.random.IntN(4) == 0 {
		pause = time.Duration(p.random.IntN(5)) * time.Millisecond
	}
	until := now() + uint64(usual)
	var found []byte
	err := p.do(opLoad, k, 0, usual, func(ctx context.Context) (err error) {
		found, err = p.cache.GetOrLoad(ctx, b, func(context.Context) (flagstone.Item, error) {
			number := l.Next.Add(1)
			p.entry.Number.Store(number)
			p.enter(k, until)
			defer l.By.CompareAndSwap(p.who(), 0)
			if pause > 0 {
				time.Sleep(pause)
			}
			if refuse {
				return it, fmt.Errorf("%w: %s", errLoader, k)
			}
			it.Value = p.value(k, number)
			return it, nil
		})
		return err
	})
	var other *flagstone.LoadError
	switch {
	case err == nil:
		if _, wrong := p.judgeLoaded(k, found); wrong != "" {
			p.violation(opLoad, k, wrong)
		}
	case errors.As(err, &other):
		if want := fmt.Sprintf("%v: %s", errLoader, k); !strings.HasSuffix(other.Text, want) {
			p.violation(opLoad, k, fmt.Sprintf("torn: the error's text is %q, not %q", other.Text, want))
		}
	}
}

// enter notes that this process computes the key's value, and sees that no living one
// whose time is not over does.
func (p *process) enter(k key, until uint64) {
	const slack = uint64(500 * time.Millisecond) // of clocks, for who was held up
	l := &p.Loads[k.n]
	before := l.Until.Swap(until)
	old := l.By.Swap(p.who())
	slot, life := int(old>>56), old&(1<<56-1)
	if old != 0 && old != p.who() && slot < MaxProcs && life > p.Dead[slot].Load() && now()+slack < before {
		p.violation(opLoad, k, fmt.Sprintf("computed twice at a time: also by slot %d, life %s, for another %v",
			slot, lifeName(life), time.Duration(before-now())))
	}
}

// readLoaded looks a key up without loading it. What was found cannot become older.
func (p *process) readLoaded(k key, b []byte) {
	l := &p.Loads[k.n]
	floor := l.Floor.Load()
	var found []byte
	var ok bool
	err := p.do(opRead, k, floor, 0, func(context.Context) (err error) {
		found, ok, err = p.cache.Get(nil, b)
		return err
	})
	if err != nil || !ok {
		return
	}
	v, wrong := p.judgeLoaded(k, found)
	if wrong == "" && v.number < floor {
		wrong = fmt.Sprintf("older: load %d, though %d was seen before", v.number, floor)
	}
	if wrong != "" {
		p.violation(opRead, k, wrong)
		return
	}
	raise(&l.Floor, v.number)
}

// judgeLoaded compares a loaded value with what may be.
func (l *ledger) judgeLoaded(k key, found []byte) (value, string) {
	v, wrong := parse(found)
	switch last := l.Loads[k.n].Next.Load(); {
	case wrong != "":
	case v.id != k.id():
		wrong = fmt.Sprintf("another key's: number %d of %s", v.number, keyOf(v.id))
	case v.number == 0 || v.number > last:
		wrong = fmt.Sprintf("never computed: number %d, the last is %d", v.number, last)
	}
	return v, wrong
}
