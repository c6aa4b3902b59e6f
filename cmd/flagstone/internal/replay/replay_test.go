package replay

import (
	"errors"
	"testing"
)

func TestJob_Shares_EveryRequestOnce(t *testing.T) {
	for _, contiguous := range []bool{false, true} {
		for _, workers := range []int{1, 2, 3, 7, 20} {
			for _, requests := range []uint64{1, 6, 7, 20, 101} {
				done := make([]int, requests)
				for w := range workers {
					j := Job{Requests: requests, Contiguous: contiguous, Worker: w, Workers: workers}
					for i := uint64(0); ; i++ {
						mine, more := j.mine(i)
						if !more {
							break
						}
						if mine {
							done[i]++
						}
					}
				}
				for i, n := range done {
					if n != 1 {
						t.Fatalf("contiguous %v, %d workers: request %d of %d is done %d times", contiguous, workers, i, requests, n)
					}
				}
			}
		}
	}
}

func TestCapacity_RecordsAndPercent_Rounded(t *testing.T) {
	for text, want := range map[string]uint64{"1": 1, "5000": 5000, "1%": 138, "10%": 1376, "0.001%": 1, "100%": 13756} {
		c, err := ParseCapacity(text)
		if err != nil || c.Of(13756) != want || c.String() != text {
			t.Errorf("%s: %d %v, want %d", text, c.Of(13756), err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "1.5", "x", "%", "0%", "-1%", "NaN%", "Inf%", "1001%"} {
		if c, err := ParseCapacity(text); !errors.Is(err, ErrCapacity) {
			t.Errorf("%q: %v %v", text, c, err)
		}
	}
}

func TestShape_AnyKeyAndValue_RecordsTakeOneCell(t *testing.T) {
	for _, longest := range []int{0, 1, 8, 9, 100, 65535} {
		for _, value := range []int{0, 1, 8, 9, 1000} {
			for _, exact := range []bool{false, true} {
				o, err := Shape{Shards: 4, Value: value, Exact: exact}.Options(400, longest)
				if err != nil {
					t.Fatal(err)
				}
				g, err := plan(o)
				if err != nil || g.Reserve != 1 || Room(g) < 400 || exact && Room(g) != 400 {
					t.Errorf("key %d value %d exact %v: %+v %v", longest, value, exact, g, err)
				}
			}
		}
	}
}
