//go:build linux && steps

package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/slab"
	"github.com/flagstone-shm/flagstone/table"
)

// operation is what a child does when it is killed. Its parts are acknowledged one by
// one: what comes before one is there, whatever happens in the next. They check their
// results, and are done once more by who lives, after every kill.
type operation struct {
	name    string
	on      string // template
	do      []func(e *env)
	options func(o *flagstone.Options) // for all who open the cache

	prepare    func(e *env) // before the hook is armed
	background string       // the functions whose steps count, whoever runs them
	wake       signal.Options
	wakes      bool // the one who lives is woken as wake says, and sleeps when it begins

	// What the checks leave out.
	evicts bool         // once it is done again, other keys may be gone
	loses  bool         // keys may be gone at once: memory was damaged, or others are evicted on the way
	unsure bool         // marks of mutexes are the operation's own
	mend   func(e *env) // before anybody looks: what no process could do
	gone   bool         // the domain may be
}

func find(name string) *operation {
	for i := range operations {
		if operations[i].name == name {
			return &operations[i]
		}
	}
	panic("no operation " + name)
}

func do(parts ...func(e *env)) []func(e *env) { return parts }

func opened(e *env) { e.open() }

// wantSet looks a key up that was set.
func (e *env) wantSet(key string, generation int) {
	if v, ok := e.get(key); !ok || string(v) != string(value(key, generation)) {
		wrong("%s is %.40q, %v after it was set", key, v, ok)
	}
}

