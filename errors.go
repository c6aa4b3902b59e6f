package flagstone

import (
	"errors"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Errors of this package. They come wrapped with the step that failed and the
// names and values involved; compare with errors.Is.
var (
	// ErrTTL says that a time to live is negative, or a StaleFor too long.
	ErrTTL = errors.New("negative or excessive time to live")
	// ErrNested says that a Loader asks for the key that it is to load.
	ErrNested = errors.New("load of a key within its own load")
	// ErrExists says that a key cannot be claimed as it has a value.
	ErrExists = errors.New("there is a value")
	// ErrClaimed says that another process, or goroutine, computes the value.
	ErrClaimed = errors.New("claimed by another")
	// ErrCodec says that the codec of a Typed refused a value, stored or to be stored.
	ErrCodec = errors.New("codec refuses the value")
	// ErrLoad is what every *LoadError is: a value could not be computed elsewhere or
	// earlier.
	ErrLoad = errors.New("load failed elsewhere")

	// ErrUnattached says that this process cannot map a slab of the cache, for want of
	// descriptors or of room in its address space, or list it. What is in the slabs
	// above is still found; anything else is this error, as is every write. Each
	// operation tries again.
	ErrUnattached = errors.New("slab cannot be attached")

	// ErrNoSlab says that there is no independent slab of that name, or one that is being
	// retired.
	ErrNoSlab = errors.New("no such slab")
	// ErrSlabExists says that there is a slab of that name.
	ErrSlabExists = errors.New("slab exists")
	// ErrDescriptor says that a text is not a slab's descriptor, and names the field.
	ErrDescriptor = errors.New("not a slab's descriptor")
	// ErrForeign says that something belongs to another domain.
	ErrForeign = format.ErrForeign
	// ErrNotHeld says that a slab's mutex is not held by this handle.
	ErrNotHeld = table.ErrNotHeld
	// ErrBudget says that a slab would exceed StewardOptions.Budget.
	ErrBudget = errors.New("budget of secondary slabs exceeded")

	// ErrRetired says that a slab is gone from the directory, or an independent one about
	// to go.
	ErrRetired = table.ErrRetired
	// ErrState says that a slab is no longer in the state that a step needs: another
	// process has opened it again, or drained it anew.
	ErrState = table.ErrState
	// ErrTooLarge says that the limits of the slab that a record was to be moved or
	// inserted to are smaller. The record stays where it is.
	ErrTooLarge = slab.ErrTooLarge

	// ErrBusy says that a wait ended with its context while a live process held
	// what was waited for, also where the context had ended before, or that a lookup
	// gave up within its bound. Of a wait it wraps the context's error.
	ErrBusy = slab.ErrBusy
	// ErrFull says that there is no room and the policy is Refuse, or that a slab to
	// which records are to be moved has none, whatever its policy, or takes none.
	ErrFull = slab.ErrFull
	// ErrKeyTooLong and ErrValueTooLong say that the cache was not made for such a
	// record.
	ErrKeyTooLong   = slab.ErrKeyTooLong
	ErrValueTooLong = slab.ErrValueTooLong
	// ErrNotCounter says that Increment found a value that is not 8 bytes long.
	ErrNotCounter = slab.ErrNotCounter
	// ErrOverflow says that a counter would leave the range of 64-bit integers.
	ErrOverflow = slab.ErrOverflow
	// ErrClaimLost says that a claim ended before it was filled.
	ErrClaimLost = slab.ErrClaimLost
	// ErrCorrupt says that a shard's words contradict each other and a rebuild did
	// not help.
	ErrCorrupt = slab.ErrCorrupt
	// ErrClosed says that the handle was closed.
	ErrClosed = table.ErrClosed
	// ErrForked says that this process was forked, without exec, by the one that opened
	// the handle. It is nothing that a child can use: its operations return this, Close
	// gives the child's descriptors back and leaves the parent's handle as it is, and
	// Open and Destroy return it too, as Go's runtime does not outlive such a fork.
	// Whatever exec starts, as os/exec does, opens the cache anew. A Private cache goes
	// on in a child.
	ErrForked = table.ErrForked
	// ErrDestroyed says that somebody destroyed the cache, or removed, replaced or moved
	// its files: close the handle, and open the name anew.
	ErrDestroyed = table.ErrDestroyed
	// ErrLost says that this process was taken for dead and lost its locks: close
	// the handle and open the cache anew.
	ErrLost = table.ErrLost
	// ErrNotFound says that there is no such cache.
	ErrNotFound = table.ErrNotFound
	// ErrNoRegion says that as many handles are open as the domain was made for.
	ErrNoRegion = table.ErrNoRegion
	// ErrNoSpace says that the file system, or the memory control group, has no room for
	// the cache, or the slab.
	ErrNoSpace = table.ErrNoSpace
	// ErrNoMemory says that this process or its control group may not have so much
	// memory, or address space. Of a control group it comes with ErrNoSpace, before
	// anything is made that would get the process killed.
	ErrNoMemory = table.ErrNoMemory
	// ErrNoDescriptor says that this process, or the system, has as many files open as it
	// may.
	ErrNoDescriptor = table.ErrNoDescriptor
	// ErrAccess says that this user may not do it to the file or directory, or that the
	// file system is mounted for reading.
	ErrAccess = table.ErrAccess
	// ErrFileSystem says that Dir is on a type of file system where processes cannot be
	// sure to share memory: of a network, or in user space.
	ErrFileSystem = table.ErrFileSystem
	// ErrLocks says that the kernel, or a sandbox, has no open file description locks. It
	// wraps errors.ErrUnsupported.
	ErrLocks = table.ErrLocks
	// ErrMissing says that somebody has removed the file of a slab that is in use: Destroy
	// the cache.
	ErrMissing = table.ErrMissing
	// ErrFault says that a file was truncated under its mapping.
	ErrFault = table.ErrFault
	// ErrStaleBoot says that the files were made before this machine's last boot:
	// Destroy the cache.
	ErrStaleBoot = table.ErrStaleBoot
	// ErrReadOnly says that the cache was opened ReadOnly.
	ErrReadOnly = slab.ErrReadOnly
	// ErrUnsupported says that on this system only Private caches can be opened:
	// sharing needs Linux; or that a Private one cannot do it, as there is nobody to share
	// with. It wraps errors.ErrUnsupported.
	ErrUnsupported = table.ErrUnsupported
	// ErrOptions says that no cache can be made from the name and the options.
	ErrOptions = slab.ErrOptions
)
