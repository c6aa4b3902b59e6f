package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// worker is the kind that works with values.
func worker(p *process) []task {
	return []task{
		{3000, p.read},
		{1500, p.write},
		{100, p.readBatch},
		{100, p.writeBatch},
		{50, p.touch},
		{600, p.increment},
		{600, p.swap},
		{300, p.load},
		{5, p.scan},
		{2, p.look},
		{1, p.private},
		{1, p.reopen},
		{1, p.become},
		{1, p.bear},
	}
}

// store is where keys of a family are.
type store interface {
	Get(dst, key []byte) ([]byte, bool, error)
	GetItem(dst, key []byte) (flagstone.Item, bool, error)
	Peek(dst, key []byte) ([]byte, bool, error)
	GetBatch(b *flagstone.Batch, keys [][]byte) error
	Set(ctx context.Context, key, value []byte, ttl time.Duration) error
	SetItem(ctx context.Context, key []byte, it flagstone.Item) (flagstone.Token, error)
	SetBatch(ctx context.Context, items []flagstone.KeyItem) (int, error)
	Delete(ctx context.Context, key []byte) (bool, error)
	Touch(ctx context.Context, key []byte, ttl time.Duration) (bool, error)
	All(ctx context.Context) iter.Seq2[flagstone.Record, error]
}

// place returns where a family's keys are looked up first, and written.
func (p *process) place(f family) store {
	switch f {
	case named:
		return p.named
	case nomad:
		return p.west
	case pond:
		return p.pond
	}
	return p.cache
}

// any returns a key of any slot.
func (p *process) any(f family) key {
	k := key{family: f, n: p.random.IntN(familyTraits[f].keys)}
	if f < families {
		k.slot = p.random.IntN(p.Procs)
	}
	return k
}

// mine returns a key that this slot writes.
func (p *process) mine(f family) key {
	k := p.any(f)
	k.slot = p.Slot
	return k
}

func (p *process) family() family { return family(p.random.IntN(int(families))) }

// who is this life, in a number that others understand; see ledger.Loads.
func (p *process) who() uint64 { return uint64(p.Slot)<<56 | p.Life }

// value is what a write of that number stores.
func (p *process) value(k key, number uint64) []byte {
	b := value{id: k.id(), writer: p.who(), number: number}.bytes()
	if p.Sabotage == "tear" && p.random.IntN(100) == 0 {
		other := value{id: k.id(), writer: p.who(), number: number + 1}.bytes()
		half := min(len(b), len(other)) / 2
		copy(b[half:], other[half:])
		b[len(b)-1] ^= 1
	}
	return b
}

func (p *process) read() {
	k := p.any(p.family())
	b, in := k.bytes(), p.place(k.family)
	how := p.random.IntN(8)
	floor := p.floor(k)
	var found []byte
	var ok bool
	err := p.do(opRead, k, floor, 0, func(context.Context) (err error) {
		switch how {
		case 0:
			found, ok, err = in.Peek(nil, b)
		case 1:
			var it flagstone.Item
			it, ok, err = in.GetItem(nil, b)
			found = it.Value
		default:
			found, ok, err = in.Get(nil, b)
		}
		if k.family == nomad && !ok && err == nil { // it has moved on
			found, ok, err = p.east.Get(nil, b)
		}
		return err
	})
	if err == nil {
		p.check(opRead, k, found, ok, floor)
	}
}

// check judges what was found under a key with one writer.
func (p *process) check(op operation, k key, found []byte, ok bool, floor uint64) {
	if wrong := p.judge(k, found, ok, floor); wrong != "" {
		p.violation(op, k, wrong)
	}
}

