// Package flagstone is a cache that the processes of one host share at memory
// speed, without a server: a hash table with an order of use in shared memory,
// found through a control segment. Any process may be killed at any instruction;
// the others notice no more than a short wait.
//
//	cache, err := flagstone.Open(ctx, "sessions", flagstone.Options{})
//	err = cache.Set(ctx, key, value, time.Hour)
//	value, ok, err := cache.Get(nil, key)
//
// Lookups take no lock and do not allocate. What may wait takes a context.
// Keys and values are any bytes. Who can write a domain's files is trusted not
// to forge data, but not to be correct.
//
// A cache begins with one slab of a fixed size. Others are added below it by [Cache.Grow],
// or by a steward ([StewardOptions]), and drained when they are not needed; operations
// mean the same whichever slab holds the key. Independent slabs ([Cache.CreateSlab]) are
// caches of their own in the same domain.
package flagstone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// Policy is what a full cache does with a new key.
type Policy = slab.Policy

const (
	// Evict makes room by dropping records in the cache's Order. The default.
	Evict = slab.Evict
	// Refuse returns ErrFull, for applications that run evictions themselves.
	Refuse = slab.Refuse
)

// Order is the order in which a full cache's records make room. It plays no part
// in Evict and EvictPairs.
type Order = slab.Order

const (
	// LRU drops what was not used for longest. The default.
	LRU = slab.LRU
	// S3FIFO drops what was used once before what was used again: it withstands
	// scans, and hits more often on most loads, but what goes next is not
	// predictable. It needs 256 records or more per shard.
	S3FIFO = slab.S3FIFO
)

// Options say where a cache is and, for whoever makes it, how large. The zero
// value is a cache of 32 MiB in /dev/shm that this user's processes share. Who
// attaches gets what there is; see Cache.Differences.
type Options struct {
	// Dir is the directory of the domain, on memory or disk of this host; on a file
	// system of a network or in user space Open returns ErrFileSystem.
	// Default: /dev/shm. On a disk the files outlast a reboot, and Open returns
	// ErrStaleBoot until somebody has called Destroy.
	Dir string
	// Group shares the cache with the group of its directory: modes 0770, with the
	// set-group-id bit, and 0660 instead of 0700 and 0600.
	Group bool
	// MustExist returns ErrNotFound instead of making a cache.
	MustExist bool

	// Private makes a cache of this handle's own on the Go heap, on any system: no
	// file, no signal, nobody else in it, gone with Close. Everything works as in a
	// shared one, except that Table is nil and Watch has nothing to tell. Dir, Group,
	// MustExist, Regions and Wake do not count, and the name may be empty. Together
	// with ReadOnly it is ErrOptions. Memory counts from its first use on. For tests,
	// and for programs that are to run where processes cannot share memory.
	Private bool
	// ReadOnly looks at a cache without taking part, for exporters and inspection:
	// it has no region, is seen by nobody, cannot write, being mapped for
	// reading, and so does not make what it finds look used. The cache must exist
	// (ErrNotFound; also while it is being made). Lookups are Peek, and ErrBusy
	// where they cannot be sure. What needs a lock returns ErrReadOnly: all that
	// writes, Check and Rebuild. Table is nil. Whether something has expired is
	// judged by this process's clock.
	ReadOnly bool

	// Size is the size of the slab's file in bytes. It is reserved at once.
	// Default: 32 MiB, as a /dev/shm in a container often has 64.
	Size uint64
	// Entries, instead of Size, is how many records of one cell must fit before
	// the first eviction, or refusal.
	Entries uint64
	// CellSize is a multiple of 64 bytes up to 1 MiB; a record takes as many cells as
	// it needs. Default: 128, of which key and value of a small record share 80.
	CellSize int
	// MaxKey and MaxValue are the longest key and value in bytes, MaxKey with the 8 of
	// a namespace: up to 65,535, at least 8, and up to 1 GiB, at least 40; less is
	// raised to that. Each shard keeps room for one such record. Defaults: 1,024 and
	// 65,536.
	MaxKey, MaxValue int
	// Shards is a power of two up to 256. Default: as many as cost little.
	Shards int
	// OnFull is Evict or Refuse.
	OnFull Policy
	// Precision is how exactly last uses are known. A hit notes one only if the last
	// one noted is older than this: a finer one costs lookups of records that are
	// used often an atomic write each time the clock moves. Up to an hour, in
	// milliseconds; a millisecond is as exact as the clock. Default: 1 s.
	Precision time.Duration
	// Order is LRU or S3FIFO. Default: LRU.
	Order Order
	// Regions is how many handles may be open at a time, 1 to 4,096. Default: 256.
	Regions int

	// ReadTiers is how many slabs this handle's lookups of keys look into, from the first
	// on: what is only in those below is a miss to it. Its writes and All know of all, as do
	// lookups of the cache's own, ids of namespaces and claims. Less than 0 is ErrOptions. 0
	// is all.
	ReadTiers int
	// Search is how lookups go about several slabs. Default: Interleaved.
	Search Search
	// NoPromotion leaves what a lookup finds below the first slab where it is, instead
	// of moving it up if the lock is free. Moving up may send others down; none is lost
	// by it. About four Sets.
	NoPromotion bool

	// LoadTimeout is for how long a load of this handle keeps others waiting; then
	// its context ends and one of them tries itself. Default: 30 s. Raise it if loads
	// take longer.
	LoadTimeout time.Duration
	// Steward is what this handle does for all while it is the steward, and how far the
	// cache may grow. By default it offers, and neither adds nor drains slabs.
	Steward StewardOptions

	// OnEvent, if set, is told of what is out of the ordinary, by the goroutine that
	// met it, which holds no lock of a shard then; it should return soon, and may be called
	// concurrently. It may be called inside any operation, Grow and CreateSlab too, while
	// others who make slabs wait: so it must not call these, nor Retire, nor Close, which
	// waits for it.
	OnEvent func(Event)

	// Wake is how this handle is woken after changes. Default: SIGUSR1, sent when
	// handles come and go; a program that uses it for something else chooses another
	// signal, or signal.ModeFutex.
	Wake signal.Options
	// Clock replaces the system's clocks, for tests.
	Clock table.Clock
}

