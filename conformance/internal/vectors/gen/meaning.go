package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// name is a number of the layout and what it is called.
type name struct {
	n    uint64
	name string
}

// decoded says what is in words that have parts, or names for their values.
var decoded = map[string]func(uint64) string{
	"ControlHeader.Ready":   called(name{layout.ControlReady, "ControlReady"}, name{layout.ControlDestroyed, "ControlDestroyed"}),
	"ControlHeader.Steward": token,
	"Entry.State":           entryState,
	"Entry.Kind":            called(name{layout.KindSlab, "KindSlab"}, name{layout.KindApplication, "KindApplication"}),
	"Entry.Creator":         token,
	"Entry.Name":            text8,
	"Region.State":          regionState,
	"SlabHeader.Order":      called(name{layout.OrderLRU, "OrderLRU"}, name{layout.OrderS3FIFO, "OrderS3FIFO"}),
	"SlabHeader.Full":       called(name{layout.FullEvict, "FullEvict"}, name{layout.FullRefuse, "FullRefuse"}),
	"Shard.Lock":            lockWord,
	"Bucket.Slots":          func(w uint64) string { return fmt.Sprintf("cell %d, tag %#x", uint32(w), w>>layout.SlotTagShift) },
	"CellHeader.Version":    version,
	"CellHeader.Recency":    recency,
	"CellHeader.Prev":       prev,
	"CellHeader.Expiry":     expiry,
	"CellHeader.KeyFlags":   keyFlags,
	"TailHeader.Version":    version,
}

// meaning says what a field has in it: its parts, or what its description begins with.
// The four parameters of an entry have one description.
func meaning(of string, f layout.Field, i, word uint64) string {
	if decode := decoded[of+"."+f.Name]; decode != nil {
		return decode(word)
	}
	if of == "Entry" && f.Name == "Params" {
		return "slabs: " + [...]string{"shards", "cells per shard", "cell size", "capacity"}[i]
	}
	doc, _, _ := strings.Cut(f.Doc, ";")
	return doc
}

// called returns what gives a number its name.
func called(names ...name) func(uint64) string {
	return func(n uint64) string {
		for _, k := range names {
			if k.n == n {
				return k.name
			}
		}
		return "no such number"
	}
}

// bits are the names of those that are set, after what they are set in.
func bits(of string, word uint64, names ...name) string {
	for _, k := range names {
		if word&k.n != 0 {
			of += ", " + k.name
		}
	}
	return of
}

func token(w uint64) string {
	region := w >> layout.LockRegionShift & 0xffff
	if region == 0 {
		return "nobody"
	}
	return fmt.Sprintf("region %d in generation %d", region-1, w>>layout.LockGenerationShift)
}

func lockWord(w uint64) string {
	return bits(token(w), w, name{layout.LockWaiters, "LockWaiters"}, name{layout.LockStarved, "LockStarved"}, name{layout.LockInconsistent, "LockInconsistent"})
}

func entryState(w uint64) string {
	state, between, generation := w&layout.EntryStateMask, w>>layout.EntryRegionShift&0xffff, w>>layout.StateGenerationShift
	if state == layout.EntryCreating {
		return fmt.Sprintf("EntryCreating by region %d, generation %d", between-1, generation)
	}
	of := called(
		name{layout.EntryFree, "EntryFree"}, name{layout.EntryActive, "EntryActive"}, name{layout.EntryOpen, "EntryOpen"},
		name{layout.EntryDraining, "EntryDraining"}, name{layout.EntryRetired, "EntryRetired"},
	)(state)
	return fmt.Sprintf("%s, drained %d times, generation %d", of, between, generation)
}

func regionState(w uint64) string {
	of := called(name{layout.RegionFree, "RegionFree"}, name{layout.RegionClaimed, "RegionClaimed"}, name{layout.RegionReaping, "RegionReaping"})
	return fmt.Sprintf("%s, generation %d", of(w&0xffffffff), w>>layout.StateGenerationShift)
}

func version(w uint64) string {
	of := called(name{layout.VersionLive, "VersionLive"}, name{layout.VersionPart, "VersionPart"}, name{layout.VersionFree, "VersionFree"})
	return fmt.Sprintf("%s, shard %d, sequence %d", of(w&layout.VersionStateMask), w>>layout.VersionShardShift&0xff, w>>layout.VersionSequenceShift)
}

func recency(w uint64) string {
	return fmt.Sprintf("stamp %d, turn %d, count %d", w>>layout.RecencyStampShift, w>>layout.RecencyTurnShift&layout.RecencyTurnMask, w&layout.RecencyCountMask)
}

func prev(w uint64) string {
	return bits(fmt.Sprintf("neighbour towards the front %d", w&^uint64(layout.QueueSmall)), w, name{layout.QueueSmall, "QueueSmall"})
}

func expiry(w uint64) string {
	return fmt.Sprintf("wall time %d, stale for %d s", w&layout.ExpiryMask, w>>layout.ExpiryStaleShift)
}

func keyFlags(w uint64) string {
	return bits(
		fmt.Sprintf("bytes of the key %d", w&layout.KeyLengthMask), w>>layout.KeyFlagsShift,
		name{layout.FlagHashKey, "FlagHashKey"}, name{layout.FlagClaim, "FlagClaim"}, name{layout.FlagNamespace, "FlagNamespace"}, name{layout.FlagScoped, "FlagScoped"},
	)
}

// text8 is eight bytes of text.
func text8(w uint64) string {
	return strconv.QuoteToASCII(strings.TrimRight(string(binary.LittleEndian.AppendUint64(nil, w)), "\x00"))
}
