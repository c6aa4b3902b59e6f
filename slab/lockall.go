package slab

import (
	"context"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

// LockAll takes the locks of all columns, the first one first, waiting until ctx ends
// (ErrBusy): until UnlockAll nothing is written, moved or removed. Lookups go on. A
// column left by the dead is rebuilt. On an error, ErrStale too, no lock is held.
// Whoever dies holding them leaves them to be taken and rebuilt one by one.
func (st *Stack) LockAll(ctx context.Context) (err error) {
	held := 0
	defer func() {
		if err != nil {
			err = errors.Join(err, st.unlockFirst(held))
		}
	}()
	defer st.leave(shm.Guard(), &err)
	if err := st.usable(); err != nil {
		return err
	}
	for ; held < len(st.columns); held++ {
		if err := st.columns[held].hold(ctx); err != nil {
			return err
		}
	}
	return nil
}

// UnlockAll leaves the locks that LockAll took. It returns ErrLost if they were taken
// away, as this process was thought dead.
func (st *Stack) UnlockAll() error { return st.unlockFirst(len(st.columns)) }

// unlockFirst leaves the locks of the first n columns, all of them whatever happens at
// one.
func (st *Stack) unlockFirst(n int) (err error) {
	for i := range n {
		err = errors.Join(err, st.columns[i].letGo())
	}
	return err
}

// hold takes the column's lock and keeps it, with the column in order.
func (col *column) hold(ctx context.Context) error {
	for {
		consistent, err := col.top.mutex.Lock(ctx)
		if err != nil {
			return fmt.Errorf("shard %d: %w", col.top.number, err)
		}
		if consistent && col.top.head.Epoch.Load()&layout.EpochRebuilding == 0 && !col.stack.stale() && col.stack.Missing == nil {
			return nil
		}
		if err := col.locked(consistent, func() error { return nil }); err != nil { // repaired, or the reason why not
			return err
		}
	}
}

// letGo leaves the lock of a column that is in order.
func (col *column) letGo() (err error) {
	defer col.stack.top.seg.Catch(shm.Guard(), &err)
	return col.top.unlock(true)
}
