//go:build linux

package slab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// Children are this test binary again. They share a slab's file with their parent;
// who lives is told by OFD locks on another file, one byte each.

const childVariable = "FLAGSTONE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		role := writer
		if os.Getenv(readerVariable) != "" {
			role = readStopped
		}
		if os.Getenv(tiersVariable) != "" {
			role = mover
		}
		if err := role(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if quick > 1 { // the command line comes later and wins
		_ = errors.Join(flag.Set("rapid.checks", "300"), flag.Set("rapid.steps", "60"))
	}
	os.Exit(m.Run())
}

// leaseHolder is a lock.Owner whose life is an OFD lock.
type leaseHolder struct {
	region uint32
	token  uint64
	leases *os.File
}

func newLeaseHolder(dir string, region, generation uint32) (*leaseHolder, error) {
	f, err := os.OpenFile(filepath.Join(dir, "leases"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	h := &leaseHolder{region, lock.Token(region, generation), f}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(region), Len: 1}
	return h, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
}

func (h *leaseHolder) Token() uint64 { return h.token }
func (h *leaseHolder) Dead(token uint64) bool {
	region, _, ok := lock.Region(token)
	if !ok || region == h.region {
		return true // a former generation's
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(region), Len: 1}
	return unix.FcntlFlock(h.leases.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type == unix.F_UNLCK
}
func (*leaseHolder) Ask(uint64) {}

func openShared(dir string, region, generation uint32) (*Slab, error) {
	h, err := newLeaseHolder(dir, region, generation)
	if err != nil {
		return nil, err
	}
	seg, err := mapSlab(dir)
	if err != nil {
		return nil, err
	}
	var wall, now layout.Uint64
	wall.Store(1000)
	now.Store(1000)
	return Open(seg, Domain{Owner: h, Wall: &wall, Now: &now}, testID)
}

// operations is the endless list of what a child does, told by a seed: the parent
// follows it in a model.
type operations struct {
	random *rand.Rand
	number uint64
}

type operation struct {
	kind        string
	key, number uint64
}

const crashKeys = 60

func newOperations(seed uint64) *operations {
	return &operations{random: rand.New(rand.NewPCG(seed, 0))}
}

func (o *operations) next() operation {
	o.number++
	op := operation{"set", o.random.Uint64N(crashKeys), o.number}
	switch n := o.random.IntN(200); {
	case n < 30:
		op.kind = "delete"
	case n < 33:
		op.kind = "rebuild"
	case n < 60:
		op.kind = "swap"
	case n < 90:
		op.kind, op.key = "add", crashKeys+op.key%4
	case n < 110:
		op.kind = "batch"
	case n < 113:
		op.kind = "evict"
	case n < 115:
		op.kind = "clear"
	}
	return op
}

// batched is how many keys a batch sets, from its key on.
const batched = 5

func (op operation) item(key uint64) Item {
	return Item{Value: proof(nil, key, op.number), Tag: uint32(1 + key%3)}
}

func (op operation) do(s *Slab) (err error) {
	switch op.kind {
	case "set":
		err = s.Set(bg, key16(op.key), proof(nil, op.key, op.number), 0)
	case "delete":
		_, err = s.Delete(bg, key16(op.key))
	case "rebuild":
		err = s.Rebuild(bg)
	case "swap":
		k, it := s.Key(key16(op.key)), op.item(op.key)
		old, _, err := s.Look(nil, k, 0)
		if err != nil {
			return err
		}
		if _, stored, err := s.Put(bg, k, &it, old.Version); err != nil || !stored {
			return fmt.Errorf("swap for version %#x: %v, %w", old.Version, stored, err)
		}
	case "add":
		_, err = s.Add(bg, s.Key(key16(op.key)), 1, Item{Value: make([]byte, 8)})
	case "batch":
		var items []KeyItem
		for key := op.key; key < min(op.key+batched, crashKeys); key++ {
			items = append(items, KeyItem{s.Key(key16(key)), op.item(key)})
		}
		_, err = s.PutBatch(bg, items)
	case "evict":
		_, err = s.EvictTag(bg, uint32(1+op.key%3), math.MaxInt)
	case "clear":
		err = s.Clear(bg)
	}
	return err
}

// follow does the operation to the model: what is under each key, the number that
// last set it, or a counter's value, and whether it has a tag.
func (op operation) follow(model map[uint64]uint64, tagged map[uint64]bool) {
	switch op.kind {
	case "set":
		model[op.key], tagged[op.key] = op.number, false
	case "delete":
		delete(model, op.key)
	case "swap":
		model[op.key], tagged[op.key] = op.number, true
	case "add":
		model[op.key]++
	case "batch":
		for key := op.key; key < min(op.key+batched, crashKeys); key++ {
			model[key], tagged[key] = op.number, true
		}
	case "evict":
		maps.DeleteFunc(model, func(key, _ uint64) bool { return key < crashKeys && tagged[key] && key%3 == op.key%3 })
	case "clear":
		clear(model)
	}
}

// unacknowledged is how many operations a child does before it says so.
const unacknowledged = 16

// writer is the child: it does operations until it is killed, and says a byte for
// every few of them.
func writer(dir string) error {
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	generation, _ := strconv.ParseUint(os.Getenv("GENERATION"), 10, 32)
	s, err := openShared(dir, 1, uint32(generation))
	if err != nil {
		return err
	}
	for ops := newOperations(seed); ; {
		for range unacknowledged {
			op := ops.next()
			if op.kind == "clear" && os.Getenv("KEEP") != "" {
				continue
			}
			if err := op.do(s); err != nil {
				return err
			}
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			return nil // the parent is gone
		}
	}
}

func TestCrash_WriterKilledAnywhere_AcknowledgedIsThereAndSlabSound(t *testing.T) {
	eachOrder(t, checkCrashWriterKilledAnywhere)
}

func checkCrashWriterKilledAnywhere(t *testing.T, order Order) {
	// Room for all keys, several times: nothing is ever evicted.
	dir, _, _ := newFileSegment(t, Options{Entries: crashKeys * 10, Shards: 1, MaxValue: 400, Order: order})
	s, err := openShared(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	model, tagged := map[uint64]uint64{}, map[uint64]bool{}
	inLock := 0
	for round := range effort(20) {
		childSeed := random.Uint64()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir, "SEED="+strconv.FormatUint(childSeed, 10), fmt.Sprint("GENERATION=", round+1))
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		enough := 1 + random.IntN(200)
		acks, err := io.ReadFull(out, make([]byte, enough))
		spin := random.IntN(20_000)
		for range spin {
			shm.Pause()
		}
		_ = cmd.Process.Kill()
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		if err != nil || complaint.Len() > 0 {
			t.Fatalf("round %d: child: %v, %s", round, err, complaint.String())
		}
		acks += len(rest)

		// What is there has to be the outcome of all acknowledged operations and of
		// some that follow them, each whole.
		ops := newOperations(childSeed)
		for range acks * unacknowledged {
			ops.next().follow(model, tagged)
		}
		if holders, err := s.Holders(); err != nil {
			t.Fatal(err)
		} else if len(holders) > 0 {
			inLock++
		}
		for key, number := range model { // without the lock, whatever its state
			if v, ok, err := s.Get(nil, key16(key)); ok && err == nil && key < crashKeys {
				if _, err := prove(v, key); err != nil {
					t.Fatalf("round %d: key %d, number %d: %v", round, key, number, err)
				}
			} else if err != nil && !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
		}
		sound(t, s)
		found := map[uint64]uint64{}
		if err := s.Scan(bg, func(r Record) bool {
			key := binary.LittleEndian.Uint64(r.Key[8:])
			if key >= crashKeys {
				found[key] = binary.LittleEndian.Uint64(r.Value)
				return true
			}
			number, err := prove(r.Value, key)
			if err != nil {
				t.Fatal(err)
			}
			found[key] = number
			return true
		}); err != nil {
			t.Fatal(err)
		}
		matches := maps.Equal(found, model)
		for more := 0; more <= unacknowledged && !matches; more++ {
			before := maps.Clone(model)
			ops.next().follow(model, tagged)
			matches = between(found, before, model)
		}
		// The last one may have been done in part. Sets of its keys that came to
		// nothing leave their tags wrong, so all begin anew.
		if err := s.Clear(bg); err != nil {
			t.Fatal(err)
		}
		clear(model)
		if !matches {
			t.Fatalf("round %d: after %d acknowledged operations %v is no outcome", round, acks*unacknowledged, found)
		}
		if t.Failed() {
			return
		}
	}
	st, _ := s.Stats()
	t.Logf("died %d times with the lock; %d rebuilds, %d dropped", inLock, st.Rebuilds, st.Dropped)
	if st.Dropped != 0 {
		t.Errorf("%d records given up", st.Dropped)
	}
}

// between reports whether under each key there is what was before an operation or
// what was after it.
func between(found, before, after map[uint64]uint64) bool {
	for key := range uint64(crashKeys + 4) {
		if found[key] != before[key] && found[key] != after[key] {
			return false
		}
	}
	return true
}

// Lookups need no lock: a stopped writer keeps nobody from reading, and writers
// wait until their context ends.
func TestCrash_WriterStopped_ReadersGoOnWritersSayBusy(t *testing.T) {
	dir, _, _ := newFileSegment(t, Options{Entries: crashKeys * 10, Shards: 1, MaxValue: 400})
	s, err := openShared(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Set(bg, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir, "SEED=1", "GENERATION=1", "KEEP=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ack := make([]byte, 1)
	stoppedInside := false
	for i := range 500 { // stop it until it stands inside the lock
		if _, err := io.ReadFull(out, ack); err != nil {
			t.Fatal(err)
		}
		for range i * 50 { // into its next operations
			shm.Pause()
		}
		if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatal(err, status)
		}
		holders, err := s.Holders()
		if err != nil {
			t.Fatal(err)
		}
		rebuilding := s.shards[0].head.Epoch.Load()&layout.EpochRebuilding != 0 // where lookups say busy
		if stoppedInside = len(holders) > 0 && !rebuilding; stoppedInside {
			break
		}
		if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if !stoppedInside {
		t.Skip("the writer was never stopped with the lock")
	}
	mustGet(t, s, []byte("k"), "v")
	ctx, cancel := contextFor(20 * time.Millisecond)
	defer cancel()
	if err := s.Set(ctx, []byte("k"), []byte("w"), 0); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	mustGet(t, s, []byte("k"), "v")
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(bg, []byte("k"), []byte("w"), 0); err != nil {
		t.Fatal(err)
	}
	v, ok, err := s.Get(nil, []byte("k"))
	for ; errors.Is(err, ErrBusy); v, ok, err = s.Get(nil, []byte("k")) { // the writer rebuilds again
		runtime.Gosched()
	}
	if err != nil || !ok || string(v) != "w" {
		t.Fatalf("%q, %v, %v", v, ok, err)
	}
	if st := s.Counters(); st.Steals != 0 {
		t.Fatal("a stopped owner was robbed")
	}
	if _, err := io.ReadFull(out, ack); err != nil {
		t.Fatal("the writer does not go on:", err)
	}
}

func TestFault_FileTruncated_ErrorAndProcessLives(t *testing.T) {
	dir, _, f := newFileSegment(t, Options{Entries: 1000, Shards: 2})
	s, err := openShared(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range uint64(100) {
		if err := s.Set(bg, key16(i), key16(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := contextFor(20 * time.Second) // a lost lock would wait for ever
	defer cancel()
	size := int64(s.geo.FileSize())
	// To the start of the cells of shard 0: the lock works, the rest faults.
	if err := f.Truncate(int64(s.geo.shardOffset() + s.geo.cellOffset())); err != nil {
		t.Fatal(err)
	}
	faults := 0
	for i := range uint64(100) {
		_, _, err1 := s.Get(nil, key16(i))
		err2 := s.Set(ctx, key16(i), nil, 0)
		var b Batch
		err3 := s.GetBatch(&b, [][]byte{key16(i)})
		for _, err := range []error{err1, err2, err3} {
			if errors.Is(err, ErrFault) {
				faults++
			} else {
				t.Fatalf("record %d: %v, %v, %v", i, err1, err2, err3)
			}
		}
	}
	for name, op := range map[string]func() error{
		"Scan":  func() error { return s.Scan(bg, func(Record) bool { return true }) },
		"Evict": func() error { _, err := s.Evict(bg, 1<<40, 1); return err },
		"Check": func() error { _, err := s.Check(ctx); return err },
		"Stats": func() error { _, err := s.Stats(); return err },
	} {
		if err := op(); !errors.Is(err, ErrFault) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The file grows back, empty: the shard was left half done
	// and is rebuilt.
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(ctx, []byte("k"), []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	mustGet(t, s, []byte("k"), "v")
	sound(t, s)
}

// Writers die while they evict, others read: the queues are sound afterwards, and
// what is there is whole.
func TestCrash_KilledWhileEvicting_QueuesSound(t *testing.T) {
	eachOrder(t, checkKilledEvicting)
}

func checkKilledEvicting(t *testing.T, order Order) {
	dir, _, _ := newFileSegment(t, Options{Entries: crashKeys / 2, Shards: 1, MaxValue: 400, Order: order})
	s, err := openShared(dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	for round := range effort(12) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir, "SEED="+strconv.FormatUint(random.Uint64(), 10), fmt.Sprint("GENERATION=", round+1))
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadFull(out, make([]byte, 1+random.IntN(100)))
		for range random.IntN(2000) {
			key := random.Uint64N(crashKeys)
			if v, ok, err := s.Get(nil, key16(key)); ok {
				if _, err := prove(v, key); err != nil {
					t.Errorf("key %d: %v", key, err)
				}
			} else if err != nil && !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
			shm.Pause()
		}
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if err != nil || complaint.Len() > 0 {
			t.Fatalf("round %d: child: %v, %s", round, err, complaint.String())
		}
		sound(t, s)
		if err := s.Scan(bg, func(r Record) bool {
			key := binary.LittleEndian.Uint64(r.Key[8:])
			if _, err := prove(r.Value, key); err != nil && key < crashKeys { // others are counters
				t.Errorf("round %d: %v", round, err)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
	st, err := s.Stats()
	t.Logf("%d evictions, %d rebuilds, %d locks taken from the dead", st.EvictedFull, st.Rebuilds, s.Counters().Steals)
	if err != nil || st.EvictedFull == 0 || st.Dropped != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// mapSlab maps the slab's file in a directory.
func mapSlab(dir string) (*shm.Segment, error) {
	f, err := os.OpenFile(filepath.Join(dir, "slab"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return shm.Map(f, uint64(info.Size()))
}
