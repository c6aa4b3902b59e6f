package main

import (
	"context"
	"testing"
)

func TestTakeover_EachWay_SetDoneAndWitnessSaw(t *testing.T) {
	ctx := context.Background()
	o := testOptions(t)
	o.Shape = shape{50_000, 64} // in several shards
	st := newStage(o, "bench")
	if err := st.add(ctx, subject); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.close(); err != nil {
			t.Error(err)
		}
	}()
	w, err := openWake(st)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	for name, way := range map[string]func() (int64, error){
		"waiting": func() (int64, error) { return w.kill(ctx, true) },
		"coming":  func() (int64, error) { return w.kill(ctx, false) },
		"rebuild": func() (int64, error) { return w.rebuild(ctx) },
	} {
		before := w.shard.Rebuilds.Load()
		done, err := w.watched(way)
		if err != nil || done.Nanos <= 0 || done.Sights.Shard.Lookups == 0 || done.Sights.Sets.P99 <= 0 {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
		if rebuilds := w.shard.Rebuilds.Load() - before; rebuilds != 1 {
			t.Errorf("%s: %d rebuilds, want 1", name, rebuilds)
		}
	}
}