// write does the next write of one of the slot's keys.
func (p *process) write() {
	k := p.mine(p.family())
	number := p.floor(k) + 1
	b, in := k.bytes(), p.place(k.family)
	op := opWrite
	if k.absent(number) {
		op = opDelete
	}
	how := p.random.IntN(8)
	err := p.do(op, k, number, p.patience(), func(ctx context.Context) (err error) {
		switch {
		case p.Sabotage == "forget" && p.random.IntN(100) == 0:
		case op == opDelete:
			_, err = in.Delete(ctx, b)
		case k.family == tagged:
			it := flagstone.Item{Value: p.value(k, number), Tag: uint32(1 + k.n%4)}
			if how == 0 {
				it.TTL = 20 * time.Millisecond
			}
			_, err = in.SetItem(ctx, b, it)
		case how == 0:
			_, err = in.SetItem(ctx, b, flagstone.Item{Value: p.value(k, number)})
		default:
			err = in.Set(ctx, b, p.value(k, number), flagstone.NoExpiry)
		}
		return err
	})
	if err == nil {
		raise(&p.Floors[k.family][k.slot][k.n], number)
	}
}

const batch = 16

func (p *process) readBatch() {
	f := p.family()
	if f == nomad { // which may be in two places
		f = own
	}
	var ks [batch]key
	var floors [batch]uint64
	keys := make([][]byte, batch)
	for i := range ks {
		ks[i] = p.any(f)
		keys[i], floors[i] = ks[i].bytes(), p.floor(ks[i])
	}
	var b flagstone.Batch
	err := p.do(opReadBatch, ks[0], floors[0], 0, func(context.Context) error { return p.place(f).GetBatch(&b, keys) })
	if err == nil {
		for i, k := range ks {
			found, ok := b.Value(i)
			p.check(opReadBatch, k, found, ok, floors[i])
		}
	}
}

// writeBatch writes several of the slot's keys; those whose next write is a deletion
// are left out.
func (p *process) writeBatch() {
	f := p.family()
	var ks []key
	var numbers []uint64
	var items []flagstone.KeyItem
	first := p.random.IntN(familyTraits[f].keys)
	for i := range batch {
		k := key{f, p.Slot, (first + i) % familyTraits[f].keys}
		if number := p.floor(k) + 1; !k.absent(number) {
			ks, numbers = append(ks, k), append(numbers, number)
			items = append(items, flagstone.KeyItem{Key: k.bytes(), Item: flagstone.Item{Value: p.value(k, number)}})
			if f == tagged {
				items[len(items)-1].Tag = uint32(1 + k.n%4)
			}
		}
	}
	if len(ks) == 0 {
		return
	}
	stored := 0
	err := p.do(opWriteBatch, ks[0], numbers[0], p.patience(), func(ctx context.Context) (err error) {
		stored, err = p.place(f).SetBatch(ctx, items)
		return err
	})
	if err == nil && stored != len(items) {
		p.violation(opWriteBatch, ks[0], fmt.Sprintf("%d of %d stored, and no error", stored, len(items)))
	}
	if err == nil {
		for i, k := range ks {
			raise(&p.Floors[f][p.Slot][k.n], numbers[i])
		}
	}
}

func (p *process) touch() {
	k := p.any(p.family())
	_ = p.do(opTouch, k, 0, p.patience(), func(ctx context.Context) error {
		_, err := p.place(k.family).Touch(ctx, k.bytes(), flagstone.NoExpiry)
		return err
	})
}

// increment adds one to a counter that all add to, or looks at it.
func (p *process) increment() {
	k := p.any(counter)
	b := k.bytes()
	low := increments(&p.Done, k.n)
	if p.random.IntN(4) == 0 {
		var found []byte
		var ok bool
		err := p.do(opRead, k, low, 0, func(context.Context) (err error) {
			found, ok, err = p.cache.Get(nil, b)
			return err
		})
		if err == nil {
			if wrong := p.judgeCounter(k, found, ok, low); wrong != "" {
				p.violation(opRead, k, wrong)
			}
		}
		return
	}
	var sum int64
	p.Tried[p.Slot][k.n].Add(1)
	err := p.do(opIncrement, k, low, p.patience(), func(ctx context.Context) (err error) {
		sum, err = p.cache.Increment(ctx, b, 1, 0, flagstone.NoExpiry)
		return err
	})
	switch {
	case errors.Is(err, flagstone.ErrBusy):
		p.Tried[p.Slot][k.n].Add(^uint64(0)) // it was not done
	case err == nil:
		p.Done[p.Slot][k.n].Add(1)
		if high := increments(&p.Tried, k.n); sum <= int64(low) || uint64(sum) > high {
			p.violation(opIncrement, k, fmt.Sprintf("the sum is %d, of %d increments acknowledged before and %d tried by now", sum, low, high))
		}
	}
}

