package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/flagstone-shm/flagstone/internal/clock"
	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/signal"
)

// Options say which domain to open and how. Only Name is required.
type Options struct {
	// Dir is the directory the domain is in. Default: DefaultDir. It has to be on
	// one host's memory or disk: on the file system of a network or in user space Open
	// returns ErrFileSystem, and types that it does not know it tries out.
	Dir string
	// Name is 1 to 64 of A-Z a-z 0-9 . _ - and does not start with a dot.
	Name string
	// Group shares the domain with the group of its directory: directories get
	// mode 0770 with the set-group-id bit and files 0660, instead of 0700 and 0600,
	// and the owner may be any member. All who open a domain have to agree.
	Group bool
	// MustExist returns ErrNotFound instead of making a domain.
	MustExist bool

	// Sizes for whoever makes the domain; 0 is the default. Who attaches gets
	// what there is, see Geometry.
	Regions int // 1 to 4096 open handles at a time, default 256
	Entries int // 1 to 4096 segments at a time, default 64
	Mutexes int // Entries to 16384, default 128 or Entries if that is more
	Held    int // 1 to 256 mutexes that a handle may hold or want, default 16
	Mapped  int // 1 to 4096 segments that a handle may map, default 64

	// Room is how many bytes of segments the domain is going to hold. If it has to
	// be made and there is less free, ErrNoSpace comes before anything is made.
	Room uint64

	// Wake is how this handle wants to be woken. Default: SIGUSR1.
	Wake signal.Options
	// Clock replaces the system's clocks, for tests.
	Clock Clock
}

// Table is an open handle of a domain. It has one region until Close, or until
// its process dies, which its peers notice.
type Table struct {
	reading    // its control file's open file description holds the lease
	clock      Clock
	identity   identity.Identity // as it stands in our region
	generation uint32            // of our region, whose number is reading.self
	token      uint64
	region     *layout.Region

	closed   func() error  // Close, once
	turn     chan struct{} // full while a goroutine holds or wants the init byte
	reaping  sync.Mutex    // guards the leases of the dead, which all goroutines here would get alike
	listener *signal.Listener
	news     fan
	seen     atomic.Uint64 // what Poll or Acknowledge saw last

	pins    pins
	mutexes mutexes
}

// Open opens a domain, making it if it is not there, and claims a region. Many
// processes may do so at once: one makes it, the others wait for that until ctx
// ends (ErrBusy). A domain that is being destroyed is waited for too.
//
// It returns a FormatError for a file that is not a control segment of this
// version, an AccessError for unsafe files and directories, ErrNoRegion if living
// handles have all regions, ErrNoSpace if there is no room, ErrNoMemory, ErrNoDescriptor,
// ErrAccess, ErrFileSystem, ErrLocks, ErrNotFound with MustExist and ErrOptions; each
// says what is needed, what is there and the remedy; nothing is left behind. It reads the header and the
// regions, and touches no other page. About 0.3 ms.
func Open(ctx context.Context, o Options) (*Table, error) {
	o.Dir = orDefaultDir(o.Dir)
	g, err := Plan(o)
	if err != nil {
		return nil, wrap(err, "open domain %s", o.Name)
	}
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	for nap := firstBackoff; ; nap = min(2*nap, longestBackoff) {
		t, err := open(ctx, o, g)
		if !errors.Is(err, errMoved) {
			return t, wrap(err, "open domain %s in %s", o.Name, o.Dir)
		}
		if err := pause(ctx, nap); err != nil {
			return nil, fmt.Errorf("open domain %s in %s: %w: %w", o.Name, o.Dir, ErrBusy, err)
		}
	}
}

func open(ctx context.Context, o Options, g Geometry) (_ *Table, err error) {
	d, err := find(o, g)
	defer func() {
		d.base.Close()
		d.parent.Close()
		if err != nil {
			d.dir.Close()
			d.control.Close() // and with it the lease
		}
	}()
	if err != nil {
		if o.MustExist && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; open without MustExist to make it: %w", ErrNotFound, err)
		}
		return nil, err
	}
	known, err := shm.CheckFileSystem(d.control)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(ctx, g, o); err != nil {
		return nil, err
	}
	t := &Table{clock: o.Clock, turn: make(chan struct{}, 1)}
	if err := t.attach(&d); err != nil {
		return nil, err
	}
	if err := t.join(ctx, &d, o.Wake); err != nil {
		return nil, errors.Join(err, t.seg.Close())
	}
	if !known {
		if err := t.tryLease(); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return t, nil
}

// tryLease makes sure that others see this handle's lease, in a file system that this
// package knows nothing of.
func (t *Table) tryLease() error {
	f, err := t.files().openFile(controlFile)
	if err != nil {
		return err
	}
	defer f.Close()
	return mustBeHeld(f, leaseByte(t.self))
}

// find opens the domain's files. They are made if they are not there, unless
// there is no room for what is to be in them.
func find(o Options, g Geometry) (domain, error) {
	d, err := findDomain(o.Dir, o.Name, o.Group, false)
	if o.MustExist || !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if at := d.deepest(); at != nil {
		if _, err := shm.CheckFileSystem(at); err != nil {
			return d, err
		}
		if err := shm.Room(at, g.FileSize+o.Room); err != nil {
			return d, err
		}
	}
	d.close()
	return findDomain(o.Dir, o.Name, o.Group, true)
}

