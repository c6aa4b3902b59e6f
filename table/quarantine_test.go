//go:build linux

package table

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/identity"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm/forktest"
	"github.com/flagstone-shm/flagstone/lock"
	"github.com/flagstone-shm/flagstone/signal"
)

// forkkeep holds mutex 100, makes a segment, pins another one, and forks a copy that
// lingers; it says region, entry and the copy's pid.
func init() {
	roles["forkkeep"] = func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		m, err := t.Mutex(100)
		if err != nil {
			return err
		}
		if _, err := m.Lock(context.Background()); err != nil {
			return err
		}
		half, err := begin(t, "half")
		if err != nil {
			return err
		}
		if e, ok := t.Find(KindApplication, "shared"); ok {
			if _, err := t.OpenSegment(e); err != nil {
				return err
			}
		}
		copied, err := forktest.Fork(func(say func(string, ...any)) {
			say("here")
			forktest.Linger()
		})
		if err != nil {
			return err
		}
		if _, err := copied.Line(20 * time.Second); err != nil {
			return err
		}
		say("%d %d %d", t.Self(), half.Index, copied.Pid)
		linger()
		return nil
	}
}

// forkexclusive stays in Exclusive, which a copy of it leaves.
func init() {
	roles["forkexclusive"] = func(o Options) error {
		t, err := Open(context.Background(), o)
		if err != nil {
			return err
		}
		return t.Exclusive(context.Background(), func() error {
			copied, err := forktest.Fork(func(say func(string, ...any)) {
				say("%v; %v", unlock(t.control, layout.InitByte), unlock(t.control, leaseByte(t.self)))
			})
			if err != nil {
				return err
			}
			said, err := copied.Wait(20 * time.Second)
			if err != nil {
				return err
			}
			say("%s", strings.TrimSpace(said))
			linger()
			return nil
		})
	}
}

// The bytes that a process has locked are its children's to unlock, too.
func TestFork_ChildUnlocks_ParentKeepsItsBytes(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("GOGC", "off")
	c := start(t, "forkexclusive", dir)
	if said := c.hear(); strings.Count(said, ErrForked.Error()) != 2 {
		t.Fatalf("the copy: %s", said)
	}
	mustFail(t, table.Exclusive(brief(t), func() error { return nil }), ErrBusy)
	for _, r := range table.Regions() {
		if !r.Alive {
			t.Fatalf("%+v", r)
		}
	}
	c.kill()
	must(t, table.Exclusive(limited(t), func() error { return nil }))
}

// kept is a process that was killed while a copy of it keeps its lease.
type kept struct {
	region, entry, copied int
	token                 uint64
}

// mustName checks that an error's text has all the words.
func mustName(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%q does not name %s", err, w)
		}
	}
}

func startKept(t *testing.T, table *Table, dir string) (k kept) {
	t.Helper()
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("GOGC", "off")
	c := start(t, "forkkeep", dir)
	if _, err := fmt.Sscan(c.hear(), &k.region, &k.entry, &k.copied); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(k.copied, unix.SIGKILL) })
	c.kill()
	k.token = lock.Token(uint32(k.region), generationOf(table.regionAt(k.region).State.Load()))
	if held, err := table.leaseHeld(k.region); err != nil || !held {
		t.Fatalf("the copy keeps no lease: %v", err)
	}
	return k
}

