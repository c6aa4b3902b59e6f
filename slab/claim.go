package slab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// A claim is a record of its own beside the key's: the same key bytes with
// FlagClaim, in the same shard, so that an expired value can stay while somebody
// computes the next. Its version names it. PROTOCOL.md, "Claims".

// ClaimState is how a key is claimed.
type ClaimState int

// States of a claim.
const (
	Unclaimed ClaimState = iota // nobody computes the value, or whoever did is dead or overdue
	Loading                     // a living process computes it
	Failed                      // whoever computed it could not
)

// Claim is what a shard says of who computes a key's value.
type Claim struct {
	State    ClaimState
	Version  uint64 // names the claim while Loading
	Owner    uint64 // the loader's token
	Deadline uint64 // domain time in milliseconds; from then on it is overdue
	Ended    uint64 // Failed: the claim that it ended
	Until    uint64 // Failed: wall time in milliseconds until which it holds for all
	Text     string // Failed: the loader's error
}

// longestClaim bounds a claim's value, and so the copy of one.
const longestClaim = layout.ClaimText + 1024

// parseClaim reads a claim's value; anything odd is no claim.
func parseClaim(b []byte) (c Claim) {
	if len(b) < layout.ClaimText {
		return c
	}
	le := binary.LittleEndian
	switch le.Uint64(b[layout.ClaimState:]) {
	case layout.ClaimLoading:
		c.State = Loading
	case layout.ClaimFailed:
		c.State = Failed
	}
	c.Owner, c.Deadline = le.Uint64(b[layout.ClaimOwner:]), le.Uint64(b[layout.ClaimDeadline:])
	c.Ended, c.Until = le.Uint64(b[layout.ClaimEnded:]), le.Uint64(b[layout.ClaimUntil:])
	c.Text = string(b[layout.ClaimText:])
	return c
}

// bytes is the inverse of parseClaim.
func (c *Claim) bytes(room int) []byte {
	le, b := binary.LittleEndian, make([]byte, layout.ClaimText, longestClaim)
	state := uint64(layout.ClaimLoading)
	if c.State == Failed {
		state = layout.ClaimFailed
	}
	le.PutUint64(b[layout.ClaimState:], state)
	le.PutUint64(b[layout.ClaimOwner:], c.Owner)
	le.PutUint64(b[layout.ClaimDeadline:], c.Deadline)
	le.PutUint64(b[layout.ClaimEnded:], c.Ended)
	le.PutUint64(b[layout.ClaimUntil:], c.Until)
	return append(b, c.Text[:min(len(c.Text), longestClaim-layout.ClaimText, room-layout.ClaimText)]...)
}

// judge turns a claim of the dead and one that is overdue into none (claim.pml
// BREAK_DEAD, BREAK_OVERDUE); nobody takes over any other (BREAK_DEADLINE).
func (st *Stack) judge(c Claim) Claim {
	if st.top.domain.ReadOnly {
		return c // a reader cannot tell, nor take it over
	}
	me := st.top.domain.Owner.Token()
	if c.State == Loading && (c.Deadline <= st.top.domain.Now.Load() || c.Owner != me && st.top.domain.Owner.Dead(c.Owner)) {
		return Claim{}
	}
	return c
}

// ClaimOf returns who computes the key's value, without a lock; as in Get it may
// return ErrBusy. It costs a lookup and, for another's claim, a look at its lease.
func (st *Stack) ClaimOf(k Key) (Claim, error) {
	it, ok, err := st.Look(make([]byte, 0, 128), k.claim(), Quiet|Silent|Deep)
	if err != nil || !ok {
		return Claim{}, err
	}
	c := parseClaim(it.Value)
	c.Version = it.Version
	return st.judge(c), nil
}

