package flagstone_test

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// What operations promise when several processes use them at once.

func TestIncrement_EightProcessesOneKilled_SumIsWhatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	const each = 200
	var all [8]*child
	for i := range all {
		all[i] = opened(t, dir)
	}
	victim := all[7]
	victim.tell("increment", "n", 0)
	for _, c := range all[:7] {
		c.tell("increment", "n", each)
	}
	acknowledged := 0
	for acknowledged < each/2 {
		var err error
		acknowledged, err = strconv.Atoi(victim.hear())
		must(t, err)
	}
	must(t, victim.cmd.Process.Kill())
	for victim.lines.Scan() { // what it had said already
		if n, err := strconv.Atoi(victim.lines.Text()); err == nil {
			acknowledged = n
		}
	}
	victim.kill()
	for _, c := range all[:7] {
		for {
			if said := c.hear(); said == "done" {
				break
			} else if _, err := strconv.Atoi(said); err != nil {
				t.Fatal(said)
			}
		}
	}
	sum, err := cache.Increment(limited(t), []byte("n"), 0, 0, 0)
	must(t, err)
	if want := int64(7*each + acknowledged); sum != want && sum != want+1 { // the one it did not live to acknowledge
		t.Fatalf("%d, but %d were acknowledged", sum, want)
	}
	sound(t, cache)
}

func TestCompareAndSwap_ManyProcesses_NothingIsLost(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	const each = 200
	var all [4]*child
	for i := range all {
		all[i] = opened(t, dir)
	}
	for _, c := range all {
		c.tell("swap", "n", each)
	}
	lost := 0
	for _, c := range all {
		said := strings.Fields(c.hear())
		if said[0] != "done" {
			t.Fatal(said)
		}
		n, _ := strconv.Atoi(said[1])
		lost += n
	}
	t.Logf("%d swaps came too late", lost)
	mustGet(t, cache, "n", fmt.Sprint(len(all)*each))
}

func TestAll_OthersChurn_EveryEntryThatStaysExactlyOnce(t *testing.T) {
	const staying = 200
	dir := t.TempDir()
	cache := open(t, options(dir))
	for i := range staying {
		k := fmt.Append(nil, "stays", i)
		must(t, cache.Set(limited(t), k, k, 0))
	}
	for range 2 {
		opened(t, dir).expect("ok", "churn", staying)
	}
	changed := 0
	for range 150 {
		seen := map[string]int{}
		for r, err := range cache.All(limited(t)) {
			must(t, err)
			seen[string(r.Key)]++
			if strings.HasPrefix(string(r.Key), "stays") && string(r.Value) != string(r.Key) {
				t.Fatalf("%q: %q", r.Key, r.Value)
			}
		}
		for i := range staying {
			if k := fmt.Sprint("stays", i); seen[k] != 1 {
				t.Fatalf("%s came %d times", k, seen[k])
			}
		}
		changed += len(seen) - staying
	}
	if changed == 0 {
		t.Fatal("nobody churned")
	}
}

func TestNamespace_ClearedByOneProcess_EmptyForAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	mine := cache.Namespace("user:v7")
	var all [3]*child
	for i := range all {
		all[i] = opened(t, dir)
	}
	all[0].expect("ok", "space", "other", "set", "k")
	all[0].expect("ok", "set", "k", "v")
	for round := range 20 {
		for i, c := range all {
			c.expect("ok", "space", "user:v7", "set", fmt.Sprint("k", i))
		}
		for _, c := range all {
			for i := range all {
				c.expect(fmt.Sprint("true k", i), "space", "user:v7", "get", fmt.Sprint("k", i))
			}
		}
		if round%4 == 3 {
			must(t, mine.Clear(limited(t)))
		} else {
			all[round%4].expect("ok", "space", "user:v7", "clear")
		}
		for i := range all {
			if v, ok, err := mine.Get(nil, fmt.Append(nil, "k", i)); ok || err != nil {
				t.Fatalf("%q, %v, %v", v, ok, err)
			}
			for _, c := range all {
				c.expect("false ", "space", "user:v7", "get", fmt.Sprint("k", i))
			}
		}
		for r, err := range mine.All(limited(t)) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	all[1].expect("true k", "space", "other", "get", "k")
	mustGet(t, cache, "k", "v")
	mustMiss(t, cache, "k0")
	sound(t, cache)
}

// Eight processes' first writes at once agree on the id: none is lost.
func TestNamespace_FirstWritesTogether_AllAreThere(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	var all [8]*child
	for i := range all {
		all[i] = opened(t, dir)
	}
	for round := range 10 {
		space := fmt.Sprint("space", round)
		for i, c := range all {
			c.tell("space", space, "set", fmt.Sprint("k", i))
		}
		for _, c := range all {
			if said := c.hear(); said != "ok" {
				t.Fatal(said)
			}
		}
		for i := range all {
			k := fmt.Sprint("k", i)
			if v, ok, err := cache.Namespace(space).Get(nil, []byte(k)); !ok || err != nil || string(v) != k {
				t.Fatalf("%s: %q, %v, %v", k, v, ok, err)
			}
		}
	}
}

