package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is what all workers do, and what it is expected to take.
type plan struct {
	roots    []string
	distinct int           // packages they need together
	needs    int           // summaries that one worker needs
	expected time.Duration // of the three ways and the comparison
}

// Of the work, the shares of the ways. No cache: all needs. Private maps: each
// package once in each worker. Flagstone, with the kill: between one worker's
// share of that and all of it. The sample at the end: as one worker.
const (
	sharedShare = 0.4
	sampleShare = 0.3
	killTime    = time.Second
	marginShare = 0.85 // of the budget that the plan may fill
)

// choose takes packages in the given order as roots, skipping those that no
// longer fit the time, or the first n of them if n is not 0. Rate is the time
// that the workers together take for each of them to do one unit of cost.
func choose(all catalogue, order []string, n int, rate float64, left time.Duration) plan {
	var p plan
	seen := map[string]bool{}
	var needs, distinct int64
	for _, root := range order {
		if n != 0 && len(p.roots) == n {
			break
		}
		alone := map[string]bool{}
		cost := all.closure(root, alone)
		var fresh int64
		for path := range alone {
			if !seen[path] {
				fresh += all[path].cost()
			}
		}
		units := float64(needs+cost) + float64(distinct+fresh)*(1+sharedShare+sampleShare)
		expected := time.Duration(units*rate) + killTime
		if n == 0 && len(p.roots) >= minRoots && expected > left {
			continue
		}
		for path := range alone {
			seen[path] = true
		}
		needs, distinct = needs+cost, distinct+fresh
		p.roots, p.needs, p.expected = append(p.roots, root), p.needs+len(alone), expected
	}
	p.distinct = len(seen)
	return p
}

// minRoots are done whatever they take.
const minRoots = 2

// shuffled returns the paths in the order of the seed and stream.
func shuffled(paths []string, seed, stream uint64) []string {
	out := slices.Clone(paths)
	rand.New(rand.NewPCG(seed, stream)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// orders gives each worker its own order of the roots.
func orders(roots []string, seed uint64) (out [workers][]string) {
	for slot := range out {
		out[slot] = shuffled(roots, seed, uint64(slot)+1)
	}
	return out
}

// calibrate lets the workers do a few packages without a cache and returns the
// time for one unit of cost.
func calibrate(ctx context.Context, a assignment, all catalogue, order []string) (rate float64, err error) {
	// A package somewhere in the middle by size of what it needs.
	bySize := slices.Clone(order[:min(len(order), calibrateOf)])
	size := func(root string) int64 { return all.closure(root, map[string]bool{}) }
	slices.SortStableFunc(bySize, func(a, b string) int { return int(size(a) - size(b)) })
	root := bySize[len(bySize)/2]
	a.job.Way = noCache
	a.roots = orders([]string{root}, 0)
	out, err := a.run(ctx)
	if err != nil {
		return 0, fmt.Errorf("calibrate: %w", err)
	}
	return float64(out.Wall) / float64(max(size(root), 1)), nil
}

const calibrateOf = 15
