// Package fuzz is the suite that changes bytes of the vectors' images, gives two testees
// a copy each, and compares what they say: no crash, no endless loop, answers of one
// class, and after a rebuild of both the same records.
package fuzz

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
	"github.com/flagstone-shm/flagstone/conformance/internal/vectors"
)

// Suite is the suite; Options.Seconds is how long it goes on.
func Suite() suite.Suite {
	return suite.Suite{Name: "fuzz", About: "the same damaged bytes to two testees", Cases: func(suite.Options) ([]suite.Case, error) {
		return []suite.Case{{
			Name: "images", Level: suite.Full, Clauses: []string{"19 Untrusted numbers", "17 Rebuild", "8 Opening 6"}, Run: run,
		}}, nil
	}}
}

const (
	leastRounds  = 50 // however short the time is
	mostFailures = 10 // then the case ends
	domain       = "fuzz"
)

// fuzzer is a run of the case.
type fuzzer struct {
	*suite.T
	images []*vectors.Vector
	strict bool // both testees are one program: their answers are the same

	rounds, opened, whole, failures int
}

func run(t *suite.T) {
	images, err := vectors.Read(t.Options.Vectors)
	if err != nil {
		t.Fatalf("%v", err)
	}
	images = slices.DeleteFunc(images, func(v *vectors.Vector) bool { return strings.HasPrefix(v.Name, "refused-") })
	f := &fuzzer{T: t, images: images, strict: t.Mix[0].Name == t.Mix[1%len(t.Mix)].Name}
	end := time.Now().Add(time.Duration(t.Options.Seconds) * time.Second)
	for f.failures < mostFailures && t.Context().Err() == nil && (f.rounds < leastRounds || time.Now().Before(end)) {
		if err := f.round(uint64(f.rounds)); err != nil {
			f.failures++
			t.Errorf("round %d of seed %d: %v", f.rounds, t.Options.Seed, err)
		}
		f.rounds++
		if f.rounds%100 == 0 {
			t.Notef("%d rounds", f.rounds)
		}
	}
	t.Logf("%d rounds; %d images were opened, and %d compared to the end", f.rounds, f.opened, f.whole)
	if f.whole*4 < f.rounds {
		t.Errorf("of %d images %d were opened and %d compared to the end: the others say little", f.rounds, f.opened, f.whole)
	}
}

// round changes an image and compares.
func (f *fuzzer) round(n uint64) error {
	r := rand.New(rand.NewPCG(f.Options.Seed, n))
	image := f.images[r.IntN(len(f.images))]
	m := mutate(image, r)
	script := dialogue(r)
	if r.IntN(5) == 0 {
		script = reading(r)
	}
	var calls [2][]*testee.Call
	for i := range calls {
		dir := filepath.Join(f.Dir(), fmt.Sprint("copy", i))
		defer os.RemoveAll(dir) // before the next round
		if err := vectors.PlaceFiles(m.files, dir, domain); err != nil {
			return err
		}
		for _, s := range script {
			words := strings.Fields(strings.NewReplacer(" DIR", " "+dir, " NAME", " "+domain).Replace(s.command))
			calls[i] = append(calls[i], f.Testee(i).Send(words...))
		}
	}
	err := f.compare(m, script, calls)
	if err != nil {
		err = fmt.Errorf("%w\nimage %s:\n  %s", err, image.Name, strings.Join(m.done, "\n  "))
	}
	return err
}

func (f *fuzzer) compare(m *mutant, script []step, calls [2][]*testee.Call) (err error) {
	var said [2][][]string
	for i := range calls {
		for j, c := range calls[i] {
			a, e := c.Wait()
			if e != nil {
				err = errors.Join(err, fmt.Errorf("testee %d: %s: %w\n%s", i, script[j].command, e, f.Testee(i).Stderr()))
				f.Restart(i)
				break
			}
			command, _, _ := strings.Cut(script[j].command, " ")
			said[i] = append(said[i], vectors.Lines(command, a))
		}
	}
	if err != nil {
		return err
	}
	j := judge{strict: f.strict, anew: m.renumbered(), lru: m.lru()}
	for i, s := range script {
		a, b := said[0][i], said[1][i]
		why, over := s.rule(&j, a, b)
		if why != "" {
			return fmt.Errorf("%s: %s\n%s: %s\n%s: %s", s.command, why,
				f.Mix[0].Name, testee.Short(strings.Join(a, "\n  ")), f.Mix[1%len(f.Mix)].Name, testee.Short(strings.Join(b, "\n  ")))
		}
		if i == 0 && strings.HasPrefix(a[0], "ok") {
			f.opened++
		}
		if over {
			return nil
		}
	}
	f.whole++
	return nil
}