var operations = []operation{
	// Domains and handles.
	{name: "create", on: "nothing", do: do(opened), gone: true},
	{name: "create after a creator's death", on: "unmade", do: do(opened), gone: true},
	{name: "open", on: "one", do: do(opened)},
	{name: "open where one died", on: "dead", do: do(opened)},
	{name: "close", on: "one", prepare: opened, do: do(func(e *env) {
		e.open().Table().Count(1, 1)
		e.close()
	})},
	{name: "destroy", on: "slabs", do: do(destroy), gone: true},
	{name: "destroy after a destroyer's death", on: "unremoved", do: do(destroy), gone: true},
	{name: "flags and counters", on: "one", prepare: opened, do: do(func(e *env) {
		t := e.open().Table()
		t.Count(3, 9)
		must(t.SetFlags(5, 0))
		must(t.SetFlags(0, 5))
		must(t.SetFlags(2, 0))
	})},
	{name: "reap", on: "dead", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		_, err := e.tables[0].Reap()
		must(err)
	})},
	{name: "reap a creator", on: "creating", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		_, err := e.tables[0].Reap()
		must(err)
	})},
	{name: "reap a grower", on: "active", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		_, err := e.tables[0].Reap()
		must(err)
	})},
	{name: "reap a retirer", on: "retired", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		_, err := e.tables[0].Reap()
		must(err)
	})},
	{name: "lead and resign", on: "one", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		t := e.tables[len(e.tables)-1]
		must(t.Want(true))
		leading, err := t.Lead()
		if must(err); !leading {
			wrong("no lead")
		}
	}, func(e *env) {
		t := e.tables[len(e.tables)-1]
		must(t.Resign())
		must(t.Want(false))
	})},
	{name: "lead in the place of one gone", on: "one", prepare: func(e *env) {
		// A child of the gone keeps the lock byte, that is: somebody who does not lead.
		f, err := os.OpenFile(filepath.Join(e.table().Dir(), "control"), os.O_RDWR, 0)
		must(err)
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: layout.StewardByte, Len: 1}
		must(unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l))
		e.any = f
		t := e.tables[len(e.tables)-1]
		leading, err := t.Lead()
		if must(err); leading {
			wrong("two lead")
		}
		time.Sleep(30 * time.Millisecond) // the doubt that a kept byte is given
	}, do: do(func(e *env) {
		leading, err := e.tables[len(e.tables)-1].Lead()
		if must(err); !leading {
			wrong("nobody leads")
		}
	}, func(e *env) {
		if f, kept := e.any.(*os.File); kept {
			must(f.Close())
		}
	})},
	{name: "find the path elsewhere", on: "one", prepare: func(e *env) { e.table() }, do: do(func(e *env) {
		must(os.Rename(e.home(), e.home()+"-away"))
		if e.tables[len(e.tables)-1].Present() {
			wrong("it is not there")
		}
		must(os.Rename(e.home()+"-away", e.home()))
	}, func(e *env) {
		if err := e.tables[len(e.tables)-1].Close(); !errors.Is(err, table.ErrDestroyed) {
			must(err)
		}
		e.tables = e.tables[:len(e.tables)-1]
	}), mend: func(e *env) {
		if err := os.Rename(e.home()+"-away", e.home()); !errors.Is(err, os.ErrNotExist) {
			must(err)
		}
	}},
	{name: "lead on where the word was overwritten", on: "one", prepare: func(e *env) {
		leading, err := e.table().Lead()
		if must(err); !leading {
			wrong("no lead")
		}
		e.header().Steward.Store(0)
	}, do: do(func(e *env) {
		leading, err := e.tables[len(e.tables)-1].Lead()
		if must(err); !leading {
			wrong("no lead")
		}
	})},
	{name: "take one's region back", on: "one", prepare: func(e *env) {
		for _, r := range e.table().Regions() {
			if r.Self {
				word := e.region(r.Index)
				word.State.Store(word.State.Load()&^(1<<layout.StateGenerationShift-1) | 77)
				word.Pid.Store(1)
			}
		}
	}, do: do(func(e *env) {
		_, err := e.tables[len(e.tables)-1].Reap()
		must(err)
	})},
	{name: "disown", on: "one", prepare: func(e *env) {
		byHand(e)
		e.shardWord(layout.OffsetShardLock).Store(e.tables[len(e.tables)-1].Token())
	}, do: do(func(e *env) {
		_, err := e.stack.Tiers()[0].Slab.Disown()
		must(err)
	})},
	repairing("slabs", "other", "what another is called", func(e *layout.Entry) { e.SegmentID.Store(5) }),
	repairing("slabs", "other", "what is said to be free", func(e *layout.Entry) { e.State.Store(e.State.Load() &^ layout.EntryStateMask) }),
	repairing("slabs", "other", "a stack of nothing", func(e *layout.Entry) { e.Stack.Store(5) }),
	repairing("slabs", "other", "a tier of itself", func(e *layout.Entry) { e.Tier.Store(9) }),
	repairing("slabs", "other", "a wrong size", func(e *layout.Entry) { e.Size.Add(8) }),
	repairing("one", table.Primary, "a name", func(e *layout.Entry) { e.Name[0].Store(5) }),
	repairing("one", table.Primary, "a drain of the primary slab", func(e *layout.Entry) { e.State.Store(e.State.Load()&^layout.EntryStateMask | layout.EntryDraining) }),
	{name: "collect", on: "one", do: do(func(e *env) {
		_, err := table.Collect(table.CollectOptions{Dir: e.dir, Unused: true, Idle: 1 << 62})
		must(err)
	})},
	{name: "follow the clock", on: "one", prepare: func(e *env) { e.clock = &moving{now: noon}; e.table() }, do: do(func(e *env) {
		e.clock.(*moving).add(time.Second)
		e.tables[len(e.tables)-1].Tick()
	})},

	// Doorbells.
	{name: "ring who polls", on: "one", prepare: opened, do: do(ring)},
	{name: "ring by futex", on: "one", wakes: true, wake: signal.Options{Mode: signal.ModeFutex, Poll: never}, prepare: opened, do: do(ring)},
	{name: "ring by signal", on: "one", wakes: true, wake: signal.Options{Mode: signal.ModeSignal, Poll: never}, prepare: opened, do: do(ring)},
	{name: "register a signal", on: "one", do: do(func(e *env) {
		e.wake = signal.Options{Mode: signal.ModeSignal, Poll: never}
		e.table()
	}, func(e *env) { e.close() })},
	{name: "hear a doorbell", on: "one", background: "signal.(*Listener).", prepare: func(e *env) {
		e.wake = signal.Options{Mode: signal.ModeFutex, Poll: time.Millisecond}
	}, do: do(func(e *env) {
		t := e.table()
		for range 3 {
			t.RingAll(table.ReasonApplication)
			for end := time.Now().Add(bound); t.Reasons() == 0; time.Sleep(100 * time.Microsecond) {
				if time.Now().After(end) {
					wrong("the bell was not heard")
				}
			}
		}
		must(t.Close())
		e.tables = e.tables[:len(e.tables)-1]
	})},

	// Keys.
	{name: "set new", on: "one", prepare: opened, do: do(func(e *env) { e.set("new", 4) }, func(e *env) { e.set("new2", 5) })},
	{name: "set in place", on: "one", prepare: opened, do: do(func(e *env) { e.set("k1", 4) }, func(e *env) { e.set("k2", 4) })},
	{name: "set longer and shorter", on: "one", prepare: opened, do: do(func(e *env) { e.set("k3", 7) }, func(e *env) { e.set("k3", 8) })},
	{name: "set if absent", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().SetIfAbsent(e.ctx(), []byte("new"), value("new", 4), 0)
		must(err)
		e.wantSet("new", 4)
	})},
	{name: "set batch", on: "one", prepare: opened, do: do(func(e *env) {
		var items []flagstone.KeyItem
		for _, k := range []string{"k1", "new", "k2", "new2", "k3"} {
			items = append(items, flagstone.KeyItem{Key: []byte(k), Item: flagstone.Item{Value: value(k, 5)}})
		}
		n, err := e.open().SetBatch(e.ctx(), items)
		if must(err); n != len(items) {
			wrong("%d stored", n)
		}
	})},
	{name: "set by hash", on: "one", prepare: opened, do: do(func(e *env) {
		must(e.open().SetHash(e.ctx(), 99, value("hash99", 4), 0))
	}, func(e *env) {
		_, err := e.open().DeleteHash(e.ctx(), 99)
		must(err)
	})},
	{name: "set into a new namespace", on: "one", prepare: opened, do: do(func(e *env) {
		must(e.open().Namespace("new").Set(e.ctx(), []byte("k1"), value("k1", 4), 0))
	}, func(e *env) { must(e.open().Namespace("ns").Clear(e.ctx())) })},
	{name: "delete", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().Delete(e.ctx(), []byte("k3"))
		must(err)
	}, func(e *env) {
		_, err := e.open().Delete(e.ctx(), []byte("k2"))
		must(err)
	})},
	{name: "compare and swap", on: "one", prepare: opened, do: do(func(e *env) {
		for range 2 { // what the dead wrote may come to light between the two
			it, ok, err := e.open().GetItem(nil, []byte("k2"))
			if must(err); !ok {
				wrong("k2 is gone")
			}
			_, stored, err := e.open().CompareAndSwap(e.ctx(), []byte("k2"), it.Token, value("k2", 4), 0)
			if must(err); stored {
				return
			}
		}
		wrong("not stored")
	})},
	{name: "increment", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().Increment(e.ctx(), []byte("n0"), 1, 0, 0)
		must(err)
	}, func(e *env) {
		_, err := e.open().Increment(e.ctx(), []byte("n2"), 1, 41, 0)
		must(err)
	})},
	{name: "touch", on: "turned", prepare: opened, do: do(func(e *env) {
		found, err := e.open().Touch(e.ctx(), []byte("k0"), time.Hour)
		if must(err); !found {
			wrong("k0 is gone")
		}
	})},
	{name: "get and promote", on: "turned", prepare: opened, do: do(func(e *env) {
		if _, ok := e.get("k0"); !ok {
			wrong("k0 is gone")
		}
	})},
	{name: "get batch", on: "turned", prepare: opened, do: do(func(e *env) {
		var b flagstone.Batch
		must(e.open().GetBatch(&b, [][]byte{[]byte("k1"), []byte("nothing"), []byte("k2")}))
		if b.Hits() != 2 {
			wrong("%d hits", b.Hits())
		}
	})},
	{name: "claim", on: "one", prepare: opened, do: do(func(e *env) {
		c, err := e.open().Claim(e.ctx(), []byte("loaded"), time.Minute)
		if !errors.Is(err, flagstone.ErrExists) {
			must(err)
		}
		e.any = c
	})},
	{name: "claim and fill", on: "one", prepare: opened, do: do(func(e *env) {
		c, err := e.open().Claim(e.ctx(), []byte("loaded"), time.Minute)
		if errors.Is(err, flagstone.ErrExists) {
			return
		}
		must(err)
		_, err = c.Fill(e.ctx(), flagstone.Item{Value: value("loaded", 3)})
		must(err)
	})},
	{name: "claim and fail", on: "one", prepare: opened, do: do(func(e *env) {
		c, err := e.open().Claim(e.ctx(), []byte("failing"), time.Minute)
		if errors.Is(err, flagstone.ErrLoad) {
			return
		}
		must(err)
		must(c.Abandon(e.ctx(), errors.New("no"), time.Minute))
	})},
	{name: "claim of the dead", on: "claimed", prepare: opened, do: do(func(e *env) {
		load(e, "loaded")
	})},
	{name: "load", on: "one", prepare: opened, do: do(func(e *env) { load(e, "loaded") }, func(e *env) { load(e, "x1") })},
	{name: "clear", on: "one", prepare: opened, do: do(func(e *env) { must(e.open().Clear(e.ctx())) })},
	{name: "evict by age", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().Evict(e.ctx(), time.Second, 4)
		must(err)
	}, func(e *env) {
		_, err := e.open().EvictPairs(e.ctx(), time.Second, 3)
		must(err)
	}), evicts: true},
	{name: "evict near", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().EvictNear(e.ctx(), []byte("k1"), time.Second, 2)
		must(err)
	}), evicts: true},
	{name: "evict by tag", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.open().EvictTag(e.ctx(), 7, math.MaxInt)
		must(err)
	})},
	{name: "rebuild", on: "one", prepare: opened, do: do(func(e *env) { must(e.open().Rebuild(e.ctx())) })},

	// Chains of buckets.
	{name: "set into an overflow bucket", on: "overflow", prepare: crowded, do: do(func(e *env) {
		for _, k := range e.any.([]string)[16:24] {
			e.set(k, 2)
		}
	})},
	{name: "delete from overflow buckets", on: "overflow", prepare: crowded, do: do(func(e *env) {
		for _, k := range e.any.([]string)[5:16] {
			_, err := e.open().Delete(e.ctx(), []byte(k))
			must(err)
		}
	})},
	{name: "set into a used overflow bucket", on: "trimmed", prepare: crowded, do: do(func(e *env) {
		for _, k := range e.any.([]string)[7:12] {
			e.set(k, 2)
		}
	})},
	{name: "rebuild overflow buckets", on: "overflow", prepare: opened, do: do(func(e *env) { must(e.open().Rebuild(e.ctx())) })},

	// Full caches.
	{name: "set and evict", on: "full", options: tight, prepare: opened, do: do(func(e *env) { e.set("new", 4) }, func(e *env) { e.set("long", 3) }), evicts: true},
	{name: "replace by a longer one and evict", on: "full", options: tight, prepare: opened, do: do(func(e *env) { e.set("f59", 3) }), evicts: true},
	{name: "set and evict from queues", on: "queue", options: inQueues, prepare: opened, do: do(func(e *env) {
		for i := range 12 {
			e.set("new"+strconv.Itoa(i), 2)
		}
	}), evicts: true},
	{name: "set what left a ghost", on: "queue", options: inQueues, prepare: opened, do: do(func(e *env) {
		for i := 150; i < 190; i++ {
			e.set("f"+strconv.Itoa(i), 2)
		}
	}), evicts: true},
	{name: "replace in queues", on: "queue", options: inQueues, prepare: opened, do: do(func(e *env) {
		e.set("f699", 6)
		e.set("f650", 6)
		e.get("f650")
	}), evicts: true},
	{name: "delete from queues", on: "queue", options: inQueues, prepare: opened, do: do(func(e *env) {
		for _, k := range []string{"f699", "f650", "k1"} {
			_, err := e.open().Delete(e.ctx(), []byte(k))
			must(err)
		}
	}), evicts: true},
	{name: "rebuild queues", on: "queue", options: inQueues, prepare: opened, do: do(func(e *env) { must(e.open().Rebuild(e.ctx())) }), evicts: true},

	// Tiers.
	{name: "set what is below", on: "tiers", prepare: opened, do: do(func(e *env) { e.set("d0", 4) }, func(e *env) { e.set("d1", 4) })},
	{name: "delete what is below", on: "tiers", prepare: opened, do: do(func(e *env) {
		for i := range 4 {
			_, err := e.open().Delete(e.ctx(), []byte("d"+strconv.Itoa(i)))
			must(err)
		}
	})},
	{name: "get and move up", on: "tiers", prepare: opened, do: do(func(e *env) {
		for i := range 4 {
			if _, ok := e.get("d" + strconv.Itoa(i)); !ok {
				wrong("d%d is gone", i)
			}
		}
	})},
	{name: "set and move down", on: "tight", options: tight, prepare: opened, do: do(func(e *env) { e.set("new", 4) }, func(e *env) { e.set("long", 3) })},
	{name: "move down and up", on: "tiers", prepare: opened, do: do(func(e *env) {
		all := e.tiers()
		_, err := e.open().Move(e.ctx(), all[0], all[2], 0, 4)
		must(err)
	}, func(e *env) {
		all := e.tiers()
		_, err := e.open().Move(e.ctx(), all[1], all[0], 0, 4)
		must(err)
	})},
	{name: "evict from a tier", on: "tiers", prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[1].Evict(e.ctx(), 0, 2)
		must(err)
	}, func(e *env) {
		_, err := e.tiers()[1].EvictPairs(e.ctx(), 0, 2)
		must(err)
	}), evicts: true},
	{name: "insert", on: "tiers", prepare: opened, do: do(func(e *env) {
		pairs := []flagstone.Pair{{Key: []byte("i0"), Value: value("i0", 3)}, {Key: []byte("k1"), Value: value("k1", 4)}, {Key: []byte("i1"), Value: value("i1", 2)}}
		_, err := e.tiers()[1].InsertBatch(e.ctx(), pairs)
		must(err)
	})},
	{name: "grow", on: "one", prepare: opened, do: do(func(e *env) {
		if len(e.tiers()) < 3 { // by the dead
			e.grow("", 64)
		}
	})},
	{name: "grow where a grower died", on: "active", prepare: opened, do: do(func(e *env) {
		if len(e.tiers()) < 3 {
			e.grow("", 64)
		}
	})},
	{name: "drain", on: "tiers", prepare: opened, do: do(drain)},
	{name: "drain what was being drained", on: "draining", prepare: opened, do: do(drain)},
	{name: "drain and open again", on: "tiers", prepare: opened, do: do(func(e *env) {
		t := e.open().Table()
		for _, entry := range t.Entries() {
			if entry.Tier == 2 && entry.State.Published() {
				drain, err := t.Drain(entry)
				must(err)
				_, err = t.Reopen(drain)
				must(err)
			}
		}
	})},
	{name: "clear tiers", on: "tiers", prepare: opened, do: do(func(e *env) { must(e.open().Clear(e.ctx())) })},
	{name: "rebuild tiers", on: "tiers", prepare: opened, do: do(func(e *env) { must(e.open().Rebuild(e.ctx())) })},

	// Independent slabs.
	{name: "create a slab", on: "one", prepare: opened, do: do(create)},
	{name: "retire a slab", on: "slabs", prepare: opened, do: do(retire)},
	{name: "create a slab where one was being retired", on: "retiring", prepare: opened, do: do(create)},
	{name: "move between stacks", on: "slabs", prepare: opened, do: do(func(e *env) {
		other, err := e.open().OpenSlab(e.ctx(), "other")
		must(err)
		_, err = e.open().Move(e.ctx(), e.tiers()[0], other, 0, 4)
		must(err)
		must(other.Close())
	}, func(e *env) {
		other, err := e.open().OpenSlab(e.ctx(), "other")
		must(err)
		_, err = e.open().Move(e.ctx(), other, e.tiers()[0], 0, 4)
		must(err)
		must(other.Close())
	})},

	// Segments of applications.
	{name: "publish a segment", on: "one", prepare: opened, do: do(func(e *env) {
		s, err := e.open().Table().PublishSegment(table.Spec{Kind: table.KindApplication, Name: "board", Size: 4096, Params: [4]uint64{1, 2, 3, 4}}, func(b []byte) error { b[0] = 1; return nil })
		must(err)
		e.any = s
	}, func(e *env) { must(e.any.(*table.Segment).Close()) })},
	{name: "publish and retire a segment", on: "one", prepare: opened, do: do(func(e *env) {
		t := e.open().Table()
		s, err := t.PublishSegment(table.Spec{Kind: table.KindApplication, Name: "board", Size: 4096}, func(b []byte) error { b[0] = 1; return nil })
		must(err)
		must(s.Close())
		must(t.Retire(s.Entry()))
	})},
	{name: "create what has no room", on: "one", prepare: opened, do: do(func(e *env) {
		r, err := e.open().Table().Reserve(table.Spec{Kind: table.KindApplication, Name: "huge", Size: 1 << 52})
		must(err)
		if _, err = r.Create(); err == nil {
			wrong("4 PiB were created")
		}
		must(r.Abort())
	})},

	// Mutexes.
	{name: "lock", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[0].Lock(e.ctx())
		must(err)
	}, func(e *env) { must(e.tiers()[0].Unlock(true)) })},
	{name: "leave inconsistent and lock", on: "one", unsure: true, prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[0].Lock(e.ctx())
		must(err)
		must(e.tiers()[0].Unlock(false))
	}, func(e *env) {
		consistent, err := e.tiers()[0].Lock(e.ctx())
		if must(err); consistent {
			wrong("told consistent")
		}
		must(e.tiers()[0].Unlock(true))
	})},
	{name: "lock what another holds", on: "one", unsure: true, prepare: func(e *env) { e.table(); e.table() }, do: do(func(e *env) {
		a, b := e.ends()
		_, err := a.Lock(e.ctx())
		must(err)
		if _, err := b.Lock(e.within(50 * time.Millisecond)); !errors.Is(err, table.ErrBusy) { // starves
			wrong("lock what is held: %v", err)
		}
	}, func(e *env) {
		a, b := e.ends()
		must(a.Unlock(true))      // wakes
		ok, _, err := b.TryLock() // clears the mark of the starved one, who is gone
		if must(err); !ok {
			ok, _, err = b.TryLock()
		}
		if must(err); !ok {
			wrong("not free")
		}
		must(b.Unlock(true))
	})},
	{name: "lock writers", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[0].LockWriters(e.ctx())
		if must(err); e.again {
			must(e.tiers()[0].Unlock(true))
		}
	})},
	{name: "lock and unlock writers", on: "one", prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[0].LockWriters(e.ctx())
		must(err)
		must(e.tiers()[0].Unlock(true))
	})},
	{name: "lock writers after one died", on: "held", prepare: opened, do: do(func(e *env) {
		_, err := e.tiers()[0].LockWriters(e.ctx())
		must(err)
		must(e.tiers()[0].Unlock(true))
	})},

	// After a crash.
	{name: "set after a crash", on: "torn", prepare: opened, do: do(func(e *env) { e.set("k1", 5) })},
	{name: "set after a crash in a rebuild", on: "rebuilt", prepare: opened, do: do(func(e *env) { e.set("k1", 6) })},
	{name: "set after a crash in overflow buckets", on: "crowded", prepare: crowded, do: do(func(e *env) { e.set(e.any.([]string)[23], 3) })},
	{name: "set where memory is damaged", on: "damaged", prepare: opened, do: do(func(e *env) { e.set("k1", 5) }, func(e *env) { must(e.open().Rebuild(e.ctx())) }), loses: true},
	{name: "rebuild worn-out numbers", on: "worn", prepare: opened, do: do(func(e *env) { must(e.open().Rebuild(e.ctx())) }), loses: true},
	{name: "fault under the lock", on: "one", prepare: opened, do: do(fault), loses: true, mend: func(e *env) {
		b, err := os.Stat(e.file())
		must(err)
		for _, entry := range entriesOf(e) {
			if entry.Kind == table.KindSlab && uint64(b.Size()) < entry.Size {
				must(os.Truncate(e.file(), int64(entry.Size)))
			}
		}
	}},

	// What a steward does, by hand.
	{name: "expire", on: "one", prepare: byHand, do: do(func(e *env) {
		for at, done := (slab.Sweep{}), false; !done; {
			var err error
			_, done, err = e.stack.Expire(e.ctx(), &at, 100)
			must(err)
		}
	})},
	{name: "expire below", on: "tiers", prepare: byHand, do: do(func(e *env) {
		for at, done := (slab.Sweep{}), false; !done; {
			var err error
			_, done, err = e.stack.Expire(e.ctx(), &at, 100)
			must(err)
		}
	})},
	{name: "evict by sweep", on: "one", prepare: byHand, do: do(func(e *env) {
		for at, done := (slab.Sweep{}), false; !done; {
			var err error
			_, done, err = e.stack.EvictSweep(e.ctx(), &at, 100, uint64(dawn)+2500)
			must(err)
		}
	})},
	{name: "demote", on: "tight", options: tight, prepare: byHand, do: do(func(e *env) {
		from := 0
		_, err := e.stack.Demote(e.ctx(), e.stack.Tiers()[0].Slab, &from, 20)
		must(err)
	})},
	{name: "give to a sink", on: "tiers", prepare: byHand, do: do(func(e *env) {
		for shard := range 2 {
			last := e.stack.Tiers()[2].Slab
			offered, err := e.stack.Offer(e.ctx(), last, shard, uint64(noon), 3)
			must(err)
			_, err = e.stack.Deliver(e.ctx(), last, offered)
			must(err)
		}
	}), evicts: true},
}