// Claim makes this handle the one that computes the key's value, until deadline,
// domain time in milliseconds, unless there is a value, which is then appended to
// dst, or a claim of a living loader, or its error as long as that holds for all:
// then the claim it returns says so. If won, the caller owes a Fill or a Release
// with the claim's version; if it dies or is late, the next one takes over. Where
// there is no room for the claim and the policy is to refuse, it is ErrFull, unless
// an expired value can make room. It waits for the lock as Put does.
func (st *Stack) Claim(ctx context.Context, dst []byte, k Key, deadline uint64) (value []byte, ok, won bool, c Claim, err error) {
	if st.top.domain.ReadOnly {
		return dst, false, false, c, ErrReadOnly
	}
	mine := Claim{State: Loading, Owner: st.top.domain.Owner.Token(), Deadline: deadline}
	it := Item{Value: mine.bytes(layout.ClaimText)}
	ck := k.claim()
	if err := st.fits(&ck, &it); err != nil {
		return dst, false, false, c, err
	}
	col := st.columnOf(k.hash)
	err = st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		if f.record.current() != Absent { // claim.pml BREAK_LOOK
			value, err = f.record.valueOf(dst, &k)
			ok = err == nil
			return err
		}
		if f.claim.cell != 0 {
			there := f.claim.claim(&k)
			if won = there.State == Loading && there.Version == mine.Version; won { // the second try, after a rebuild
				return nil
			}
			c = st.judge(there)
			if c.State == Loading || c.State == Failed && c.Until > st.top.domain.Wall.Load() {
				return nil
			}
		}
		mine.Version, err = col.write(&ck, &it, f.claim)
		if errors.Is(err, ErrFull) && f.record.cell != 0 { // there is room where the expired value stands
			if f, err = col.find(&k); err != nil { // what went down meanwhile
				return err
			}
			if err = f.endClaim(&k); err != nil { // it may be below, and must not come to light later
				return err
			}
			mine.Version, err = col.write(&ck, &it, f.record)
		}
		won = err == nil
		return err
	})
	if won {
		c = mine
	}
	if !ok {
		value = dst
	}
	return value, ok && err == nil, won && err == nil, c, err
}

// claim reads the record, which is the claim on k.
func (s spot) claim(k *Key) Claim {
	c := s.header()
	version := c.Version.Load()
	var buf [longestClaim]byte
	b, ok := s.sh.appendBytes(buf[:0], s.cell, version, uint64(len(k.bytes)), min(uint64(c.ValueLength.Load()), longestClaim))
	if !ok {
		return Claim{}
	}
	claim := parseClaim(b)
	claim.Version = version
	return claim
}

// Fill stores the item of the loader whose claim has the version, and ends the
// claim, on any error but ErrBusy too. If the claim is no longer there, as its
// deadline has passed and another took it over, or the key was set or deleted
// meanwhile, it is ErrClaimLost and nothing is stored. It waits as Put does.
func (st *Stack) Fill(ctx context.Context, k Key, claim uint64, it *Item) (version uint64, err error) {
	if err := st.fits(&k, it); err != nil {
		return 0, errors.Join(err, st.Release(ctx, k, claim))
	}
	err = st.claimed(ctx, k, claim, func(col *column, f *found) error {
		if f.record.isAt(version) { // the second try, after a rebuild
			return nil
		}
		version, err = col.replace(&k, it, f)
		return err
	})
	if err != nil {
		version = 0
	}
	return version, err
}

// Release ends the claim without a value: the next one who misses the key claims
// it anew. ErrClaimLost says that it had ended. It waits as Put does.
func (st *Stack) Release(ctx context.Context, k Key, claim uint64) error {
	return st.claimed(ctx, k, claim, func(col *column, f *found) error { return f.endClaim(&k) })
}

// Fail ends the claim with an error: those who wait for it get the text, and all
// who miss the key until a wall time in milliseconds too. ErrClaimLost says that
// the claim had ended. It waits as Put does.
func (st *Stack) Fail(ctx context.Context, k Key, claim uint64, text string, until uint64) error {
	if st.top.domain.ReadOnly {
		return ErrReadOnly
	}
	ck := k.claim()
	failed := Claim{State: Failed, Owner: st.top.domain.Owner.Token(), Ended: claim, Until: until, Text: text}
	it := Item{Value: failed.bytes(int(st.top.geo.MaxValue))}
	return st.claimed(ctx, k, claim, func(col *column, f *found) error {
		_, err := col.write(&ck, &it, f.claim)
		if errors.Is(err, ErrFull) { // without the text it is no longer than the claim was
			it.Value = it.Value[:layout.ClaimText]
			_, err = col.write(&ck, &it, f.claim)
		}
		return err
	})
}

// claimed runs end under the lock if the claim is there, which its version says
// (claim.pml BREAK_FILL). In the second try, after a rebuild, the lock was held all
// the time: the claim was there, and may have ended by what the first one did.
func (st *Stack) claimed(ctx context.Context, k Key, claim uint64, end func(*column, *found) error) error {
	col := st.columnOf(k.hash)
	begun := false
	return st.update(ctx, col, func() error {
		f, err := col.find(&k)
		if err != nil {
			return err
		}
		if !begun && (!f.claim.isAt(claim)) {
			return fmt.Errorf("%w: claim %#x", ErrClaimLost, claim)
		}
		begun = true
		return end(col, &f)
	})
}
