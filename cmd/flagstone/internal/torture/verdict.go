package torture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// verdict looks at what is left, and compares it with the journals.
func (c *crew) verdict() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, j := range c.journals {
		c.sum(j)
	}
	c.report.Operations = map[string]uint64{}
	for op := range operations {
		for _, j := range c.journals {
			c.report.Operations[op.String()] += j.Operations[op].Load()
		}
	}
	c.report.Total, c.report.Seconds = c.operations(), time.Duration(now()-c.start).Seconds()
	c.report.Execs, c.report.Children = c.report.Operations[opExec.String()], c.report.Operations[opChild.String()]
	for _, cache := range []*flagstone.Cache{c.cache, c.pond.Cache(), c.west.Cache(), c.east.Cache()} {
		problems, err := cache.Check(ctx)
		if err != nil {
			problems = append(problems, err.Error())
		}
		for _, problem := range problems {
			if err := c.wrong(none, "not sound in the end: "+problem); err != nil {
				return err
			}
		}
		st, err := cache.Stats()
		if err != nil {
			return fmt.Errorf("look at what is left: %w", err)
		}
		c.report.Steals += st.Steals
		c.report.Rebuilds += st.Rebuilds
		c.report.Dropped += st.Dropped
	}
	return c.values()
}

// sum adds a slot's figures.
func (c *crew) sum(j *journal) {
	r := &c.report
	r.Busy += j.Busy.Load()
	r.Refused += j.Refused.Load()
	for _, w := range []struct {
		all *Wait
		one *longest
	}{{&r.Longest, &j.Longest}, {&r.Stopped, &j.Stopped}, {&r.Overdue, &j.Overdue}} {
		if one := w.one.wait(); one.Time > w.all.Time {
			*w.all = one
		}
	}
}

// values looks every key up that has to be there.
func (c *crew) values() error {
	judge := func(k key, look func(dst, key []byte) ([]byte, bool, error), wrong func(found []byte, ok bool) string) error {
		found, ok, err := look(nil, k.bytes())
		if err != nil {
			return c.wrong(k, fmt.Sprintf("in the end: unexpected error: %v", err))
		}
		if what := wrong(found, ok); what != "" {
			return c.wrong(k, "in the end: "+what)
		}
		return nil
	}
	places := [allFamilies]func(dst, key []byte) ([]byte, bool, error){
		own: c.cache.Get, named: c.cache.Namespace("torture").Get, tagged: c.cache.Get, pond: c.pond.Get,
		nomad: func(dst, key []byte) ([]byte, bool, error) {
			if found, ok, err := c.west.Get(dst, key); ok || err != nil {
				return found, ok, err
			}
			return c.east.Get(dst, key)
		},
		counter: c.cache.Get, chain: c.cache.Get, loaded: c.cache.Get,
	}
	for f := range allFamilies {
		for slot := range c.Procs {
			if f >= families && slot > 0 {
				break
			}
			for n := range familyTraits[f].keys {
				k := key{f, slot, n}
				err := judge(k, places[f], func(found []byte, ok bool) (wrong string) {
					switch {
					case f < families:
						return c.judge(k, found, ok, c.floor(k))
					case f == counter:
						return c.judgeCounter(k, found, ok, increments(&c.Done, n))
					case f == chain:
						_, wrong = c.judgeChain(k, found, ok, c.Chains[n].Floor.Load())
					case ok:
						_, wrong = c.judgeLoaded(k, found)
					}
					return wrong
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// wrong writes down what was found in the end.
func (c *crew) wrong(k key, what string) error {
	v := Violation{At: time.Duration(now() - c.start).Seconds(), Slot: k.slot, What: what}
	if k != none {
		v.Key = k.String()
		for slot, j := range c.journals {
			for _, line := range j.lines(c.start, 4, k.id()) {
				v.Trace = append(v.Trace, fmt.Sprintf("slot %d: %s", slot, line))
			}
		}
	}
	return v.write(c.scratch)
}

// render writes the journals as text beside them.
func (c *crew) render() error {
	for slot, j := range c.journals {
		text := strings.Join(j.lines(c.start, len(j.Ring), 0), "\n") + "\n"
		if err := os.WriteFile(filepath.Join(c.scratch, fmt.Sprintf("journal-%d.txt", slot)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
