package main

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// names are the errors of section 21 of the protocol. Of an error that is several of
// them, as most wrap the cause of the cause, the first one counts.
var names = []struct {
	err  error
	name string
}{
	{flagstone.ErrForked, "forked"},
	{flagstone.ErrUnattached, "unattached"}, // whatever the cause is
	{flagstone.ErrDestroyed, "destroyed"},
	{flagstone.ErrNoSlab, "noslab"},
	{flagstone.ErrSlabExists, "slabexists"},
	{flagstone.ErrClaimLost, "claimlost"},
	{flagstone.ErrNotHeld, "notheld"},
	{table.ErrTooManyHeld, "toomanyheld"},
	{table.ErrNoEntry, "noentry"},
	{table.ErrNoMutex, "nomutex"},
	{flagstone.ErrNoRegion, "noregion"},
	{table.ErrUnsafeDir, "unsafe"},
	{table.ErrUnsafeFile, "unsafe"},
	{flagstone.ErrAccess, "access"},
	{flagstone.ErrFileSystem, "filesystem"},
	{flagstone.ErrLocks, "locks"},
	{flagstone.ErrUnsupported, "unsupported"},
	{flagstone.ErrMissing, "missing"},
	{flagstone.ErrStaleBoot, "staleboot"},
	{table.ErrMagic, "magic"},
	{table.ErrEndian, "endian"},
	{table.ErrVersion, "version"},
	{table.ErrFeature, "feature"},
	{table.ErrFingerprint, "fingerprint"},
	{table.ErrChecksum, "checksum"},
	{table.ErrGeometry, "geometry"},
	{slab.ErrShape, "geometry"},
	{table.ErrSegmentSize, "truncated"},
	{table.ErrTruncated, "truncated"},
	{table.ErrOversized, "oversized"},
	{flagstone.ErrForeign, "foreign"},
	{table.ErrNotReady, "notready"},
	{table.ErrTooManyMapped, "toomanymapped"},
	{flagstone.ErrNoSpace, "nospace"},
	{flagstone.ErrNoMemory, "nomemory"},
	{flagstone.ErrNoDescriptor, "nodescriptor"},
	{flagstone.ErrRetired, "retired"},
	{flagstone.ErrState, "state"},
	{signal.ErrChanged, "state"},
	{signal.ErrDead, "state"},
	{signal.ErrSignal, "options"},
	{signal.ErrMode, "options"},
	{flagstone.ErrTTL, "expiry"},
	{flagstone.ErrKeyTooLong, "keytoolong"},
	{flagstone.ErrValueTooLong, "valuetoolong"},
	{flagstone.ErrTooLarge, "toolarge"},
	{flagstone.ErrNotCounter, "notcounter"},
	{flagstone.ErrOverflow, "overflow"},
	{flagstone.ErrFull, "full"},
	{flagstone.ErrCorrupt, "corrupt"},
	{flagstone.ErrFault, "fault"},
	{flagstone.ErrReadOnly, "readonly"},
	{flagstone.ErrLost, "lost"},
	{flagstone.ErrBusy, "busy"},
	{flagstone.ErrClosed, "closed"},
	{flagstone.ErrNotFound, "notfound"},
	{fs.ErrNotExist, "notfound"},
	{flagstone.ErrOptions, "options"},
}

// nameOf returns the protocol's name of an error; "other" is one that it has none for.
func nameOf(err error) string {
	if size := new(table.SizeError); errors.As(err, &size) && size.Got > size.Want && !errors.Is(err, flagstone.ErrUnattached) {
		return "oversized"
	}
	for _, n := range names {
		if errors.Is(err, n.err) {
			return n.name
		}
	}
	return "other"
}

// failed returns the answer to a command that ended with an error.
func failed(err error) answer {
	switch {
	case errors.Is(err, errNo):
		return answer{words: []string{"no"}}
	case errors.Is(err, errUnsupported):
		return answer{words: []string{"unsupported"}}
	}
	return answer{words: []string{"err", nameOf(err), strings.Join(strings.Fields(err.Error()), " ")}}
}
