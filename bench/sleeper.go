package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/signal"
)

// sleeperArg makes this program a sleeper.
const sleeperArg = "sleeper"

// sleepers is how many idle processes there are to wake.
const sleepers = 16

// Ways to wake a sleeper.
const (
	slabByFutex = iota
	slabBySignal
	bareFutex
	bareSignal
	ways
)

// bareSignalNumber is none that Flagstone uses here.
const bareSignalNumber = unix.SIGUSR2

// bed is what a sleeper reads first.
type bed struct {
	Seat    int
	Board   string
	Dir     string
	Domains [2]string // by slabByFutex and slabBySignal
}

// modes are how a sleeper's two handles are woken.
var modes = [2]signal.Mode{slabByFutex: signal.ModeFutex, slabBySignal: signal.ModeSignal}

// board is a file that the sleepers share with who wakes them.
type board struct {
	Call  atomic.Uint32 // the bare futex
	_     [60]byte
	Seats [sleepers]seat
}

// seat is one sleeper's.
type seat struct {
	Woken  [ways]atomic.Int64 // CLOCK_MONOTONIC when it last was, 0 again when its waker has read it
	Slabs  [2]atomic.Int64    // that its handles have attached beside the first
	Parked atomic.Uint32      // what it last saw in Call, plus one
	_      [12]byte
}

const boardSize = 4096

// openBoard maps the board's file, which is made first by who wakes.
func openBoard(path string, create bool) (*shm.Segment, *board, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	var f *os.File
	var seg *shm.Segment
	if create {
		seg, f, err = shm.Create(dir, filepath.Base(path), boardSize, 0o600)
	} else if f, err = shm.OpenFile(dir, filepath.Base(path), false, 0); err == nil {
		seg, err = shm.Map(f, boardSize)
	}
	if err != nil {
		return nil, nil, err
	}
	return seg, shm.At[board](seg.Window(), 0), f.Close()
}

// sleep is a sleeper's life: it notes when it was woken, until in ends.
func sleep(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	decoder := json.NewDecoder(in)
	var b bed
	if err := decoder.Decode(&b); err != nil {
		return fmt.Errorf("read bed: %w", err)
	}
	seg, shared, err := openBoard(b.Board, false)
	if err != nil {
		return err
	}
	defer seg.Close()
	own := &shared.Seats[b.Seat]
	for way, domain := range b.Domains {
		c, err := flagstone.Open(ctx, domain, flagstone.Options{
			Dir: b.Dir, MustExist: true, Wake: signal.Options{Mode: modes[way]},
			OnEvent: func(e flagstone.Event) {
				switch e.Kind {
				case flagstone.EventSlabAdded: // and the view has it
					own.Woken[way].Store(monotonic())
					own.Slabs[way].Add(1)
				case flagstone.EventSlabGone:
					own.Slabs[way].Add(-1)
				}
			},
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	signals := make(chan os.Signal, 1)
	ossignal.Notify(signals, bareSignalNumber)
	go func() {
		for range signals {
			own.Woken[bareSignal].Store(monotonic())
		}
	}()
	stop := make(chan struct{})
	parked := make(chan struct{})
	go func() {
		defer close(parked)
		park(shared, own, stop)
	}()
	if err := json.NewEncoder(out).Encode(answer{}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	close(stop)
	<-parked
	return err
}

// park waits for calls, one after the other.
func park(shared *board, own *seat, stop <-chan struct{}) {
	for seen := shared.Call.Load(); ; {
		own.Parked.Store(seen + 1)
		if shm.FutexWait(&shared.Call, seen, time.Second) != nil {
			return
		}
		if now := shared.Call.Load(); now != seen {
			own.Woken[bareFutex].Store(monotonic())
			seen = now
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}