// repairing is the repair of a directory in which the entry of a slab was overwritten,
// and a free one. Whoever lives repairs too, before anybody looks.
func repairing(on, slab, what string, spoil func(e *layout.Entry)) operation {
	return operation{name: "repair " + what, on: on, prepare: func(e *env) {
		e.table()
		for _, entry := range e.entries() {
			var name [8]byte
			binary.LittleEndian.PutUint64(name[:], entry.Name[0].Load())
			switch free := entry.State.Load()&layout.EntryStateMask == layout.EntryFree; {
			case string(bytes.TrimRight(name[:], "\x00")) == slab:
				spoil(entry)
			case free && entry.SegmentID.Load() == 0:
				entry.State.Store(77)
			}
		}
	}, do: do(func(e *env) {
		remaining, err := e.tables[len(e.tables)-1].Repair(e.ctx())
		if must(err); len(remaining) > 0 {
			wrong("after the repair: %q", remaining)
		}
	}), mend: func(e *env) {
		_, err := e.table().Repair(e.ctx())
		must(err)
	}}
}

func destroy(e *env) {
	err := flagstone.Destroy(e.ctx(), e.dir, domain)
	if again := e.again || e.o.on == "unremoved"; !again || !errors.Is(err, flagstone.ErrNotFound) {
		must(err)
	}
}

