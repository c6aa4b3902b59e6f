package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// good returns figures of a demo in which everything held.
func good() *figures {
	f := &figures{Roots: 1, Distinct: 10, Sample: sample{Values: 10, Of: 10}}
	for _, o := range []outcome{{Way: noCache, Computations: 80}, {Way: privateMaps, Computations: 40}, {Way: withFlagstone, Computations: 12}} {
		for slot := range o.digests {
			o.digests[slot] = map[string]string{"p": "digest"}
		}
		f.Ways = append(f.Ways, &o)
	}
	f.Growth = growth{
		Blocks: 10, FirstFit: 5, SlabSize: 100, Stewards: []int{1, 2}, FileGone: true, BytesBefore: 200, BytesAfter: 100,
	}
	for _, h := range ways {
		f.Growth.Readers = append(f.Growth.Readers, readerStory{Hears: h, Came: "signal", Went: "poll", Tally: &tally{Hits: 9, Below: 1}})
	}
	f.Kill = story{Death: &death{Pid: 7}, Replacement: 8, Steals: 1, Survivors: waits{FirstSet: time.Millisecond}}
	return f
}

func TestFigures_AllHeld_NoFailure(t *testing.T) {
	if f := good().failures(); len(f) != 0 {
		t.Error(f)
	}
}

func TestFigures_OneThingWrong_NamedAndPrinted(t *testing.T) {
	for want, spoil := range map[string]func(f *figures){
		"results of":               func(f *figures) { f.Ways[2].digests[1]["p"] = "other" },
		"worker 3 did 0 of 1":      func(f *figures) { delete(f.Ways[1].digests[3], "p") },
		"computations with":        func(f *figures) { f.Ways[2].Computations = 40 },
		"2 of 3 ways":              func(f *figures) { f.Ways = f.Ways[:2] },
		"no worker was killed":     func(f *figures) { f.Kill.Death = nil },
		"victim's place":           func(f *figures) { f.Kill.Replacement = 0 },
		"dead worker's lock":       func(f *figures) { f.Kill.Steals = 0 },
		"no survivor stored":       func(f *figures) { f.Kill.Survivors.FirstSet = 0 },
		"survivor's first Set":     func(f *figures) { f.Kill.Survivors.FirstSet = time.Second },
		"survivor's Get took 1.5s": func(f *figures) { f.Kill.Survivors.Before.Get = 1500 * time.Millisecond },
		"survivor's Set took 2s":   func(f *figures) { f.Kill.Survivors.After.Set = 2 * time.Second },
		"9 of 10 values":           func(f *figures) { f.Sample.Values = 9 },
		"0 of 0 values":            func(f *figures) { f.Sample = sample{} },
		"doc:p":                    func(f *figures) { f.Sample.Different = []string{"doc:p"} },
		"10 blocks fit":            func(f *figures) { f.Growth.FirstFit = 10 },
		"no slab was added":        func(f *figures) { f.Growth.SlabSize = 0 },
		"3 of 4 readers":           func(f *figures) { f.Growth.Readers = f.Growth.Readers[:3] },
		"hear of the new slab":     func(f *figures) { f.Growth.Readers[1].Came = "" },
		"hear that the slab":       func(f *figures) { f.Growth.Readers[1].Went = "" },
		"did not finish":           func(f *figures) { f.Growth.Readers[2].Tally = nil },
		"found nothing":            func(f *figures) { f.Growth.Readers[2].Tally.Hits = 0 },
		"missed 1 keys":            func(f *figures) { f.Growth.Readers[2].Tally.Misses = 1 },
		"got 1 wrong values":       func(f *figures) { f.Growth.Readers[2].Tally.Wrong = 1 },
		"took 3s":                  func(f *figures) { f.Growth.Readers[2].Tally.Slowest = 3 * time.Second },
		"not one and another":      func(f *figures) { f.Growth.Stewards[1] = 1 },
		"file is still there":      func(f *figures) { f.Growth.FileGone = false },
		"99 bytes given back":      func(f *figures) { f.Growth.BytesAfter = 101 },
		"2 blocks were lost":       func(f *figures) { f.Growth.Lost = 2 },
		"second act's cache":       func(f *figures) { f.Growth.Problems = []string{"Live is 3"} },
		"not sound":                func(f *figures) { f.Problems = []string{"Live is 3"} },
	} {
		f := good()
		spoil(f)
		f.Failures = f.failures()
		var out bytes.Buffer
		if err := f.print(&out); err != nil {
			t.Error(err)
		}
		if len(f.Failures) == 0 || !strings.Contains(strings.Join(f.Failures, "\n"), want) || !strings.Contains(out.String(), "FAILED") {
			t.Errorf("%q: got %q", want, f.Failures)
		}
	}
}

func TestWaits_Operations_SplitAtTheKill(t *testing.T) {
	const ms = int64(time.Millisecond)
	s := &shared{ops: []operation{
		{set: true, shard: 3, start: 1 * ms, end: 3 * ms},
		{busy: true, shard: 3, start: 9 * ms, end: 14 * ms}, // waited across the kill
		{set: true, shard: 3, start: 9 * ms, end: 13 * ms},  // begun before it
		{set: true, shard: 2, start: 11 * ms, end: 12 * ms}, // another shard
		{set: true, shard: 3, start: 12 * ms, end: 18 * ms}, // the first
		{set: true, shard: 3, start: 19 * ms, end: 20 * ms},
	}}
	got := s.waits(killed{At: 10 * ms, Shard: 3})
	want := waits{
		Before:   worst{Set: 2 * time.Millisecond},
		After:    worst{Get: 5 * time.Millisecond, Set: 6 * time.Millisecond, Busy: 1},
		FirstSet: 8 * time.Millisecond,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := s.waits(killed{}); got.After != (worst{}) || got.FirstSet != 0 {
		t.Errorf("without a kill: %+v", got)
	}
}

func TestProgress_NoTerminal_PlainLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.say("one of %d", 2)
	p.update("too soon")
	p.close()
	if got := out.String(); !strings.HasSuffix(got, "one of 2\n") || strings.ContainsAny(got, "\r\x1b") {
		t.Errorf("%q", got)
	}
}
