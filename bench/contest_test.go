package main

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

func TestCompete_Rounds_RunEachOnceInChangingOrder(t *testing.T) {
	const rounds, n = 40, 3
	calls := 0
	entrants := make([]entrant, n)
	for i := range entrants {
		entrants[i].run = func(int, time.Duration) (chunk, error) {
			calls++
			return chunk{Nanos: int64(calls), Keys: 1}, nil
		}
	}
	done, err := compete(context.Background(), rand.New(rand.NewPCG(1, 1)), rounds, time.Second, entrants)
	if err != nil || len(done) != rounds || calls != (rounds+1)*n {
		t.Fatal(len(done), calls, err)
	}
	first := make([]int, n)
	for i, r := range done {
		first[r.Order[0]]++
		for place, who := range r.Order {
			if want := int64((i+1)*n + place + 1); r.Chunks[who].Nanos != want {
				t.Errorf("round %d: entrant %d ran as call %d, want %d", i, who, r.Chunks[who].Nanos, want)
			}
		}
	}
	for who, times := range first {
		if times == 0 {
			t.Errorf("entrant %d never came first", who)
		}
	}
}