// Search is how lookups go about a cache of several slabs. Their answers are the
// same; what differs is when the memory of the lower slabs is asked for.
type Search = slab.Search

const (
	// Interleaved asks for the first cache line of the key in all slabs before it waits
	// for any. The default.
	Interleaved = slab.Interleaved
	// InOrder asks for a slab's memory when those above have turned out not to have the
	// key.
	InOrder = slab.InOrder
	// Parallel has goroutines of its own, four for each handle, ask for the memory of the
	// slabs below.
	Parallel = slab.Parallel
)

// Defaults of Options.
const (
	DefaultPrecision   = time.Second
	DefaultLoadTimeout = 30 * time.Second
)

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Cache is a handle on a cache; a process opens one and shares it among its
// goroutines. All methods may be called concurrently.
type Cache struct {
	scope   // the keys that are in no namespace
	*handle // what it shares with the caches of independent slabs

	slabName     string            // of the stack's tier 0
	stackOptions slab.StackOptions // of its views
	view         atomic.Pointer[view]

	flights flights
	loads   loadCounters
	misses  atomic.Int64 // beyond those that the slabs count
	holding holding

	refreshing  sync.Mutex // guards the making of views, and the next three
	ended       error      // why there will be no more
	stack       uint64     // segment id of tier 0, once it is known
	past        past       // of the slabs that are no more
	differences []Difference
	close       func() error
}

// primary is the name of a cache's own stack.
const primary = table.Primary

// Difference is an option that asked for something else than what there was.
type Difference struct {
	Option       string
	Asked, Found uint64
}

// Open opens the cache of that name, making it if it is not there. The name is 1 to
// 64 of A-Z a-z 0-9 . _ -, not beginning with a dot. Many processes may open it at
// once: one makes it, the others wait for that until ctx ends (ErrBusy). It returns
// ErrOptions for a name or option out of its range; ErrNotFound with MustExist or
// ReadOnly if there is none; ErrNoRegion if as many handles are open as it was made
// for; ErrNoSpace, before anything is visible to others, if the file system has no
// room, or, with ErrNoMemory, the memory control group; ErrNoDescriptor and ErrNoMemory
// if this process may not open or map more; ErrAccess if it may not write there;
// ErrFileSystem and ErrLocks where processes cannot share memory safely; ErrMissing if
// somebody removed the slab's file; a *table.FormatError or *slab.FormatError for files that are not this
// library's, or, being ErrStaleBoot, from before the last boot; a
// *table.AccessError for files or directories that others could tamper with;
// ErrForked in a forked child; ErrUnsupported on other systems than Linux, unless it is
// Private. All say what is needed, what there is, and what to do. It touches no page of
// the slab but the header.
func Open(ctx context.Context, name string, o Options) (*Cache, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	geometry, err := slab.Plan(o.slab())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	c, err := o.open(ctx, name, geometry)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	c.scope.cache, c.slabName, c.domain.Notify = c, primary, c.notify
	c.onEvent, c.loadTimeout = o.OnEvent, orDefault(o.LoadTimeout, DefaultLoadTimeout)
	c.stackOptions = slab.StackOptions{Reads: o.ReadTiers, Search: o.Search, Promote: !o.NoPromotion && !o.ReadOnly}
	if o.Search == Parallel {
		const workers = 4
		c.stackOptions.Workers = slab.NewWorkers(workers)
	}
	c.close = sync.OnceValue(c.shut)
	c.table.Tick()
	if err := c.attach(ctx, geometry, o.MustExist); err != nil {
		c.stopWorkers()
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), c.table.Close())
	}
	c.differences = o.differences(geometry, c.view.Load().tiers[0].slab.Geometry(), c.table.Geometry().Regions)
	c.caches = map[uint64]*Cache{c.stack: c}
	c.pulse.prepare(c.handle)
	c.steward.StewardOptions = o.Steward
	if !c.domain.ReadOnly {
		c.steward.start(c)
	}
	c.pulse.start()
	return c, nil
}

