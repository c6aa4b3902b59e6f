//go:build linux

package slab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// tiersVariable names the folders of a stack's files, for a child that moves records.
const tiersVariable = "FLAGSTONE_TEST_TIERS"

const moverKeys = 40

// openSharedStack opens the slabs in the folders, the first of which has the leases.
func openSharedStack(dirs []string, region, generation uint32) (*Stack, error) {
	top, err := openShared(dirs[0], region, generation)
	if err != nil {
		return nil, err
	}
	tiers := []Tier{{Slab: top}}
	for _, dir := range dirs[1:] {
		seg, err := mapSlab(dir)
		if err != nil {
			return nil, err
		}
		below, err := OpenBelow(seg, top, testID)
		if err != nil {
			return nil, err
		}
		tiers = append(tiers, Tier{Slab: below})
	}
	return NewStack(StackOptions{Promote: region%2 == 1}, tiers...), nil
}

// mover is a child that moves, promotes and sets until it is killed, and says a byte
// for every few operations.
func mover(string) error {
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	generation, _ := strconv.ParseUint(os.Getenv("GENERATION"), 10, 32)
	st, err := openSharedStack(strings.Split(os.Getenv(tiersVariable), ":"), 1, uint32(generation))
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for number := generation << 32; ; number++ {
		key := random.Uint64N(moverKeys)
		switch random.IntN(8) {
		case 0, 1:
			if err := st.Set(bg, key16(key), proof(nil, key, number), 0); err != nil {
				return err
			}
		case 2, 3:
			if _, _, err := st.Get(nil, key16(key)); err != nil && !errors.Is(err, ErrBusy) {
				return err
			}
		case 4: // others come and go beside them
			other := moverKeys + random.Uint64N(4)
			if _, err := st.Delete(bg, key16(other)); err != nil {
				return err
			}
			if err := st.Set(bg, key16(other), proof(nil, other, number), 0); err != nil {
				return err
			}
		default:
			from := random.IntN(3)
			to := (from + 1 + random.IntN(2)) % 3
			if _, err := st.Move(bg, st.tiers[from].Slab, st.tiers[to].Slab, math.MaxUint64, 1+random.IntN(8)); err != nil {
				return err
			}
		}
		if number%16 == 0 {
			if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
				return nil // the parent is gone
			}
		}
	}
}

func TestCrash_MoverKilledAnywhere_NothingMissedOlderOrTwice(t *testing.T) {
	eachOrder(t, checkMoverKilledAnywhere)
}

func checkMoverKilledAnywhere(t *testing.T, order Order) {
	var dirs []string
	for _, cell := range []int{128, 64, 192} {
		dir, _, _ := newFileSegment(t, Options{Entries: moverKeys * 20, Shards: 1, CellSize: cell, MaxKey: 16, MaxValue: 400, Order: order})
		dirs = append(dirs, dir)
	}
	st, err := openSharedStack(dirs, 0, 1)
	must(t, err)
	var floor [moverKeys]atomic.Uint64
	for key := range uint64(moverKeys) {
		must(t, st.Set(bg, key16(key), proof(nil, key, 1), 0))
	}
	look := func(key uint64, get func() ([]byte, bool, error)) error {
		least := floor[key].Load()
		v, ok, err := get()
		if errors.Is(err, ErrBusy) {
			return nil
		}
		if err != nil || !ok {
			return fmt.Errorf("key %d missed, number %#x was there: %v", key, least, err)
		}
		number, err := prove(v, key)
		if err != nil || number < least {
			return fmt.Errorf("key %d: number %#x after %#x: %v", key, number, least, err)
		}
		for old := floor[key].Load(); old < number && !floor[key].CompareAndSwap(old, number); old = floor[key].Load() {
		}
		return nil
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	done := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(done)
	readers.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-done:
				return
			default:
			}
			key := mix(i) % moverKeys
			if err := look(key, func() ([]byte, bool, error) { return st.Get(nil, key16(key)) }); err != nil {
				t.Error(err)
				return
			}
			runtime.Gosched()
		}
	})
	inLock := 0
	for round := range effort(24) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dirs[0], tiersVariable+"="+strings.Join(dirs, ":"),
			"SEED="+strconv.FormatUint(random.Uint64(), 10), fmt.Sprint("GENERATION=", round+1))
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 1+random.IntN(60)))
		for range random.IntN(20_000) {
			shm.Pause()
		}
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if err != nil || complaint.Len() > 0 {
			t.Fatalf("round %d: child: %v, %s", round, err, complaint.String())
		}
		if holders, err := st.Holders(); err != nil {
			t.Fatal(err)
		} else if len(holders) > 0 {
			inLock++
		}
		for key := range uint64(moverKeys) { // whatever the state of the lock
			must(t, look(key, func() ([]byte, bool, error) { return st.Get(nil, key16(key)) }))
		}
		soundStack(t, st)
		for key := range uint64(moverKeys) {
			must(t, look(key, func() ([]byte, bool, error) { return st.GetWaiting(bg, nil, st.Key(key16(key))) }))
		}
		if n, err := st.Len(); err != nil || n < moverKeys || n > moverKeys+4 {
			t.Fatalf("round %d: %d records, %v", round, n, err)
		}
		if t.Failed() {
			return
		}
	}
	all, err := st.Stats()
	must(t, err)
	t.Logf("died %d times with the lock; %d moves, %d rebuilds", inLock, all.MovedIn, all.Rebuilds)
	if all.Dropped != 0 || all.EvictedFull != 0 {
		t.Errorf("%+v", all)
	}
}
