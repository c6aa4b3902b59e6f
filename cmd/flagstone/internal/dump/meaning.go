package dump

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// meaning says what a field's value means; a plain number by itself.
func meaning(of, field string, index, v uint64, raw []byte) string {
	switch of + "." + field {
	case "ControlHeader.Checksum":
		return checksum(v, raw[:layout.ControlHeaderChecksummed])
	case "SlabHeader.Checksum":
		return checksum(v, raw[:layout.SlabHeaderChecksummed])
	case "ControlHeader.Totals", "Region.Counters":
		if index >= layout.CounterTierHits && index < layout.CounterTierHits+layout.TierCounters {
			return fmt.Sprint(v, " ", tierCounter(index))
		}
		return strings.TrimSpace(fmt.Sprint(v, " ", nameAt(counters, index, "")))
	}
	for _, name := range []string{of + "." + field, field} {
		if means, ok := meanings[name]; ok {
			return means(v)
		}
	}
	return strconv.FormatUint(v, 10)
}

// meanings are of fields whose values are no plain numbers; STRUCT.FIELD, or FIELD
// where all structs agree.
var meanings = map[string]func(uint64) string{
	"Magic":       func(v uint64) string { return strconv.QuoteToASCII(string(le(v))) },
	"Endian":      expected(layout.EndianMark),
	"Fingerprint": expected(layout.Fingerprint),
	"Created":     wallTime, "Joined": wallTime, "WallClock": wallTime,
	"DomainClock": uptime,
	"HashSeed":    hexadecimal, "SegmentID": hexadecimal, "PidfdInode": hexadecimal,
	"Stack": func(v uint64) string {
		if v == 0 {
			return "none"
		}
		return "of segment " + hexadecimal(v)
	},

	"ControlHeader.Ready": named("unknown", layout.ControlReady, "ready", layout.ControlDestroyed, "destroyed", 0, "never completed"),
	"SlabHeader.Ready":    named("unknown", 1, "ready", 0, "never completed"),

	"Mutex.Word": lockWord, "Shard.Lock": lockWord, "Entry.Creator": lockWord,

	"ControlHeader.Steward": func(v uint64) string {
		if v == 0 {
			return "nobody"
		}
		return lockWord(v)
	},

	"Entry.State": func(v uint64) string {
		state, half := entryState(v&layout.EntryStateMask), v>>layout.EntryDrainsShift&0xffff
		switch {
		case half == 0:
		case v&layout.EntryStateMask == layout.EntryCreating:
			state += fmt.Sprintf(" by region %d", half-1)
		default:
			state += fmt.Sprintf(", drain %d", half)
		}
		return fmt.Sprintf("%s, generation %d", state, v>>layout.StateGenerationShift)
	},
	"Entry.Kind": func(v uint64) string {
		if v >= layout.KindApplication {
			return "the application's"
		}
		return named("unknown", layout.KindNone, "none", layout.KindSlab, "slab")(v)
	},
	"Region.State": func(v uint64) string {
		return fmt.Sprintf("%s, generation %d", regionState(v&0xffffffff), v>>layout.StateGenerationShift)
	},
	"WakeMode":   named("unknown", layout.WakePoll, "polls", layout.WakeFutex, "futex", layout.WakeSignal, "signal"),
	"WakeSignal": signalName,
	"Sleeping":   named("unknown", 0, "no", 1, "yes"),
	"Reasons":    flags("none", layout.ReasonTable, "table"),

	"Order": named("unknown", layout.OrderLRU, "lru", layout.OrderS3FIFO, "s3fifo"),
	"Full":  named("unknown", layout.FullEvict, "evict", layout.FullRefuse, "refuse"),

	"Epoch": func(v uint64) string {
		state := "at rest"
		if v&layout.EpochRebuilding != 0 {
			state = "being rebuilt, or abandoned in a rebuild"
		}
		text := fmt.Sprintf("%s, %d rebuilds", state, v&layout.EpochRebuildMask/2)
		if below := v / layout.EpochRemoval; below != 0 {
			text += fmt.Sprintf(", %d removals from tiers below", below)
		}
		return text
	},
	"FreeHead": cell, "Front": cell, "Back": cell, "SmallFront": cell, "SmallBack": cell,
	"OverflowHead": overflow, "Link": overflow,
	"AgeSum": millis, "AgeLast": millis,

	"Slots": func(v uint64) string {
		return fmt.Sprintf("%s, tag %08x", cell(v&0xffffffff), v>>layout.SlotTagShift)
	},
	"Version": version,
	"Recency": func(v uint64) string {
		return fmt.Sprintf("used %s, turn %d, count %d", uptime(v>>layout.RecencyStampShift),
			v>>layout.RecencyTurnShift&layout.RecencyTurnMask, v&layout.RecencyCountMask)
	},
	"Prev": func(v uint64) string {
		return cell(v&^layout.QueueSmall) + map[bool]string{true: ", in the small queue"}[v&layout.QueueSmall != 0]
	},
	"Next": cell, "Chain": cell,
	"Expiry": func(v uint64) string {
		if v == 0 {
			return "never"
		}
		return fmt.Sprintf("%s, stale for %d s", wallTime(v&layout.ExpiryMask), v>>layout.ExpiryStaleShift)
	},
	"KeyFlags": func(v uint64) string {
		return fmt.Sprintf("%d bytes, %s", v&layout.KeyLengthMask, recordFlags(v>>layout.KeyFlagsShift))
	},
}

