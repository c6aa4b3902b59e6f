package flagstone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
)

// Processes set, delete, count and swap keys whose values tell whether they are whole
// and how new they are, while they grow, drain and move records themselves, and are
// killed and stopped. Each says what it is about to do, and what it has done.
const (
	staying  = 150 // keys that are there throughout
	owned    = 60  // keys of each process, which nobody else writes
	counters = 3
	slots    = 4 // processes at a time
)

// stamped is a value that tells its key and how new it is.
func stamped(key string, serial int) []byte {
	line := fmt.Appendf(nil, "%s %d ", key, serial)
	return bytes.Repeat(line, 1+serial%12)
}

// serialOf returns how new a value is; ok is false if it is torn or another key's.
func serialOf(key string, value []byte) (serial int, ok bool) {
	_, rest, _ := strings.Cut(string(value), " ")
	number, _, _ := strings.Cut(rest, " ")
	serial, err := strconv.Atoi(number)
	return serial, err == nil && bytes.Equal(value, stamped(key, serial))
}

func ownKey(slot, i int) string { return fmt.Sprint("own", slot, "/", i) }

// stressOptions make a cache too small for all of it, which loses nothing for that.
func stressOptions(dir string) flagstone.Options {
	o := small(dir)
	o.Entries, o.OnFull = 500, flagstone.Refuse
	o.Wake.Poll = 100 * time.Millisecond
	// Whichever process is the steward, killed or stopped in the middle as any, adds and
	// drains slabs beside those that do it by hand. What is younger than an hour stays.
	o.Steward.KeepFor, o.Steward.Budget = time.Hour, 1<<40
	return o
}

// worker is the life of one process.
type worker struct {
	c      *flagstone.Cache
	ctx    context.Context
	rand   *rand.Rand
	slot   int
	serial int
	mine   map[string]int // serial of the own keys that are there
	newest map[string]int // that it saw of others'
	batch  flagstone.Batch
}

func live(dir, seed, slot string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	s, _ := strconv.ParseUint(seed, 10, 64)
	w := &worker{ctx: ctx, rand: rand.New(rand.NewPCG(s, 1)), mine: map[string]int{}, newest: map[string]int{}}
	w.slot, _ = strconv.Atoi(slot)
	w.serial = int(time.Now().UnixNano()) // newer than what one before it wrote
	o := stressOptions(dir)
	o.NoPromotion = s%2 == 0
	o.Search = flagstone.Search(s % 3)
	if w.c, err = flagstone.Open(ctx, name, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.c.Close()) }()
	for i := range owned {
		if err := w.delete(ownKey(w.slot, i)); err != nil {
			return err
		}
	}
	for {
		if err := w.step(); err != nil {
			return err
		}
		if _, stop, err := w.c.Peek(nil, []byte("stop")); stop || err != nil && !errors.Is(err, flagstone.ErrBusy) {
			return err
		}
	}
}

func (w *worker) step() error {
	own := ownKey(w.slot, w.rand.IntN(owned))
	switch dice := w.rand.IntN(1000); {
	case dice < 300:
		return w.set(own)
	case dice < 350:
		return w.delete(own)
	case dice < 420:
		return w.increment(fmt.Sprint("counter", w.rand.IntN(counters)))
	case dice < 470:
		return w.swap(fmt.Sprint("swapped", w.rand.IntN(counters)))
	case dice < 960:
		return w.look()
	case dice < 970:
		return w.scan()
	case dice < 990:
		_, err := w.c.Shift(w.ctx, w.rand.IntN(3), w.rand.IntN(3), 1+w.rand.IntN(100))
		return allowed(err, flagstone.ErrFull, flagstone.ErrTooLarge, flagstone.ErrRetired, flagstone.ErrOptions)
	}
	tiers, err := w.c.Tiers()
	if err != nil {
		return err
	}
	if len(tiers) < 3 {
		_, err = w.c.Grow(w.ctx, "grown", flagstone.Shape{Entries: 500 + w.rand.Uint64N(500)})
		return allowed(err)
	}
	_, err = tiers[1+w.rand.IntN(len(tiers)-1)].Drain(w.ctx)
	return allowed(err, flagstone.ErrFull, flagstone.ErrRetired, flagstone.ErrState)
}

