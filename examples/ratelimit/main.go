// Command ratelimit is a rate limiter that processes share: a counter per client,
// which expires with its window. It starts four workers, this program again, which
// all let the same clients in as fast as they can. Together they let through exactly
// as many as the limit says.
//
// It exits with status 0 only if that held.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// Limiter lets every client do Limit things in the Window that begins with the
// first of them, in all processes that open the cache together.
type Limiter struct {
	cache  *flagstone.Namespace
	limit  int64
	window time.Duration
}

// NewLimiter returns the limiter of that name.
func NewLimiter(cache *flagstone.Cache, name string, limit int64, window time.Duration) *Limiter {
	return &Limiter{cache.Namespace("limit:" + name), limit, window}
}

// Allow reports whether the client may go on; if not, after how long.
func (l *Limiter) Allow(ctx context.Context, client string) (ok bool, retry time.Duration, err error) {
	// The first increment makes the counter, to expire with the window. Later ones
	// leave the expiry alone.
	n, err := l.cache.Increment(ctx, []byte(client), 1, 0, l.window)
	if err != nil || n <= l.limit {
		return err == nil, 0, err
	}
	retry, _, err = l.cache.TTL([]byte(client))
	return false, retry, err
}

const (
	workers  = 4
	limit    = 1000
	attempts = 2 * limit // by each worker, for each client
	domain   = "ratelimit"
)

var clients = []string{"alice", "bob", "carol"}

func main() {
	run := parent
	if len(os.Args) == 2 { // a worker is told the directory
		run = work
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimit:", err)
		os.Exit(1)
	}
}

// work waits for its stdin to end, so that all begin together, and prints the
// client's name each time that it lets one in.
func work(ctx context.Context) (err error) {
	cache, err := open(ctx, os.Args[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	limiter := NewLimiter(cache, "login", limit, time.Hour)
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	for range attempts {
		for _, client := range clients {
			ok, retry, err := limiter.Allow(ctx, client)
			if err != nil {
				return err
			}
			if ok {
				fmt.Println(client)
			} else if retry <= 0 || retry > time.Hour {
				return fmt.Errorf("%s may try again in %v: want up to an hour", client, retry)
			}
		}
	}
	return nil
}

func open(ctx context.Context, dir string) (*flagstone.Cache, error) {
	return flagstone.Open(ctx, domain, flagstone.Options{Dir: dir, Size: 1 << 20})
}

func parent(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ratelimit-") // elsewhere /dev/shm, which is the default
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The workers' shared cache goes when they are done.
	defer func() { err = errors.Join(err, flagstone.Destroy(context.WithoutCancel(ctx), dir, domain)) }()

	var all []*worker
	for range workers {
		w, err := start(ctx, dir)
		if err != nil {
			return err
		}
		defer w.kill()
		all = append(all, w)
	}
	done := make(chan error)
	for _, w := range all {
		go func() { done <- w.work() }()
	}
	for range all {
		err = errors.Join(err, <-done)
	}
	if err != nil {
		return err
	}
	for _, client := range clients {
		sum := 0
		for i, w := range all {
			fmt.Printf("worker %d let %s in %d times\n", i, client, w.allowed[client])
			sum += w.allowed[client]
		}
		fmt.Printf("together: %d of %d attempts, the limit is %d\n", sum, workers*attempts, limit)
		if sum != limit {
			err = errors.Join(err, fmt.Errorf("%s was let in %d times, the limit is %d", client, sum, limit))
		}
	}
	return err
}

// worker is a process that works.
type worker struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	lines   *bufio.Scanner
	allowed map[string]int // how often it let a client in
}

// start starts a worker and waits until it is ready.
func start(ctx context.Context, dir string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, self, dir), allowed: map[string]int{}}
	w.cmd.Stderr = os.Stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	if !w.lines.Scan() {
		w.kill()
		return nil, errors.New("a worker did not start")
	}
	return w, nil
}

// work lets the worker begin and counts whom it lets in until it is done.
func (w *worker) work() error {
	err := w.stdin.Close()
	for w.lines.Scan() {
		w.allowed[w.lines.Text()]++
	}
	return errors.Join(err, w.lines.Err(), w.cmd.Wait())
}

func (w *worker) kill() { _ = w.cmd.Process.Kill() }
