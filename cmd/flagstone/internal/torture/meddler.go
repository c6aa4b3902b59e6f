package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// meddler is the kind that changes what the others work on: it adds and drains slabs,
// moves and evicts records, and is the steward now and then.
func meddler(p *process) []task {
	return []task{
		{4, p.grow},
		{4, p.drain},
		{10, p.moveWithin},
		{10, p.moveOver},
		{6, p.evictTag},
		{6, p.evictOld},
		{2, p.makeSlab},
		{2, p.lead},
		{2, p.inspect},
		{1, p.rebuild},
		{1, p.reopen},
		{1, p.become},
		{1, p.bear},
		{60, p.read},
		{60, p.write},
		{5, p.scan},
	}
}

// Each of a run's caches has so many slabs at most. What a meddler adds has a quarter of
// the first one's size.
const mostTiers = 4

// some returns the cache or the pond's, and its slabs.
func (p *process) some() (*flagstone.Cache, []*flagstone.Slab) {
	c := p.cache
	if p.random.IntN(2) == 0 {
		c = p.pond.Cache()
	}
	var tiers []*flagstone.Slab
	_ = p.do(opMove, none, 0, 0, func(context.Context) (err error) {
		tiers, err = c.Tiers()
		return err
	})
	return c, tiers
}

func (p *process) grow() {
	c, tiers := p.some()
	if len(tiers) == 0 || len(tiers) >= mostTiers {
		return
	}
	_ = p.do(opGrow, none, uint64(len(tiers)), generous, func(ctx context.Context) error {
		_, err := c.Grow(ctx, "", flagstone.Shape{Size: tierSize(p.Procs, c != p.cache)})
		return err
	})
}

func (p *process) drain() {
	_, tiers := p.some()
	if len(tiers) < 2 {
		return
	}
	t := tiers[1+p.random.IntN(len(tiers)-1)]
	_ = p.do(opDrain, none, uint64(t.Tier()), generous, func(ctx context.Context) error {
		_, err := t.Drain(ctx)
		return err
	})
}

// moveWithin moves records between slabs of a cache.
func (p *process) moveWithin() {
	c, tiers := p.some()
	if len(tiers) < 2 {
		return
	}
	from := p.random.IntN(len(tiers))
	to := (from + 1 + p.random.IntN(len(tiers)-1)) % len(tiers)
	_ = p.do(opMove, none, uint64(from<<8|to), generous, func(ctx context.Context) error {
		_, err := c.Move(ctx, tiers[from], tiers[to], 0, p.random.IntN(1000))
		return err
	})
}

// moveOver moves nomads on.
func (p *process) moveOver() {
	_ = p.do(opMove, none, 0, generous, func(ctx context.Context) error {
		_, err := p.cache.Move(ctx, p.west, p.east, 0, p.random.IntN(200))
		return err
	})
}

func (p *process) evictTag() {
	tag := uint32(1 + p.random.IntN(4))
	_ = p.do(opEvict, none, uint64(tag), generous, func(ctx context.Context) error {
		_, err := p.cache.EvictTag(ctx, tag, p.random.IntN(64))
		return err
	})
}

// evictOld evicts from the pond, by age.
func (p *process) evictOld() {
	age, limit := time.Duration(p.random.IntN(2000))*time.Millisecond, p.random.IntN(200)
	how := p.random.IntN(3)
	var pairs []flagstone.Pair
	err := p.do(opEvict, none, 0, generous, func(ctx context.Context) (err error) {
		switch how {
		case 0:
			_, err = p.pond.Cache().Evict(ctx, age, limit)
		case 1:
			_, err = p.pond.Evict(ctx, age, limit)
		default:
			pairs, err = p.pond.Cache().EvictPairs(ctx, age, limit)
		}
		return err
	})
	if err != nil {
		return
	}
	for _, pair := range pairs {
		v, wrong := parse(pair.Value)
		if k := keyOf(v.id); wrong == "" && string(k.bytes()) != string(pair.Key) {
			wrong = fmt.Sprintf("evicted key %q has the value of %s", pair.Key, k)
		}
		if wrong != "" {
			p.violation(opEvict, none, wrong)
		}
	}
}

// makeSlab makes an independent slab, uses it, and retires it; or one that a dead meddler
// has left.
func (p *process) makeSlab() {
	name := fmt.Sprintf("pool%d", p.random.IntN(2))
	var problem string
	err := p.do(opSlab, none, 0, generous, func(ctx context.Context) error {
		s, err := p.cache.CreateSlab(ctx, name, flagstone.Shape{Size: 1 << 20, Shards: 2})
		if errors.Is(err, flagstone.ErrSlabExists) {
			s, err = p.cache.OpenSlab(ctx, name)
		}
		if err != nil {
			return err
		}
		defer s.Close()
		for n := range 20 {
			k := key{own, p.Slot, n}
			if err := s.Set(ctx, k.bytes(), p.value(k, 1), flagstone.NoExpiry); err != nil {
				return err
			}
			found, ok, err := s.Get(nil, k.bytes())
			if err != nil {
				return err
			}
			if v, wrong := parse(found); ok && (wrong != "" || v.id != k.id()) {
				problem = fmt.Sprintf("%s in slab %s: %x", k, name, found)
			}
		}
		return s.Retire(ctx)
	})
	if err == nil && problem != "" {
		p.violation(opSlab, none, problem)
	}
}

// lead is the steward for a while, and resigns.
func (p *process) lead() {
	while := time.Duration(50+p.random.IntN(500)) * time.Millisecond
	_ = p.do(opLead, none, 0, while, p.cache.Lead)
}

// inspect compares the cache with itself.
func (p *process) inspect() {
	c, _ := p.some()
	var problems []string
	err := p.do(opCheck, none, 0, generous, func(ctx context.Context) (err error) {
		problems, err = c.Check(ctx)
		return err
	})
	if err == nil && len(problems) > 0 {
		p.violation(opCheck, none, fmt.Sprintf("not sound: %q", problems))
	}
}

func (p *process) rebuild() {
	c, _ := p.some()
	_ = p.do(opRebuild, none, 0, generous, c.Rebuild)
}
