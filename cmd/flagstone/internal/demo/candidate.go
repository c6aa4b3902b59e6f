package demo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// modest keeps a handle from being the steward.
func modest(o flagstone.Options) flagstone.Options {
	o.Steward.Off = true
	return o
}

// lead offers the process as steward until the parent hangs up.
func (p part) lead(in *json.Decoder, out *sender) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cache, err := flagstone.Open(ctx, p.Domain, flagstone.Options{
		Dir: p.Dir, MustExist: true, Steward: flagstone.StewardOptions{KeepFor: time.Hour},
	})
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
	return cache.Lead(ctx)
}