func TestClear_OthersWrite_NothingStaysThatWasThereBefore(t *testing.T) {
	dir := t.TempDir()
	cache := open(t, options(dir))
	var all [3]*child
	for i := range all {
		all[i] = opened(t, dir)
		all[i].expect("ok", "write")
	}
	space := cache.Namespace("n")
	for range 10 {
		for i := range 300 {
			k := fmt.Append(nil, "old", i)
			must(t, cache.Set(limited(t), k, k, 0))
			must(t, cache.SetHash(limited(t), uint64(i), k, 0))
			must(t, space.Set(limited(t), k, k, 0))
		}
		must(t, cache.Clear(limited(t)))
		for i := range 300 {
			k := fmt.Append(nil, "old", i)
			_, ok1, err1 := cache.Peek(nil, k)
			_, ok2, err2 := cache.GetHash(nil, uint64(i))
			_, ok3, err3 := space.Peek(nil, k)
			if ok1 || ok2 || ok3 || err1 != nil || err2 != nil || err3 != nil {
				t.Fatalf("%q is still there: %v %v %v, %v %v %v", k, ok1, ok2, ok3, err1, err2, err3)
			}
		}
	}
	if st, err := cache.Stats(); err != nil || st.Cleared < 10*900 {
		t.Fatalf("%+v, %v", st, err)
	}
	for _, c := range all {
		c.kill()
	}
	must(t, cache.Clear(limited(t)))
	if n, err := cache.Len(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	sound(t, cache)
}

// Evicting few records of a large namespace must not take the namespace's id, and
// with it the others.
func TestEvict_LimitOne_NamespaceKeepsTheOthers(t *testing.T) {
	clock := &testClock{}
	o := options(t.TempDir())
	o.Clock = clock
	cache := open(t, o)
	space := cache.Namespace("n")
	const n = 20
	for i := range n {
		must(t, space.Set(limited(t), binary.LittleEndian.AppendUint64(nil, uint64(i)), nil, 0))
		clock.pass(7)
		cache.Table().Tick()
	}
	for left := n; left > 0; left-- {
		clock.pass(60_000)
		if gone, err := cache.Evict(limited(t), 0, 1); len(gone) != 1 || err != nil {
			t.Fatal(gone, err)
		}
		seen := 0
		for _, err := range space.All(limited(t)) {
			must(t, err)
			seen++
		}
		if seen != left-1 {
			t.Fatalf("%d left, want %d", seen, left-1)
		}
	}
	clock.pass(60_000)
	if gone, err := cache.Evict(limited(t), 0, 1); len(gone) != 0 || err != nil {
		t.Fatal(gone, err)
	}
	if left, err := cache.Len(); left != 0 || err != nil { // the id went too, in the end
		t.Fatal(left, err)
	}
}

func TestSwapItem_TokenOrAbsent_StoresWithAllOfTheItem(t *testing.T) {
	c := open(t, options(t.TempDir()))
	ctx, k := limited(t), []byte("k")
	first, stored, err := c.SwapItem(ctx, k, flagstone.Item{Value: []byte("1"), Tag: 7, StaleFor: time.Second})
	if err != nil || !stored {
		t.Fatal(stored, err)
	}
	if _, stored, err := c.SwapItem(ctx, k, flagstone.Item{}); stored || err != nil {
		t.Fatal("stored where there was a value", err)
	}
	for _, token := range []flagstone.Token{1, 3, first + 4} {
		if _, stored, err := c.SwapItem(ctx, k, flagstone.Item{Token: token}); stored || err != nil {
			t.Fatal("stored for a token that no value has", token, err)
		}
	}
	it, _, err := c.GetItem(nil, k)
	must(t, err)
	second, stored, err := c.SwapItem(ctx, k, it)
	if err != nil || !stored || second == first {
		t.Fatal(second, stored, err)
	}
	if it, _, err := c.GetItem(nil, k); err != nil || it.Token != second || it.Tag != 7 || it.StaleFor != time.Second {
		t.Fatalf("%+v, %v", it, err)
	}
}

func TestNamespace_ID_NamesWhatWasEvicted(t *testing.T) {
	c := open(t, options(t.TempDir()))
	space := c.Namespace("n")
	if id, ok, err := space.ID(); id != 0 || ok || err != nil {
		t.Fatal(id, ok, err)
	}
	ids := map[uint64]bool{}
	for range 5 {
		must(t, space.Set(limited(t), []byte("k"), nil, 0))
		id, ok, err := space.ID()
		again, _, _ := c.Namespace("n").ID()
		if id == 0 || !ok || err != nil || again != id || ids[id] {
			t.Fatal(id, again, ids, ok, err)
		}
		ids[id] = true
		must(t, space.Clear(limited(t)))
		if id, ok, err := space.ID(); id != 0 || ok || err != nil {
			t.Fatal(id, ok, err)
		}
	}
}

func TestClaim_CacheDestroyed_NothingIsFilled(t *testing.T) {
	dir := t.TempDir()
	c := open(t, options(dir))
	one, err := c.Claim(limited(t), []byte("one"), time.Minute)
	must(t, err)
	two, err := c.Claim(limited(t), []byte("two"), time.Minute)
	must(t, err)
	must(t, flagstone.Destroy(limited(t), dir, name))
	_, err = one.Fill(limited(t), flagstone.Item{})
	mustFail(t, err, flagstone.ErrDestroyed)
	mustFail(t, two.Abandon(limited(t), nil, 0), flagstone.ErrDestroyed)
}

func TestOpen_OptionsOutOfRange_ErrOptions(t *testing.T) {
	for _, o := range []flagstone.Options{
		{Precision: -time.Second},
		{Precision: 500 * time.Microsecond},
		{Precision: 1500 * time.Microsecond},
		{Precision: time.Hour + time.Millisecond},
		{LoadTimeout: -1},
	} {
		o.Dir = t.TempDir()
		_, err := flagstone.Open(limited(t), name, o)
		mustFail(t, err, flagstone.ErrOptions)
	}
}