// wholes are arrays that mean something as a whole.
var wholes = map[string]func(b []byte) string{
	"DomainUUID": func(b []byte) string { return fmt.Sprintf("%016x%016x", word(b), word(b[8:])) },
	"BootID":     func(b []byte) string { return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]) },
	"Instance":   func(b []byte) string { return fmt.Sprintf("%x", b) },
	"Name":       func(b []byte) string { return strconv.QuoteToASCII(string(bytes.TrimRight(b, "\x00"))) },
}

// counters are the names of a region's counters.
var counters = []string{
	layout.CounterHits: "hits", layout.CounterMisses: "misses", layout.CounterLockWaits: "lock waits",
	layout.CounterSteals: "steals", layout.CounterSets: "sets", layout.CounterDeletes: "deletes",
	layout.CounterLoads: "loads", layout.CounterLoadErrors: "load errors", layout.CounterLoadWaits: "load waits",
	layout.CounterStale: "stale", layout.CounterRefused: "refused", layout.CounterRebuilds: "rebuilds",
}

// tierCounter names the hits of a tier.
func tierCounter(i uint64) string {
	tier := i - layout.CounterTierHits
	if tier == layout.TierCounters-1 {
		return fmt.Sprintf("hits in tier %d and below", tier)
	}
	return fmt.Sprintf("hits in tier %d", tier)
}

func nameAt(names []string, i uint64, unknown string) string {
	if i < uint64(len(names)) {
		return names[i]
	}
	return unknown
}

var (
	regionState = named("unknown state", layout.RegionFree, "free", layout.RegionClaimed, "claimed", layout.RegionReaping, "being reaped")
	entryState  = named("unknown state", layout.EntryFree, "free", layout.EntryCreating, "creating", layout.EntryActive, "active",
		layout.EntryOpen, "open", layout.EntryDraining, "draining", layout.EntryRetired, "retired")
	claimState  = named("unknown", layout.ClaimLoading, "loading", layout.ClaimFailed, "failed")
	heldMode    = named("unknown", layout.HeldNone, "unused", layout.HeldWanted, "wanted", layout.HeldOwned, "owned")
	cellState   = named("unknown state", layout.VersionLive, "live", layout.VersionPart, "tail, or head being written", layout.VersionFree, "free")
	lockFlags   = flags("", layout.LockWaiters, "waiters", layout.LockStarved, "starved", layout.LockInconsistent, "inconsistent")
	recordFlags = flags("plain key", layout.FlagHashKey, "hash key", layout.FlagClaim, "claim", layout.FlagNamespace, "namespace", layout.FlagScoped, "in a namespace")
)

// named names values: a number and its name, and so on.
func named(unknown string, pairs ...any) func(uint64) string {
	return func(v uint64) string {
		for i := 0; i < len(pairs); i += 2 {
			if v == uint64(pairs[i].(int)) {
				return pairs[i+1].(string)
			}
		}
		return unknown
	}
}

// flags names bits, as named does values, and shows what is left over.
func flags(none string, pairs ...any) func(uint64) string {
	return func(v uint64) string {
		var names []string
		for i := 0; i < len(pairs); i += 2 {
			if bit := uint64(pairs[i].(int)); v&bit != 0 {
				names = append(names, pairs[i+1].(string))
				v &^= bit
			}
		}
		if v != 0 {
			names = append(names, fmt.Sprintf("%#x", v))
		}
		if names == nil {
			return none
		}
		return strings.Join(names, ", ")
	}
}

func expected(want uint64) func(uint64) string {
	return func(v uint64) string {
		if v == want {
			return "as expected"
		}
		return fmt.Sprintf("expected %#x", want)
	}
}

func checksum(v uint64, covered []byte) string { return expected(xxh3.Hash(covered))(v) }

// lockWord names the owner of a lock, or a token's.
func lockWord(v uint64) string {
	owner := "free"
	if region := v >> layout.LockRegionShift & 0xffff; region != 0 {
		owner = fmt.Sprintf("region %d, generation %d", region-1, v>>layout.LockGenerationShift)
	}
	if set := lockFlags(v & layout.LockFlagMask); set != "" {
		owner += ", " + set
	}
	return owner
}

func heldMutex(v uint64) string {
	return fmt.Sprintf("mutex %d, %s", v>>32, heldMode(v&0xffffffff))
}

func version(v uint64) string {
	switch {
	case v == 0:
		return "never used"
	case v >= layout.VersionLimit:
		return "garbage"
	}
	return fmt.Sprintf("%s, sequence %d, shard %d", cellState(v&layout.VersionStateMask),
		v>>layout.VersionSequenceShift, v>>layout.VersionShardShift&(layout.MaxShards-1))
}

func cell(v uint64) string     { return numbered("cell", v) }
func overflow(v uint64) string { return numbered("overflow bucket", v) }

func numbered(what string, v uint64) string {
	if v == 0 {
		return "none"
	}
	return fmt.Sprintf("%s %d", what, v)
}

func hexadecimal(v uint64) string { return fmt.Sprintf("%016x", v) }

// wallTime prints milliseconds since 1970.
func wallTime(v uint64) string {
	if v == 0 {
		return "none"
	}
	if v > layout.ExpiryMask {
		return "no time"
	}
	return time.UnixMilli(int64(v)).Local().Format("2006-01-02 15:04:05.000")
}

// uptime prints domain time, milliseconds of the kernel's monotonic clock plus one.
func uptime(v uint64) string {
	if v == 0 {
		return "at no time"
	}
	return millis(v-1) + " after boot"
}

func millis(v uint64) string {
	if v > layout.ExpiryMask {
		return fmt.Sprintf("%d ms", v)
	}
	return (time.Duration(v) * time.Millisecond).String()
}

func signalName(v uint64) string {
	if v == 0 {
		return "none"
	}
	return syscall.Signal(v).String()
}

// le is the word as its bytes stand in memory.
func le(v uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return b
}
