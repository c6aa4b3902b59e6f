package slab

import (
	"errors"
	"testing"
	"time"
)

// LockAll holds one lock and waits for the next, which a stopped process has: Close of
// this handle ends that wait.
func TestClose_LockAllWaits_EndsBoth(t *testing.T) {
	w := newWorld()
	seg := newSegment(t, Options{Entries: 400, Shards: 4, MaxValue: 100})
	s, other := open(t, seg, w.member(0)), open(t, seg, w.member(1))
	if _, err := other.shards[1].mutex.Lock(bg); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		_, err := s.LockAll(bg)
		waiting <- err
	}()
	for held := false; !held; {
		_, _, held = s.shards[0].mutex.Holder()
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// What LockAll met is told when no lock is held: whoever is told may write.
func TestLockAll_ShardLeftByTheDead_ToldAfterUnlock(t *testing.T) {
	w := newWorld()
	seg := newSegment(t, Options{Entries: 400, Shards: 4, MaxValue: 100})
	dead := w.member(1)
	d := w.member(0).domain()
	var s *Slab
	var told []error
	d.Notify = func(Event) {
		ctx, cancel := contextFor(time.Minute)
		defer cancel()
		told = append(told, s.Set(ctx, key16(1), []byte("v"), 0))
	}
	s, err := Open(seg, d, testID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, seg, dead).shards[1].mutex.Lock(bg); err != nil {
		t.Fatal(err)
	}
	w.kill(dead)
	all, err := s.LockAll(bg)
	if err != nil || len(told) > 0 {
		t.Fatal(err, told)
	}
	if err := all.Unlock(); err != nil || len(told) != 2 || errors.Join(told...) != nil {
		t.Fatal(err, told) // stolen, and rebuilt
	}
}