// check refuses what slab.Plan and table.Open do not see.
func (o *Options) check() error {
	if p := orDefault(o.Precision, DefaultPrecision); p < time.Millisecond || p > time.Hour || p%time.Millisecond != 0 {
		return fmt.Errorf("%w: Precision %v: need whole milliseconds up to an hour", ErrOptions, p)
	}
	if o.LoadTimeout < 0 {
		return fmt.Errorf("%w: LoadTimeout %v", ErrOptions, o.LoadTimeout)
	}
	if o.ReadTiers < 0 || o.Search > Parallel {
		return fmt.Errorf("%w: ReadTiers %d, Search %d", ErrOptions, o.ReadTiers, o.Search)
	}
	return o.Steward.check()
}

// open returns a cache with its host and without a view.
func (o Options) open(ctx context.Context, name string, g slab.Geometry) (*Cache, error) {
	switch {
	case o.Private && o.ReadOnly:
		return nil, fmt.Errorf("%w: both Private and ReadOnly", ErrOptions)
	case o.Private:
		return openPrivate(name, o, g)
	case o.ReadOnly:
		return observe(name, o)
	}
	t, err := table.Open(ctx, table.Options{
		Dir: o.Dir, Name: name, Group: o.Group, MustExist: o.MustExist,
		Regions: o.Regions, Wake: o.Wake, Clock: o.Clock, Room: g.FileSize(),
	})
	if err != nil {
		return nil, err
	}
	w := t.Words()
	return &Cache{handle: &handle{table: t, control: t, domain: slab.Domain{Owner: t, Wall: w.Wall, Now: w.Domain}, changesWord: w.Changes}}, nil
}

func (o Options) slab() slab.Options {
	return slab.Options{
		Size: o.Size, Entries: o.Entries, CellSize: o.CellSize, MaxKey: o.MaxKey,
		MaxValue: o.MaxValue, Shards: o.Shards, OnFull: o.OnFull, Order: o.Order,
		StampMillis: int(orDefault(o.Precision, DefaultPrecision)/time.Millisecond) - 1,
	}
}

// differences lists the options that were given and would have made another slab.
func (o Options) differences(asked, found slab.Geometry, regions uint32) (out []Difference) {
	for _, d := range []struct {
		option       string
		given        bool
		asked, found uint64
	}{
		{"Size", o.Size != 0, asked.FileSize(), found.FileSize()},
		{"Entries", o.Entries != 0, asked.Capacity, found.Capacity},
		{"CellSize", o.CellSize != 0, uint64(asked.CellSize), uint64(found.CellSize)},
		{"MaxKey", o.MaxKey != 0, uint64(asked.MaxKey), uint64(found.MaxKey)},
		{"MaxValue", o.MaxValue != 0, uint64(asked.MaxValue), uint64(found.MaxValue)},
		{"Shards", o.Shards != 0, uint64(asked.Shards), uint64(found.Shards)},
		{"OnFull", o.OnFull != Evict, uint64(asked.OnFull), uint64(found.OnFull)},
		{"Precision", o.Precision != 0, uint64(asked.StampMillis) + 1, uint64(found.StampMillis) + 1},
		{"Order", o.Order != 0, uint64(asked.Order), uint64(found.Order)},
		{"Regions", o.Regions != 0, uint64(o.Regions), uint64(regions)},
	} {
		if d.given && d.asked != d.found {
			out = append(out, Difference{d.option, d.asked, d.found})
		}
	}
	return out
}

// Differences returns the options of Open that found a cache made otherwise.
func (c *Cache) Differences() []Difference { return c.differences }

// Close gives the handle's region and mappings back, those of independent slabs too,
// and the mutexes and locks of slabs that it holds. It waits for the handle's
// operations that hold or await a lock; lookups still running return ErrClosed,
// as does every later call. Other processes notice nothing, and the cache stays. In a
// forked child it gives the child's descriptors back, see ErrForked.
func (c *Cache) Close() error {
	switch {
	case c.forked() == nil:
		return c.close()
	case c.slabName == primary:
		return c.table.Close()
	}
	return nil
}

