package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemo_SmallTree_EverythingHolds(t *testing.T) {
	s := settings{goroot: goTree(t, 24, 100_000), dir: t.TempDir(), budget: 5 * time.Second, packages: 8, seed: 3, json: true}
	var out, progress bytes.Buffer
	if err := s.main(context.Background(), []string{os.Args[0], workerCommand}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s%s", err, progress.String(), out.String())
	}
	empty(t, s.dir)
	var f figures
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	if !f.OK || f.Roots != 8 || f.Kill.Death == nil || f.Kill.Death.Attempts == 0 || f.Kill.Steals == 0 {
		t.Errorf("%s", out.String())
	}
	g := f.Growth
	if g.Blocks < 500 || g.Lost != 0 || g.Moved == 0 || len(g.Readers) != len(ways) || len(g.Stewards) != 2 {
		t.Errorf("%+v", g)
	}
	none, maps, shared := f.Ways[0], f.Ways[1], f.Ways[2]
	if none.Computations != workers*f.Needs || none.Needs != workers*f.Needs {
		t.Errorf("no cache: %d computations, %d needs, want %d", none.Computations, none.Needs, workers*f.Needs)
	}
	if maps.Computations != workers*f.Distinct {
		t.Errorf("private maps: %d computations, want %d", maps.Computations, workers*f.Distinct)
	}
	if shared.Computations < f.Distinct || shared.Processes != workers+1 || shared.Needs != none.Needs {
		t.Errorf("flagstone: %+v", shared)
	}
}

func TestDemo_Interrupted_NothingLeft(t *testing.T) {
	s := settings{goroot: goTree(t, 24, 100_000), dir: t.TempDir(), budget: 5 * time.Second, packages: 8}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The third way is about to begin.
	err := s.main(ctx, []string{os.Args[0], workerCommand}, io.Discard, writer(func(line string) {
		if strings.Contains(line, string(privateMaps)+": ") {
			if made, err := os.ReadDir(s.dir); err != nil || len(made) != 1 {
				t.Errorf("the directory has %v, %v", made, err)
			}
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	empty(t, s.dir)
}

// writer calls a function with each line.
type writer func(line string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

func TestDemo_InterruptedInTheSecondAct_NothingLeft(t *testing.T) {
	s := settings{goroot: goTree(t, 24, 100_000), dir: t.TempDir(), budget: 5 * time.Second, packages: 2}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := s.main(ctx, []string{os.Args[0], workerCommand}, io.Discard, writer(func(line string) {
		if strings.Contains(line, "was added") {
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	empty(t, s.dir)
}

func TestReader_KeyMissing_Counted(t *testing.T) {
	s := settings{dir: t.TempDir()}
	err := s.make(context.Background(), flagstone.Options{Dir: s.dir}, func(_ string, cache *flagstone.Cache) error {
		all := []block{{"there", []byte("value")}, {"other", []byte("value")}, {"missing", nil}}
		r := &reader{cache: cache, blocks: digests(all)}
		for key, value := range map[string]string{"there": "value", "other": "another"} {
			if err := cache.Set(context.Background(), []byte(key), []byte(value), 0); err != nil {
				return err
			}
		}
		for i := range r.blocks {
			if err := r.get(&r.blocks[i]); err != nil {
				return err
			}
		}
		if n := r.tally; n.Hits != 1 || n.Wrong != 1 || n.Misses != 1 || n.First != "other" {
			t.Errorf("%+v", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDemo_WorkerCannotStart_Error(t *testing.T) {
	s := settings{goroot: goTree(t, 4, 0), dir: t.TempDir(), budget: time.Second, packages: 2}
	if err := s.main(context.Background(), []string{"/bin/false"}, io.Discard, io.Discard); err == nil {
		t.Error("no error")
	}
	empty(t, s.dir)
}

func TestDemo_NoDirectory_ErrorNamesTheFlag(t *testing.T) {
	s := settings{dir: t.TempDir() + "/missing"}
	err := s.withCache(context.Background(), func(string, *flagstone.Cache) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("%v", err)
	}
}

func TestFindGo_NoSource_ErrorNamesTheFlag(t *testing.T) {
	if dir, err := (settings{goroot: t.TempDir()}).findGo(context.Background()); err == nil || !strings.Contains(err.Error(), "--goroot") {
		t.Errorf("%q, %v", dir, err)
	}
}

func TestWork_ParentGone_Ends(t *testing.T) {
	var out bytes.Buffer
	if err := work(strings.NewReader(""), &out); !errors.Is(err, errGone) || !strings.Contains(out.String(), "gone") {
		t.Errorf("%v, said %s", err, out.String())
	}
}
