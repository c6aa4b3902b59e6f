package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		main()
		return
	}
	os.Exit(m.Run())
}

func testOptions(t *testing.T) options {
	return options{Entries: 3000, Pairs: 2, Chunk: time.Millisecond, Seed: 1, Dir: t.TempDir(), Domain: "bench"}
}

func TestCaches_Filled_ReturnEveryValue(t *testing.T) {
	for name, open := range makers {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t)
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
			w := newWorkload(o.Entries, o.Seed, 0)
			if err := fill(name, c, w); err != nil {
				t.Fatal(err)
			}
			s := w.records(forOrder).part(0, batchSize)
			dst := make([]byte, batchSize*valueSize)
			if n, err := c.getBatch(s, dst); n != batchSize || err != nil {
				t.Fatal(n, err)
			}
			if stone, ok := c.(*stone); ok {
				for i := range batchSize {
					v, _ := stone.batch.Value(i)
					copy(dst[i*valueSize:], v)
				}
			}
			if !bytes.Equal(dst, s.values) {
				t.Error("batch has other values")
			}
			if n, err := c.get(w.keys("absent").part(0, window), dst); n != 0 || err != nil {
				t.Errorf("absent keys: %d found, %v", n, err)
			}
		})
	}
}

func TestPlayer_WrongAnswers_AreAnError(t *testing.T) {
	o := testOptions(t)
	c, _ := newGoMap(context.Background(), o)
	w := newWorkload(o.Entries, o.Seed, 0)
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
		"--entries", "3000", "--pairs", "2", "--chunk", "1ms", "--dir", dir, "--json", dir + "/figures.json",
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
	reported := make(map[string]bool)
	for _, r := range figures.Rows {
		reported[r.Measurement+", "+r.Rival] = true
		if !strings.Contains(out.String(), r.Measurement) {
			t.Errorf("%s is not in the table", r.Measurement)
		}
	}
	_, err = exec.LookPath("redis-server")
	for _, m := range measurements {
		for _, c := range m.against {
			if installed := c.rival != "redis" || err == nil; reported[m.name+", "+c.rival] != installed {
				t.Errorf("%s against %s: reported %v, want %v", m.name, c.rival, !installed, installed)
			}
		}
	}
	for _, s := range scalings {
		if !reported[s.name+", scaling, map"] {
			t.Error("no", s.name)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Error("left behind:", left)
	}
}