// allowed is err unless it is one that may be.
func allowed(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// write says what it is about to do to the key, does it, and says that it has.
func (w *worker) write(key string, serial int, do func() (done bool, err error)) (done bool, err error) {
	fmt.Println("begin", key, serial)
	done, err = do()
	if !done {
		fmt.Println("none")
	} else if err == nil {
		fmt.Println("end")
	}
	return done, allowed(err, flagstone.ErrFull)
}

func (w *worker) set(key string) error {
	w.serial++
	done, err := w.write(key, w.serial, func() (bool, error) {
		err := w.c.Set(w.ctx, []byte(key), stamped(key, w.serial), 0)
		return err == nil, err
	})
	if done {
		w.mine[key] = w.serial
	}
	return err
}

func (w *worker) delete(key string) error {
	_, err := w.write(key, 0, func() (bool, error) {
		found, err := w.c.Delete(w.ctx, []byte(key))
		if there := w.mine[key] != 0; err == nil && there && !found {
			err = fmt.Errorf("%s was not found to be deleted", key)
		}
		return true, err
	})
	delete(w.mine, key)
	return err
}

func (w *worker) increment(key string) error {
	_, err := w.write(key, 1, func() (bool, error) {
		sum, err := w.c.Increment(w.ctx, []byte(key), 1, 0, 0)
		if err == nil && int(sum) <= w.newest[key] {
			err = fmt.Errorf("%s is %d, it was %d", key, sum, w.newest[key])
		}
		w.newest[key] = int(sum)
		return err == nil, err
	})
	return err
}

func (w *worker) swap(key string) error {
	it, ok, err := w.c.GetItem(nil, []byte(key))
	if !ok && err == nil {
		err = fmt.Errorf("%s is not there", key)
	}
	if err != nil {
		return allowed(err, flagstone.ErrBusy)
	}
	was, _ := strconv.Atoi(string(it.Value))
	if was < w.newest[key] {
		return fmt.Errorf("%s is %d, it was %d", key, was, w.newest[key])
	}
	w.newest[key] = was
	_, err = w.write(key, 1, func() (bool, error) {
		_, stored, err := w.c.CompareAndSwap(w.ctx, []byte(key), it.Token, fmt.Append(nil, was+1), 0)
		return stored, err
	})
	return err
}

// look looks up some keys, one by one or together.
func (w *worker) look() error {
	keys := [][]byte{
		fmt.Append(nil, "stays", w.rand.IntN(staying)), []byte(ownKey(w.slot, w.rand.IntN(owned))),
		[]byte(ownKey(w.rand.IntN(slots), w.rand.IntN(owned))), []byte("missing"),
	}
	if w.rand.IntN(2) == 0 {
		if err := w.c.GetBatch(&w.batch, keys); err != nil {
			return allowed(err, flagstone.ErrBusy)
		}
		for i, k := range keys {
			v, ok := w.batch.Value(i)
			if err := w.judge(string(k), v, ok); err != nil {
				return err
			}
		}
		return nil
	}
	for _, k := range keys {
		v, ok, err := w.c.Get(nil, k)
		if err == nil {
			err = w.judge(string(k), v, ok)
		}
		if err := allowed(err, flagstone.ErrBusy); err != nil {
			return err
		}
	}
	return nil
}

// judge says what is wrong with an answer.
func (w *worker) judge(key string, value []byte, ok bool) error {
	serial, whole := serialOf(key, value)
	want, mine := w.mine[key]
	switch {
	case ok && !whole:
		return fmt.Errorf("%s is torn: %.80q", key, value)
	case key == "missing" && ok:
		return fmt.Errorf("%s is there", key)
	case strings.HasPrefix(key, "stays") && !ok, mine && !ok:
		return fmt.Errorf("%s is missed", key)
	case strings.HasPrefix(key, fmt.Sprint("own", w.slot, "/")) && (ok != mine || ok && serial != want):
		return fmt.Errorf("%s is %d, %v, want %d, %v", key, serial, ok, want, mine)
	case ok && serial < w.newest[key]:
		return fmt.Errorf("%s is %d, it was %d", key, serial, w.newest[key])
	case ok:
		w.newest[key] = serial
	}
	return nil
}

func (w *worker) scan() error {
	seen := map[string]bool{}
	for r, err := range w.c.All(w.ctx) {
		if err != nil {
			return err
		}
		key := string(r.Key)
		if seen[key] {
			return fmt.Errorf("All has %s twice", key)
		}
		seen[key] = true
		if strings.HasPrefix(key, "stays") || strings.HasPrefix(key, "own") {
			if err := w.judge(key, r.Value, true); err != nil {
				return err
			}
		}
	}
	for i := range staying {
		if k := fmt.Sprint("stays", i); !seen[k] {
			return fmt.Errorf("All leaves out %s", k)
		}
	}
	for k := range w.mine {
		if !seen[k] {
			return fmt.Errorf("All leaves out %s", k)
		}
	}
	return nil
}

// ledger is what the processes said. One of them writes in it at a time.
type ledger struct {
	mu     sync.Mutex     // guards the rest
	serial map[string]int // of the keys that one process writes, 0 if deleted
	sum    map[string]int // of those that all do
	open   map[string]int // of those: whether it was done nobody lived to say
	errs   []string
}

// diary reads what one process says.
type diary struct {
	*child
	slot   int
	done   chan struct{} // closed when it has ended
	doubt  string        // begun and not ended: valid then
	serial int
}

var said atomic.Int64 // lines

func (l *ledger) read(d *diary) {
	defer close(d.done)
	for d.lines.Scan() {
		said.Add(1)
		words := append(strings.Fields(d.lines.Text()), "", "", "")
		l.mu.Lock()
		switch words[0] {
		case "begin":
			d.doubt = words[1]
			d.serial, _ = strconv.Atoi(words[2])
		case "end":
			if strings.HasPrefix(d.doubt, "own") {
				l.serial[d.doubt] = d.serial
			} else {
				l.sum[d.doubt]++
			}
			d.doubt = ""
		case "none":
			d.doubt = ""
		case "done":
		default:
			l.errs = append(l.errs, fmt.Sprint("process ", d.slot, ": ", d.lines.Text()))
		}
		l.mu.Unlock()
	}
	if d.doubt != "" && !strings.HasPrefix(d.doubt, "own") {
		l.mu.Lock()
		l.open[d.doubt]++
		l.mu.Unlock()
	}
}

// check compares the keys of an ended process with what it said.
func (l *ledger) check(t *testing.T, c *flagstone.Cache, d *diary) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range owned {
		key := ownKey(d.slot, i)
		var v []byte
		var ok bool
		eventually(t, "an answer", func() (sure bool) {
			var err error
			if v, ok, err = c.Get(nil, []byte(key)); !errors.Is(err, flagstone.ErrBusy) {
				must(t, err)
				return true
			}
			return false
		})
		serial, whole := serialOf(key, v)
		if !ok {
			serial, whole = 0, true
		}
		if key == d.doubt && serial == d.serial {
			l.serial[key] = serial
		}
		if !whole || serial != l.serial[key] {
			t.Fatalf("%s is %d, %v, acknowledged was %d; in doubt: %s %d", key, serial, ok, l.serial[key], d.doubt, d.serial)
		}
	}
}

