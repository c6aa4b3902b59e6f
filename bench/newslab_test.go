package main

import (
	"context"
	"testing"
)

func TestHall_EachWay_WakesAllSleepers(t *testing.T) {
	ctx := context.Background()
	h, err := openHall(ctx, newStage(testOptions(t), "bench"))
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time shows whether all went back to sleep
		for way, wake := range []func() (chunk, error){
			slabByFutex:  func() (chunk, error) { return h.grow(ctx, slabByFutex) },
			slabBySignal: func() (chunk, error) { return h.grow(ctx, slabBySignal) },
			bareFutex:    func() (chunk, error) { return h.call(ctx) },
			bareSignal:   func() (chunk, error) { return h.kill(ctx) },
		} {
			done, err := wake()
			if err != nil || done.Nanos <= 0 {
				t.Fatal(way, done, err)
			}
			for i := range h.board.Seats {
				for other := range ways {
					if woken := h.board.Seats[i].Woken[other].Load() != 0; woken != (other == way) {
						t.Errorf("sleeper %d, to be woken by %d: woken by %d: %v", i, way, other, woken)
					}
				}
			}
		}
	}
}