func TestQuarantine_OwnerGone_AllButItsRegionIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	shared, err := table.PublishSegment(Spec{Kind: KindApplication, Name: "shared", Size: 4096}, func([]byte) error { return nil })
	must(t, err)
	k := startKept(t, table, dir)
	m, err := table.Mutex(100)
	must(t, err)
	if consistent, err := m.Lock(limited(t)); err != nil || consistent {
		t.Fatalf("consistent %v, %v", consistent, err)
	}
	must(t, m.Unlock(true))

	e := shared.Entry()
	must(t, shared.Close())
	must(t, table.Retire(e))
	eventually(t, "what only the gone one maps is recycled, and what it was making taken back", func() bool {
		if n, err := table.Reap(); n != 0 || err != nil {
			t.Fatalf("reaped %d, %v", n, err)
		}
		return len(table.Entries()) == 0
	})
	files, err := os.ReadDir(table.Dir())
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("left: %v", files)
	}
	if s := uint32(table.regionAt(k.region).State.Load()); s != layout.RegionClaimed {
		t.Fatalf("state %d, want quarantine", s)
	}
	table.regionAt(k.region).Sleeping.Store(1) // wherever death found it
	mustFail(t, table.Ring(k.region, 1), signal.ErrNotSent, identity.ErrGone)
	for range 7 - len(table.Regions()) + 1 {
		openTable(t, options(dir))
	}
	_, err = Open(limited(t), options(dir))
	mustFail(t, err, ErrNoRegion)
	mustName(t, err, "all 8", "of 1 the process is gone", "fuser")
	must(t, unix.Kill(k.copied, unix.SIGKILL))
	eventually(t, "the region is free", func() bool {
		next, err := Open(limited(t), options(dir))
		if err == nil {
			must(t, next.Close())
		}
		return err == nil
	})
}

// What is no proof: another namespace, no pidfd inode and another start in another time,
// a process that has the pid and is the one. Then waiters get ErrBusy, and the cause.
func TestQuarantine_NotProvable_ErrBusyNamesCause(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	k := startKept(t, table, dir)
	r := table.regionAt(k.region)
	r.PidNamespace.Add(1)
	m, err := table.Mutex(100)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	_, err = m.Lock(ctx)
	mustFail(t, err, ErrBusy, context.DeadlineExceeded)
	mustName(t, err, fmt.Sprintf("region %d", k.region), fmt.Sprintf("pid %d", r.Pid.Load()), "namespace", "child", "fuser")
	if table.Dead(k.token) || len(table.Regions()) != 2 || !table.Regions()[1].Alive || table.Regions()[1].Quarantined {
		t.Fatal("taken for dead without proof")
	}
	r.PidNamespace.Add(^uint64(0))
	eventually(t, "provable again", func() bool { return table.Dead(k.token) })
}

// Its pid was given to another process since: the pid alone would say that it lives.
func TestQuarantine_PidUsedAgain_DeadNevertheless(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	k := startKept(t, table, dir)
	r := table.regionAt(k.region)
	if r.PidfdInode.Load() == 0 {
		r.StartTicks.Add(1)
	}
	r.Pid.Store(uint32(os.Getpid()))
	eventually(t, "dead", func() bool { return table.Dead(k.token) })
}

// A handle that has come since has the region: what was asked of its predecessor's
// identity must not be believed of it.
func TestQuarantine_RegionOfTheLiving_NeverGone(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	other := openTable(t, options(dir))
	table.doubts.due(other.self, other.generation-1, looking)
	table.doubts.settle(other.self, other.generation-1, true)
	deadline := time.Now().Add(3 * waiting.every)
	for time.Now().Before(deadline) {
		if table.Dead(other.token) || !table.living(other.self, other.generation) {
			t.Fatal("the living is called dead")
		}
	}
	if len(table.Regions()) != 2 {
		t.Fatal("regions")
	}
}

func TestDescribe_Stopped_SaysSo(t *testing.T) {
	dir := t.TempDir()
	table := openTable(t, options(dir))
	c := start(t, "join", dir)
	region := c.number()
	token := lock.Token(uint32(region), generationOf(table.regionAt(region).State.Load()))
	pid := c.cmd.Process.Pid
	if want := fmt.Sprintf("pid %d, which runs", pid); table.Describe(token) != want {
		t.Fatalf("%q, want %q", table.Describe(token), want)
	}
	must(t, unix.Kill(pid, unix.SIGSTOP))
	eventually(t, "stopped", func() bool { return table.Describe(token) == fmt.Sprintf("pid %d, which is stopped", pid) })
	if table.Describe(token+1<<32) != "" || table.Describe(0) != "" {
		t.Fatal("describes nobody")
	}
}