func (c *Cache) shut() error {
	c.steward.close()
	c.pulse.stop()
	c.publishCounters() // which the host then folds into the totals
	err := errors.Join(c.closeOthers(c), c.closeSlabs())
	c.dismissed.Wait()
	c.stopWorkers()
	return errors.Join(err, c.table.Close())
}

func (c *Cache) stopWorkers() {
	if w := c.stackOptions.Workers; w != nil {
		w.Close()
	}
}

// end sees to it that there are no more views, for a reason, unless there is one already.
func (c *Cache) end(why error) {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if c.ended == nil {
		c.ended = why
	}
}

// closeSlabs closes the slabs of the view, which is the last one.
func (c *Cache) closeSlabs() (err error) {
	c.end(ErrClosed)
	err = c.holding.release(c)
	for _, t := range c.view.Load().tiers { // tier 0 first: with it nobody holds a lock any more
		err = errors.Join(err, t.slab.Close())
	}
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if p, ok := c.table.(*private); ok {
		err = errors.Join(err, p.bury(c))
	}
	return err
}

// Destroy removes the cache of that name and its files from dir, by default
// /dev/shm. Open handles say
// ErrDestroyed from then on, except for lookups that hit what they still map; the
// name is free at once. It returns ErrNotFound if there is none.
func Destroy(ctx context.Context, dir, name string) error { return table.Destroy(ctx, dir, name) }

// Table returns the control segment's handle, which lives as long as the cache:
// peers, state flags, mutexes, and segments of the application's own. It is nil
// if the cache was opened Private or ReadOnly; to look at a control segment see
// table.Inspect.
func (c *Cache) Table() *table.Table { return c.control }

// Get appends the value of key to dst and returns the result and whether there
// was one. On a miss or an error it returns dst as it was; but its room may be
// written to at any rate, and must not overlap key. An empty value appended to nil
// is nil: look at ok. A key longer than MaxKey is a miss. Get takes no lock,
// waits for nobody, and does not allocate if dst has room. A value is whole and not
// older than the last Set that returned before Get began. Where writers keep it
// from being sure within a bound it tries the shard's lock once, without waiting,
// taking it from the dead and rebuilding if need be, and else returns ErrBusy, as
// for the milliseconds of a rebuild by another process.
func (c *Cache) Get(dst, key []byte) (value []byte, ok bool, err error) {
	c.pulse.beat()
	sl := c.view.Load().slab
	k := sl.Key(key)
	if n := sl.Glance(dst, k); n >= 0 {
		return dst[:len(dst)+n], true, nil
	}
	return c.getSlowly(dst, key)
}

// getSlowly is Get for what a glance leaves.
func (c *Cache) getSlowly(dst, key []byte) (value []byte, ok bool, err error) {
	v := c.current()
	for looks := 0; ; {
		value, ok, err = v.slab.GetSlowly(dst, v.slab.Key(key))
		if ok || !c.missed(&v, &looks, &err, 1, true) {
			return value, ok, err
		}
	}
}

// Rebuild makes everything but the records anew from the records, in all shards,
// as recovery does after a death. Nothing is lost.
func (c *Cache) Rebuild(ctx context.Context) error {
	return c.update(ctx, func(v *view) error { return v.slab.Rebuild(ctx) })
}

// Check compares index, order, free lists and counts with the records, and the
// domain's directory with its files, and returns what is wrong, nothing for a sound
// cache. It locks shard by shard, waiting until ctx ends.
func (c *Cache) Check(ctx context.Context) (problems []string, err error) {
	var directory []string
	if c.control != nil {
		if directory, err = c.control.Check(); err != nil {
			return directory, err
		}
	}
	err = c.update(ctx, func(v *view) (err error) {
		problems, err = v.slab.Check(ctx)
		return err
	})
	return append(directory, problems...), err
}

// Repair puts the domain's control segment right, as far as that can be done in
// place, and then does what Rebuild does. Whole records stay, unless the directory may
// have left out the slab that they are in: what is in that may be old, and is given
// up. What is damaged for good Check goes on to report: Destroy is the remedy then. It
// waits until ctx ends, and some seconds at most for processes that are to disown
// locks. Where not even Open succeeds, table.Open and table.Table.Repair may.
func (c *Cache) Repair(ctx context.Context) error {
	if c.control != nil {
		if _, err := c.control.Repair(ctx); err != nil {
			return err
		}
	}
	return c.Rebuild(ctx)
}

// Watch delivers what happens in the domain until ctx ends: processes that join,
// leave or die, segments that come, drain and go, who is the steward. See
// table.Table.Watch. In a Private cache nothing happens; the channel is closed when ctx
// ends or at Close.
func (c *Cache) Watch(ctx context.Context) <-chan table.Event { return c.table.Watch(ctx) }
