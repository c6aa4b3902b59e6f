//go:build linux && steps

package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/step"
)

const stepVariable = "FLAGSTONE_TEST_STEP"

// fall makes a domain, destroys it, and kills itself at the step of the number that
// the environment gives.
func fall(o Options) error {
	last, err := strconv.Atoi(os.Getenv(stepVariable))
	if err != nil {
		return err
	}
	passed := 0
	step.Passing = func() {
		if passed++; passed == last {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}
	o.Wake.Poll = 1 << 40 // no steps of other goroutines
	t, err := Open(context.Background(), o)
	if err == nil {
		err = errors.Join(t.Close(), Destroy(context.Background(), o.Dir, o.Name))
	}
	return err
}

func init() { roles["fall"] = fall }

// Killed at each step of making and destroying a domain: one Collect takes it all, and
// says as much when it is only asked.
func TestCollect_KilledAtEachStep_NothingLeft(t *testing.T) {
	found := map[Verdict]int{}
	for n := 1; ; n++ {
		o := options(t.TempDir())
		t.Setenv(stepVariable, fmt.Sprint(n))
		c := start(t, "fall", o.Dir)
		err := c.cmd.Wait()
		if err == nil {
			t.Logf("%d steps: %v", n-1, found)
			return
		}
		told, err := Collect(CollectOptions{Dir: o.Dir, Unused: true, DryRun: true})
		must(t, err)
		all, err := Collect(CollectOptions{Dir: o.Dir, Unused: true})
		must(t, err)
		if len(told) != len(all) {
			t.Errorf("step %d: told %+v, was %+v", n, told, all)
		}
		for i, c := range all {
			if c.Err != nil || !c.Removed || told[i].Path != c.Path || told[i].Verdict != c.Verdict || !told[i].Garbage {
				t.Errorf("step %d: told %+v, was %+v", n, told[i], c)
			}
			found[c.Verdict]++
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
			t.Fatalf("step %d: left %v, %v", n, left, err)
		}
	}
}
