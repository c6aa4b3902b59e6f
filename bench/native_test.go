package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestNative_EachOperation_AnswersEveryKey(t *testing.T) {
	ctx := context.Background()
	exe, err := buildNative(ctx)
	if errors.Is(err, errNoNative) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	st := newStage(testOptions(t), "bench")
	if err := st.add(ctx, subject); err != nil {
		t.Fatal(err)
	}
	w, err := startNative(exe, st)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range natives {
		if err := w.load(st.workload, n.keys); err != nil {
			t.Fatal(err)
		}
		if c, err := w.run(n.op, time.Millisecond); err != nil || c.Keys == 0 || c.Nanos == 0 {
			t.Errorf("%s %s: %+v, %v", n.op, n.keys, c, err)
		}
	}
	if err := w.load(st.workload, "absent"); err == nil {
		t.Error("keys that are not there were found")
	}
	if err := errors.Join(w.close(), st.close()); err != nil {
		t.Error(err)
	}
}
