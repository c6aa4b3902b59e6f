package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && slices.Contains([]string{workerArg, sleeperArg, holderArg, witnessArg}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

func testOptions(t *testing.T) options {
	return options{
		Pairs: 2, Chunk: time.Millisecond, Seed: 1, Dir: t.TempDir(), Domain: "bench", Shape: shape{3000, 64},
	}
}

func TestCaches_Filled_ReturnEveryValue(t *testing.T) {
	for name, open := range makers {
		for _, sh := range []shape{{3, 64}, {3000, 16}, {3000, 64}, {500, 1 << 10}, {24, 64 << 10}} {
			t.Run(name+", "+sh.String(), func(t *testing.T) {
				o := testOptions(t)
				o.Shape = sh
				c, err := open(context.Background(), o)
				if errors.Is(err, errNoRedis) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := c.close(); err != nil {
						t.Error(err)
					}
				}()
				returnsEveryValue(t, name, c, newWorkload(sh, o.Seed, 0))
			})
		}
	}
}

func returnsEveryValue(t *testing.T, name string, c cache, w *workload) {
	if err := fill(name, c, w); err != nil {
		t.Fatal(err)
	}
	s := newRecords(w.order(forOrder), w.Value).part(0, batchSize)
	dst := make([]byte, batchSize*w.Value)
	if n, err := c.getBatch(s, dst); n != s.len() || err != nil {
		t.Fatal(n, err)
	}
	if stone, ok := c.(*stone); ok {
		for i := range s.len() {
			v, _ := stone.batch.Value(i)
			copy(dst[i*w.Value:], v)
		}
	}
	if !bytes.Equal(dst[:len(s.values)], s.values) {
		t.Error("batch has other values")
	}
	if n, err := c.get(w.keys("absent").part(0, window), dst); n != 0 || err != nil {
		t.Errorf("absent keys: %d found, %v", n, err)
	}
	other := newRecords([]uint32{0}, w.Value)
	slices.Reverse(other.values)
	if n, err := c.set(other); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := c.get(other, dst); n != 1 || err != nil || !bytes.Equal(dst[:w.Value], other.values) {
		t.Errorf("after set: %d found, %v, or another value", n, err)
	}
	records := w.keys("records").part(0, window+3)
	if n, err := mixed(c, records, dst); n != records.len() || err != nil {
		t.Errorf("mixed: %d of %d, %v", n, records.len(), err)
	}
}

func TestPlayer_WrongAnswers_AreAnError(t *testing.T) {
	o := testOptions(t)
	c, _ := newGoMap(context.Background(), o)
	w := newWorkload(o.Shape, o.Seed, 0)
	if err := fill("map", c, w); err != nil {
		t.Fatal(err)
	}
	if _, err := newPlayer(c, ops["get"], w.keys("uniform"), false).run(time.Millisecond); err != nil {
		t.Error(err)
	}
	if _, err := newPlayer(c, ops["get"], w.keys("absent"), false).run(time.Millisecond); err == nil {
		t.Error("misses went unnoticed")
	}
	if _, err := newPlayer(c, ops["get"], w.keys("uniform"), true).run(time.Millisecond); err == nil {
		t.Error("hits went unnoticed")
	}
}

func TestBench_Everything_PrintsARowForEachComparison(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	err := bench(context.Background(), []string{
		"--entries", "3000", "--pairs", "2", "--chunk", "1ms", "--precision", "1ms", "--dir", dir, "--json", dir + "/figures.json",
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	var figures report
	if b, err := os.ReadFile(dir + "/figures.json"); err != nil {
		t.Fatal(err)
	} else if err := json.Unmarshal(b, &figures); err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]int)
	for _, r := range figures.Rows {
		rows[r.Measurement+", "+r.Shape.String()+", "+r.Rival]++
		if !strings.Contains(out.String(), r.Measurement) {
			t.Errorf("%s is not in the table", r.Measurement)
		}
	}
	_, noRedis := exec.LookPath("redis-server")
	for _, a := range program(3000) {
		for _, c := range a.contests {
			rivals := c.rivals()
			switch c.(type) {
			case scaling:
				rivals = []string{"map"}
			case eviction:
				continue // below
			}
			for _, rival := range rivals {
				want := 1
				if rival == "redis" && noRedis != nil {
					want = 0
				}
				if title := a.title(c) + ", " + rival; rows[title] != want {
					t.Errorf("%s: %d rows, want %d", title, rows[title], want)
				}
			}
		}
	}
	for _, title := range []string{
		"evict, per record, 3 k x 64 B, ", "evict, readers' p99, 3 k x 64 B, burner",
		"get uniform, growth, 30 k x 64 B, map", "get uniform, 30 k x 64 B, flagstone, 3 k x 64 B",
		"new slab, published to mapped by 16, futex, 3 k x 64 B, bare futex",
		"new slab, published to mapped by 16, signal, 3 k x 64 B, bare signal",
		"move, per record, 3 k x 64 B, set", "move, readers' p99, 3 k x 64 B, burner",
		"tiers, hit in first, 2 interleaved, 3 k x 64 B, 1 tier", "tiers, miss, 8 in order, 3 k x 64 B, 1 tier",
		"2 processes, mixed uniform, scaling, 3 k x 64 B, map", "get uniform, allocations, 3 k x 64 B, ",
	} {
		if rows[title] != 1 {
			t.Errorf("%s: %d rows, want 1", title, rows[title])
		}
	}
	if !strings.Contains(out.String(), "crossover") {
		t.Error("no crossover")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Error("left behind:", left)
	}
}