// join makes the handle a member: region, listener, announcement.
func (t *Table) join(ctx context.Context, d *domain, wake signal.Options) (err error) {
	defer t.seg.Catch(shm.Guard(), &err)
	t.pins.init(t)
	t.mutexes.init(t)
	if err := t.claim(ctx); err != nil {
		return err
	}
	// Between the look at the path and the claim the domain may have been
	// destroyed; from now on a destroyer rings us.
	if same, err := d.current(); err != nil || !same || t.ready.Load() != layout.ControlReady {
		t.release()
		return orElse(err, errMoved)
	}
	t.news.init()
	if t.listener, err = signal.Call(t.region, wake, t.rung); err != nil {
		t.release()
		return err
	}
	t.closed = sync.OnceValue(t.close)
	t.Tick()
	t.announce()
	t.ringPeers(layout.ReasonTable)
	return nil
}

// Close gives the region back and wakes the peers. Calls under way are finished
// first, those that wait return ErrClosed. A steward resigns. Segments stay mapped until they are
// closed themselves. Mutexes still held count as left by the dead. It must not
// be called inside Exclusive. Further calls return the same. In a forked child it gives
// the child's descriptors back and leaves the handle, which is the parent's, as it is.
func (t *Table) Close() error {
	if shm.Forked() {
		return t.letGo()
	}
	return t.closed()
}

func (t *Table) close() error {
	t.shut()
	err := errors.Join(t.listener.Close(), t.leave())
	// The lease goes last, with the descriptor.
	return errors.Join(err, t.detach())
}

// leave empties our region and says so.
func (t *Table) leave() (err error) {
	defer t.seg.Catch(shm.Guard(), &err)
	err = t.resign()
	t.repairEntries(t.self) // whoever was making a segment finds the gate shut
	t.clean(t.self)
	t.fold(t.self)
	t.recycle()
	t.release()
	t.announce()
	t.ringPeers(layout.ReasonTable)
	return err
}

// waiting runs f with a context that ends with ctx or with Close.
func (t *Table) waiting(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.stop, cancel)()
	err := f(ctx)
	if errors.Is(err, ErrBusy) && t.stop.Err() != nil {
		return ErrClosed
	}
	return err
}

// Self returns the number of this handle's region.
func (t *Table) Self() int { return t.self }

// Token returns what this handle's locks carry; never 0. With Dead it makes the
// Table a lock.Owner.
func (t *Table) Token() uint64 { return t.token }

// Poll reports whether Changes has moved since the last Poll or Acknowledge.
func (t *Table) Poll() bool {
	now := t.Changes()
	return t.seen.Swap(now) != now
}

// Acknowledge lets the peers see that this handle's view is as new as changes,
// which was loaded before the view was made.
func (t *Table) Acknowledge(changes uint64) {
	t.seen.Store(changes)
	_ = t.use(func() error {
		t.region.Acknowledged.Store(changes) // pairs with the load in Regions
		return nil
	})
}

// C delivers "look at the table" after changes, of this handle too. Looks not
// taken become one. It never closes.
func (t *Table) C() <-chan struct{} { return t.news.c }

// Subscribe returns a channel like C of the caller's own, so that nobody takes its
// looks. After cancel nothing is delivered any more. It never closes.
func (t *Table) Subscribe() (c <-chan struct{}, cancel func()) { return t.news.subscribe(nil) }

// Follow is Subscribe, but when a peer has rung, call is called instead, by the
// goroutine that was woken, which saves the way to another one, with the reasons of
// the ring. It must not call Close, which waits for it. It may still run when cancel
// returns, and not be called again.
func (t *Table) Follow(call func(reasons uint64)) (c <-chan struct{}, cancel func()) {
	return t.news.subscribe(call)
}

// WakeMode returns how this handle is woken: "signal", "futex" or "poll". Once it
// is closed nobody wakes it, which is "poll".
func (t *Table) WakeMode() string {
	mode := signal.ModePoll
	_ = t.use(func() error {
		switch t.region.WakeMode.Load() {
		case layout.WakeSignal:
			mode = signal.ModeSignal
		case layout.WakeFutex:
			mode = signal.ModeFutex
		}
		return nil
	})
	return mode.String()
}

// Reasons returns for what this handle's bell was rung since the last call.
// Those from ReasonApplication on are the application's.
func (t *Table) Reasons() uint64 { return t.listener.Reasons() }

// Locks counts what happened to this handle's mutexes; slabs may count theirs
// there too.
func (t *Table) Locks() *lock.Counters { return &t.mutexes.counters }

// Exclusive runs f while no other handle of the domain, and no other goroutine
// of this one, is in Exclusive, opens for the first time, or destroys. It waits
// until ctx ends at most (ErrBusy). If the process dies inside, the next one may
// enter at once and finds what was done half.
func (t *Table) Exclusive(ctx context.Context, f func() error) error {
	if shm.Forked() {
		return ErrForked
	}
	if !t.gate.enter() {
		return ErrClosed
	}
	defer t.gate.leave()
	if t.Destroyed() {
		return ErrDestroyed
	}
	err := t.waiting(ctx, func(ctx context.Context) error {
		// The lock byte does not keep goroutines with one description apart.
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w by this handle: %w", t.control.Name(), ErrBusy, ctx.Err())
		}
		err := awaitLock(ctx, t.control, layout.InitByte)
		if err != nil {
			<-t.turn
		}
		return err
	})
	if err != nil {
		return wrap(err, "exclusive use of domain %s", t.name)
	}
	defer func() { <-t.turn }()
	defer unlock(t.control, layout.InitByte)
	if !t.Present() { // whoever opens the name now has another byte
		return fmt.Errorf("exclusive use of domain %s: %w", t.name, ErrDestroyed)
	}
	return f()
}