func TestTiers_ProcessesLiveAndDie_NothingAcknowledgedIsLost(t *testing.T) {
	blows := 35 // kills and stops
	switch {
	case os.Getenv("FLAGSTONE_LONG") != "":
		blows = 2000
	case testing.Short():
		blows = 4
	}
	seed := rand.Uint64() >> 1
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	cache := open(t, stressOptions(dir))
	for i := range staying {
		k := fmt.Sprint("stays", i)
		must(t, cache.Set(limited(t), []byte(k), stamped(k, i), 0))
	}
	for i := range counters {
		must(t, cache.Set(limited(t), fmt.Append(nil, "swapped", i), []byte("0"), 0))
	}
	l := &ledger{serial: map[string]int{}, sum: map[string]int{}, open: map[string]int{}}
	begin := func(slot int) *diary {
		d := &diary{child: start(t, dir), slot: slot, done: make(chan struct{})}
		d.tell("live", random.Uint64N(1<<40), slot)
		go l.read(d)
		return d
	}
	var all [slots]*diary
	for slot := range all {
		all[slot] = begin(slot)
	}
	stays := 0
	lines := func(n int64) { // waits until the processes have said so much more
		t.Helper()
		until := said.Load() + n
		eventually(t, "progress", func() bool {
			stays = (stays + 1) % staying
			k := fmt.Sprint("stays", stays)
			if v, ok, err := cache.Get(nil, []byte(k)); !errors.Is(err, flagstone.ErrBusy) && (!ok || err != nil || !bytes.Equal(v, stamped(k, stays))) {
				t.Fatalf("%s is %.80q, %v, %v", k, v, ok, err)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.errs) > 0 {
				t.Fatal(strings.Join(l.errs, "\n"))
			}
			return said.Load() >= until
		})
	}
	for range blows {
		lines(2000 + random.Int64N(2000))
		d := all[random.IntN(slots)]
		if random.IntN(3) == 0 {
			d.stop()
			// It may hold what all others need, so there is nothing to wait for but time.
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			d.resume()
			continue
		}
		must(t, d.cmd.Process.Signal(unix.SIGKILL))
		<-d.done
		d.kill()
		l.check(t, cache, d)
		all[d.slot] = begin(d.slot)
	}
	lines(2000)
	for {
		err := cache.Set(limited(t), []byte("stop"), nil, 0)
		if err == nil {
			break
		}
		mustFail(t, err, flagstone.ErrFull)
	}
	for _, d := range all {
		must(t, d.stdin.Close())
		<-d.done
		d.kill()
		l.check(t, cache, d)
	}
	if len(l.errs) > 0 {
		t.Fatal(strings.Join(l.errs, "\n"))
	}
	sound(t, cache)
	for i := range staying {
		k := fmt.Sprint("stays", i)
		mustGet(t, cache, k, string(stamped(k, i)))
	}
	for i := range counters {
		key := fmt.Sprint("counter", i)
		sum, err := cache.Increment(limited(t), []byte(key), 0, 0, 0)
		must(t, err)
		if low := l.sum[key]; int(sum) < low || int(sum) > low+l.open[key] {
			t.Fatalf("%s is %d, acknowledged were %d and %d in doubt", key, sum, low, l.open[key])
		}
		key = fmt.Sprint("swapped", i)
		v, _, err := cache.Get(nil, []byte(key))
		must(t, err)
		if n, _ := strconv.Atoi(string(v)); n < l.sum[key] || n > l.sum[key]+l.open[key] {
			t.Fatalf("%s is %s, acknowledged were %d and %d in doubt", key, v, l.sum[key], l.open[key])
		}
	}
	st, err := cache.Stats()
	must(t, err)
	for key := range l.serial {
		_, err := cache.Delete(limited(t), []byte(key))
		must(t, err)
	}
	tiers, err := cache.Tiers()
	must(t, err)
	for _, s := range tiers[1:] {
		must(t, drained(t, s))
	}
	eventually(t, "all entries are free", func() bool {
		_, err := cache.Table().Reap()
		must(t, err)
		return len(cache.Table().Entries()) == 1
	})
	slabFile(t, dir) // is the only one
	eventually(t, "unmapped here", func() bool { return mappedSlabs(nil) == 1 })
	sound(t, cache)
	if st.MovedIn == 0 || st.Dropped != 0 {
		t.Fatalf("%+v", st)
	}
	t.Logf("%d lines, %d changes of the directory", said.Load(), cache.Table().Changes())
}
