// Command byhand decides itself what goes where, without a steward: it keeps what is
// used in the cache and moves the rest, in batches, to a slab of its own, an archive.
// A second process, this program again, learns of the archive by a message on its
// stdin, looks into both, and misses nothing while entries move. In the end the archive
// is dumped at one moment, and retired.
//
// It exits with status 0 only if all of that held.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
)

const (
	domain  = "byhand"
	entries = 2000
	idle    = 200 * time.Millisecond // an hour elsewhere
)

// precise is how exactly ages are to be known here.
const precise = time.Millisecond

func main() {
	run := owner
	if len(os.Args) == 2 { // the reader is told the directory
		run = reader
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "byhand:", err)
		os.Exit(1)
	}
}

func key(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

// owner fills the cache, and moves.
func owner(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "byhand-") // elsewhere /dev/shm, which is the default
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cache, err := flagstone.Open(ctx, domain, flagstone.Options{Dir: dir, Entries: 2 * entries, Precision: precise})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, cache.Close(), flagstone.Destroy(context.WithoutCancel(ctx), dir, domain))
	}()
	archive, err := cache.CreateSlab(ctx, "archive", flagstone.Shape{Entries: 2 * entries, OnFull: flagstone.Refuse, Precision: precise})
	if err != nil {
		return err
	}
	for i := range entries {
		if err := cache.Set(ctx, key(i), key(i), flagstone.NoExpiry); err != nil {
			return err
		}
	}

	// The other process is told of the archive in a message of ours.
	message, err := archive.Descriptor().MarshalText()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	other := exec.CommandContext(ctx, self, dir)
	other.Stderr = os.Stderr
	stdin, err := other.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(stdout)
	fmt.Fprintln(stdin, string(message))
	if !lines.Scan() { // it looks
		return errors.Join(io.ErrUnexpectedEOF, other.Wait())
	}

	moved, err := moveIdle(ctx, cache, archive)
	if err != nil {
		return err
	}
	stdin.Close()
	lines.Scan()
	fmt.Printf("moved %d of %d entries; %s\n", moved, entries, lines.Text())
	if err := other.Wait(); err != nil {
		return err
	}
	return dumpAndRetire(ctx, archive, moved)
}

// moveIdle moves what is not used, 100 at a time, until half of the entries have gone;
// the even ones stay in use.
func moveIdle(ctx context.Context, cache *flagstone.Cache, archive *flagstone.Slab) (moved int, err error) {
	tiers, err := cache.Tiers()
	if err != nil {
		return 0, err
	}
	for moved < entries/2 {
		for i := 0; i < entries; i += 2 {
			if _, err := cache.Touch(ctx, key(i), flagstone.NoExpiry); err != nil {
				return moved, err
			}
		}
		n, err := cache.Move(ctx, tiers[0], archive, idle, 100)
		if moved += n; err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// dumpAndRetire looks at the archive while nobody writes, and ends it.
func dumpAndRetire(ctx context.Context, archive *flagstone.Slab, want int) error {
	if _, err := archive.LockWriters(ctx); err != nil {
		return err
	}
	n, size := 0, 0
	for r, err := range archive.All(ctx) {
		if err != nil {
			return errors.Join(err, archive.Unlock(true))
		}
		n, size = n+1, size+len(r.Key)+len(r.Value)
	}
	if err := archive.Unlock(true); err != nil {
		return err
	}
	fmt.Printf("dumped %d entries, %d bytes\n", n, size)
	if n != want {
		return fmt.Errorf("%d entries in the archive, %d were moved there", n, want)
	}
	if err := archive.Retire(ctx); err != nil {
		return err
	}
	_, err := archive.EvictPairs(ctx, 0, math.MaxInt)
	if !errors.Is(err, flagstone.ErrRetired) {
		return fmt.Errorf("after Retire: %w", err)
	}
	fmt.Println("retired the archive")
	return nil
}

// reader looks every entry up, in the cache and then in the archive, until its stdin
// ends.
func reader(ctx context.Context) (err error) {
	cache, err := flagstone.Open(ctx, domain, flagstone.Options{Dir: os.Args[1], MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadString('\n')
	if err != nil {
		return err
	}
	var d flagstone.Descriptor
	if err := d.UnmarshalText([]byte(strings.TrimSpace(line))); err != nil {
		return err
	}
	archive, err := cache.OpenDescriptor(ctx, d)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		_, _ = stdin.ReadByte()
		close(over)
	}()
	fmt.Println("looking")
	lookups, inArchive := 0, 0
	for last := false; ; {
		for i := range entries {
			value, ok, err := cache.Peek(nil, key(i)) // the source first: then the target has it
			if err == nil && !ok {
				value, ok, err = archive.Peek(nil, key(i))
				inArchive++
			}
			switch {
			case errors.Is(err, flagstone.ErrBusy):
				continue
			case err != nil:
				return err
			case !ok || string(value) != string(key(i)):
				return fmt.Errorf("missed %q", key(i))
			}
			lookups++
		}
		if last {
			break
		}
		select {
		case <-over:
			last = true
		default:
		}
	}
	fmt.Printf("the other process looked, in the archive too: %v, and missed none: %v\n", inArchive > 0, lookups > 0)
	return nil
}
