package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// scan looks at all records of a place: all are whole, and those that must be there are,
// once.
func (p *process) scan() {
	f := []family{own, named, pond}[p.random.IntN(3)]
	type seen struct {
		key
		floor uint64
		times int
	}
	all := map[string]*seen{}
	for slot := range p.Procs {
		for n := range familyTraits[f].keys {
			k := key{f, slot, n}
			all[string(k.bytes())] = &seen{key: k, floor: p.floor(k)}
		}
	}
	err := p.do(opScan, none, 0, usual, func(ctx context.Context) error {
		for r, err := range p.place(f).All(ctx) {
			if err != nil {
				return err
			}
			if s := all[string(r.Key)]; s != nil {
				s.times++
				p.check(opScan, s.key, r.Value, true, s.floor)
			}
		}
		return nil
	})
	for _, s := range all {
		switch {
		case s.times > 1:
			p.violation(opScan, s.key, fmt.Sprintf("found %d times in one scan", s.times))
		case err == nil && s.times == 0:
			p.check(opScan, s.key, nil, false, s.floor)
		}
	}
}

// look opens the cache as an exporter does, without taking part.
func (p *process) look() {
	var wrong string
	var k key
	err := p.do(opLook, none, 0, generous, func(ctx context.Context) error {
		c, err := flagstone.Open(ctx, p.Name, flagstone.Options{Dir: p.Dir, ReadOnly: true})
		if err != nil {
			return err
		}
		for range 100 {
			k = p.any(own)
			floor := p.floor(k)
			found, ok, err := c.Peek(nil, k.bytes())
			if err == nil {
				if wrong = p.judge(k, found, ok, floor); wrong != "" {
					break
				}
			}
		}
		return c.Close()
	})
	if err == nil && wrong != "" {
		p.violation(opLook, k, wrong)
	}
}

// private uses a small cache of the process's own.
func (p *process) private() {
	var problem string
	err := p.do(opPrivate, none, 0, generous, func(ctx context.Context) error {
		c, err := flagstone.Open(ctx, "", flagstone.Options{Private: true, Size: 1 << 20})
		if err != nil {
			return err
		}
		defer c.Close()
		for n := range 50 {
			k := key{own, p.Slot, n % 32}
			v := value{id: k.id(), number: uint64(n)}.bytes()
			if err := c.Set(ctx, k.bytes(), v, time.Hour); err != nil {
				return err
			}
			found, ok, err := c.Get(nil, k.bytes())
			if err != nil {
				return err
			}
			if !ok || string(found) != string(v) {
				problem = fmt.Sprintf("%s in a private cache: %v, %x", k, ok, found)
			}
		}
		return nil
	})
	if err == nil && problem != "" {
		p.violation(opPrivate, none, problem)
	}
}