// ring rings all others.
func ring(e *env) {
	t := e.open().Table()
	for _, r := range t.Regions() {
		if !r.Self {
			if err := t.Ring(r.Index, table.ReasonApplication); !errors.Is(err, signal.ErrNotSent) {
				must(err)
			}
		}
	}
}

func load(e *env, key string) {
	v, err := e.open().GetOrLoad(e.ctx(), []byte(key), func(context.Context) (flagstone.Item, error) {
		return flagstone.Item{Value: value(key, 4)}, nil
	})
	if must(err); whole(key, v) != nil {
		wrong("loaded %.40q", v)
	}
}

func tight(o *flagstone.Options) { o.Entries = 32 }

func inQueues(o *flagstone.Options) {
	o.Entries, o.Shards, o.Order, o.MaxValue = 512, 1, flagstone.S3FIFO, 160
}

func crowded(e *env) { e.any = e.crowd(24) }

// drain drains the last tier, unless it is gone.
func drain(e *env) {
	all := e.tiers()
	if len(all) == 3 {
		_, err := all[2].Drain(e.ctx())
		must(err)
	}
	if n := len(e.tiers()); n != 2 {
		wrong("%d tiers", n)
	}
}

// create makes a slab with a record.
func create(e *env) {
	s, err := e.open().CreateSlab(e.ctx(), "made", flagstone.Shape{Entries: 64, Shards: 1, MaxKey: 40, MaxValue: 512})
	if e.again && errors.Is(err, flagstone.ErrSlabExists) {
		s, err = e.open().OpenSlab(e.ctx(), "made")
	}
	must(err)
	must(s.Set(e.ctx(), []byte("m"), value("m", 3), 0))
	must(s.Close())
}