// judgeCounter compares a counter with the increments: low were acknowledged before.
func (l *ledger) judgeCounter(k key, found []byte, ok bool, low uint64) string {
	if !ok {
		if low > 0 {
			return fmt.Sprintf("missing: %d increments were acknowledged before", low)
		}
		return ""
	}
	if len(found) != 8 {
		return fmt.Sprintf("torn: a counter of %d bytes, %x", len(found), found)
	}
	sum, high := binary.LittleEndian.Uint64(found), increments(&l.Tried, k.n)
	if sum < low || sum > high {
		return fmt.Sprintf("the sum is %d, of %d increments acknowledged before and %d tried by now", sum, low, high)
	}
	return ""
}

// swap puts the next link in the place of a chain's last one.
func (p *process) swap() {
	k := p.any(chain)
	c, b := &p.Chains[k.n], k.bytes()
	floor := c.Floor.Load()
	var it flagstone.Item
	var ok bool
	err := p.do(opRead, k, floor, 0, func(context.Context) (err error) {
		it, ok, err = p.cache.GetItem(nil, b)
		return err
	})
	if err != nil {
		return
	}
	last, wrong := p.judgeChain(k, it.Value, ok, floor)
	if wrong != "" {
		p.violation(opRead, k, wrong)
		return
	}
	p.swaps++
	next := value{id: k.id(), writer: mix(p.who()<<20^p.swaps) & linkMask, number: last.number + 1, before: last.writer}
	stored := false
	err = p.do(opSwap, k, next.number, p.patience(), func(ctx context.Context) (err error) {
		_, stored, err = p.cache.SwapItem(ctx, b, flagstone.Item{Value: next.bytes(), Token: it.Token})
		return err
	})
	if err == nil && stored {
		raise(&c.Floor, next.number)
		if wrong := p.link(k, next); wrong != "" {
			p.violation(opSwap, k, wrong)
		}
	}
}

const linkMask = 1<<48 - 1

// link notes a link that is in a chain for good: no other may have its place.
func (l *ledger) link(k key, v value) (wrong string) {
	word := &l.Chains[k.n].Links[v.number%links]
	mine := (v.number/links+1)<<48 | v.writer
	for {
		old := word.Load()
		switch {
		case old == mine, old>>48 > mine>>48: // known; overtaken by a whole lap
			return ""
		case old>>48 == mine>>48:
			return fmt.Sprintf("two swaps of one value: link %d is %#x and %#x", v.number, old&linkMask, v.writer)
		case word.CompareAndSwap(old, mine):
			return ""
		}
	}
}

// judgeChain compares a chain's last link with what is known of it: floor was loaded
// before the lookup.
func (l *ledger) judgeChain(k key, found []byte, ok bool, floor uint64) (v value, wrong string) {
	if !ok {
		if floor > 0 {
			return v, fmt.Sprintf("missing: link %d was acknowledged or seen before", floor)
		}
		return v, ""
	}
	v, wrong = parse(found)
	switch {
	case wrong != "":
		return v, wrong
	case v.id != k.id():
		return v, fmt.Sprintf("another key's: number %d of %s", v.number, keyOf(v.id))
	case v.number < floor:
		return v, fmt.Sprintf("older: link %d, though %d was acknowledged or seen before", v.number, floor)
	}
	c := &l.Chains[k.n]
	raise(&c.Floor, v.number)
	if before := v.number - 1; before > 0 {
		if old := c.Links[before%links].Load(); old>>48 == before/links+1 && old&linkMask != v.before {
			return v, fmt.Sprintf("link %d follows %#x, but link %d is %#x", v.number, v.before, before, old&linkMask)
		}
	}
	return v, l.link(k, v)
}
