package slab

import (
	"context"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Locked is a stack of which one goroutine holds all locks, or one.
type Locked struct {
	stack   *Stack
	columns []column // to be locked
	held    int      // of them
	events  []Event  // to be told when no lock is held any more
}

// LockAll takes the locks of all columns, the first one first, waiting until ctx ends
// (ErrBusy): until Unlock nothing is written, moved or removed. Lookups go on. A
// column left by the dead is rebuilt. On an error, ErrStale too, no lock is held.
// Whoever dies holding them leaves them to be taken and rebuilt one by one.
func (st *Stack) LockAll(ctx context.Context) (l *Locked, err error) {
	return st.lockColumns(ctx, st.columns)
}

// LockKey is LockAll for the column of one key.
func (st *Stack) LockKey(ctx context.Context, k Key) (l *Locked, err error) {
	i := k.hash & uint64(len(st.columns)-1)
	return st.lockColumns(ctx, st.columns[i:i+1])
}

func (st *Stack) lockColumns(ctx context.Context, columns []column) (l *Locked, err error) {
	l = &Locked{stack: st, columns: columns}
	defer func() {
		if err != nil {
			l, err = nil, errors.Join(err, l.Unlock())
		}
	}()
	defer st.leave(shm.Guard(), &err)
	if err := st.usable(); err != nil {
		return l, err
	}
	for ; l.held < len(columns); l.held++ {
		if err := columns[l.held].hold(ctx, &l.events); err != nil {
			return l, err
		}
	}
	return l, nil
}

// Unlock leaves the locks, all of them whatever happens at one. It returns ErrLost if
// they were taken away, as this process was thought dead.
func (l *Locked) Unlock() (err error) {
	for i := range l.held {
		err = errors.Join(err, l.columns[i].letGo())
	}
	l.held = 0
	l.stack.tell(l.events)
	l.events = nil
	return err
}

// hold takes the column's lock and keeps it, with the column in order; events get what
// there is to tell.
func (col *column) hold(ctx context.Context, events *[]Event) error {
	for {
		consistent, err := col.top.mutex.Lock(ctx)
		if err != nil {
			return fmt.Errorf("shard %d: %w", col.top.number, err)
		}
		if consistent && col.top.head.Epoch.Load()&layout.EpochRebuilding == 0 && !col.stack.stale() && col.stack.Missing == nil {
			return nil
		}
		some, err := col.settle(consistent, func() error { return nil })
		*events = append(*events, some...)
		if err != nil { // else repaired
			return err
		}
	}
}

// letGo leaves the lock of a column that is in order.
func (col *column) letGo() (err error) {
	defer col.stack.top.seg.Catch(shm.Guard(), &err)
	return col.top.unlock(true)
}
