//go:build !wip

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// modest keeps a handle from being the steward.
func modest(o flagstone.Options) flagstone.Options { return o }

// lead offers the process as steward until the parent hangs up.
func (p part) lead(in *json.Decoder, out *sender) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cache, err := flagstone.Open(ctx, p.Domain, flagstone.Options{Dir: p.Dir, MustExist: true})
	if err != nil {
		return err
	}
	defer cache.Close()
	if err := out.send(event{Ready: true}); err != nil {
		return err
	}
	go func() {
		defer cancel()
		for in.Decode(&order{}) == nil {
		}
	}()
	for ctx.Err() == nil {
		leading, err := cache.Table().Lead()
		if err == nil && leading {
			err = attend(ctx, cache)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// attend adds a slab when the first is nearly full, and drains it when all would fit
// the first easily.
func attend(ctx context.Context, cache *flagstone.Cache) error {
	all, err := cache.TierStats()
	if err != nil {
		return err
	}
	used, most := all[0].Cells, room(all[0])
	switch {
	case len(all) == 1 && used > most*3/4:
		_, err = cache.Grow(ctx, "tier-1", flagstone.Shape{})
	case len(all) == 2 && used+all[1].Cells < most*5/8:
		var tiers []*flagstone.Slab
		if tiers, err = cache.Tiers(); err == nil && len(tiers) == 2 {
			_, err = tiers[1].Drain(ctx)
		}
	}
	if errors.Is(err, flagstone.ErrRetired) || errors.Is(err, flagstone.ErrState) {
		return nil // another was quicker
	}
	return err
}
