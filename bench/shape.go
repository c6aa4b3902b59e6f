package main

import (
	"fmt"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/slab"
)

const (
	keySize  = 16
	cellStep = 64 // cells are multiples of it
)

// shape is how many records a cache holds and how many bytes a value has.
type shape struct {
	Entries int `json:"entries"`
	Value   int `json:"value_bytes"`
}

func (s shape) String() string {
	entries, value := fmt.Sprint(s.Entries), fmt.Sprintf("%d B", s.Value)
	switch {
	case s.Entries%1_000_000 == 0:
		entries = fmt.Sprintf("%d M", s.Entries/1_000_000)
	case s.Entries%1000 == 0:
		entries = fmt.Sprintf("%d k", s.Entries/1000)
	}
	if s.Value%1024 == 0 {
		value = fmt.Sprintf("%d KiB", s.Value/1024)
	}
	return entries + " x " + value
}

// slab returns options for a cache of this shape: a record fits one cell, which
// is no larger than it must be, or the default, and no record may be larger.
func (s shape) slab() (flagstone.Options, error) {
	small, err := slab.Plan(slab.Options{})
	if err != nil {
		return flagstone.Options{}, err
	}
	head := int(uint64(small.CellSize) - small.Payload())
	cell := (head + keySize + s.Value + cellStep - 1) / cellStep * cellStep
	cell = max(cell, int(small.CellSize))
	return flagstone.Options{
		Steward: flagstone.StewardOptions{Off: true}, // nothing moves but what a contestant moves
		Entries: uint64(s.Entries), CellSize: cell, MaxKey: keySize, MaxValue: cell - head - keySize,
	}, nil
}