func retire(e *env) {
	s, err := e.open().OpenSlab(e.ctx(), "other")
	if e.again && errors.Is(err, flagstone.ErrNoSlab) {
		return
	}
	must(err)
	must(s.Retire(e.ctx()))
}

// ends are two handles' ends of one mutex.
func (e *env) ends() (a, b *table.Mutex) {
	n := len(e.tables)
	a, err := e.tables[n-2].Mutex(11)
	must(err)
	b, err = e.tables[n-1].Mutex(11)
	must(err)
	return a, b
}

// home is the domain's directory.
func (e *env) home() string { return filepath.Join(e.dir, domain+".flagstone") }

func entriesOf(e *env) []table.Entry {
	t, err := table.Inspect(table.Options{Dir: e.dir, Name: domain})
	must(err)
	defer t.Close()
	return t.Entries()
}

// fault writes where the slab's file ends early, behind the lock of the first shard.
func fault(e *env) {
	key := ""
	for i := 0; key == ""; i++ {
		if k := "k" + strconv.Itoa(i); e.open().HashOf([]byte(k))&1 == 0 {
			key = k
		}
	}
	if e.again {
		must(e.open().Rebuild(e.ctx())) // nobody may have noticed
		e.set(key, 4)
		return
	}
	must(os.Truncate(e.file(), 2*4096))
	if err := e.open().Set(e.ctx(), []byte(key), value(key, 4), 0); !errors.Is(err, flagstone.ErrFault) {
		wrong("set where there is no memory: %v", err)
	}
}

// byHand opens the primary stack with a table's handle.
func byHand(e *env) {
	t := e.table()
	w := t.Words()
	d := slab.Domain{Owner: t, Wall: w.Wall, Now: w.Domain}
	var all []slab.Tier
	for tier := uint32(0); ; tier++ {
		var entry table.Entry
		for _, one := range t.Entries() {
			if one.Kind == table.KindSlab && one.Tier == tier && one.State.Published() && one.Name != "other" {
				entry = one
			}
		}
		if entry.Size == 0 {
			break
		}
		seg, err := t.Attach(entry)
		must(err)
		id := slab.Identity{SegmentID: entry.SegmentID, Domain: t.UUID(), HashSeed: t.HashSeed()}
		one := slab.Tier{}
		if tier == 0 {
			one.Slab, err = slab.Open(seg, d, id)
		} else {
			one.Slab, err = slab.OpenBelow(seg, all[0].Slab, id)
			one.State, one.Open = t.StateWord(entry), entry.OpenWord()
		}
		must(err)
		all = append(all, one)
	}
	e.stack = slab.NewStack(slab.StackOptions{}, all...)
}
