package torture

import (
	"math/rand/v2"
	"strings"
	"time"
)

// life is one process of a slot, and makes its commands.
type life struct {
	*slot
	id     uint64
	seq    uint64
	sent   moment // of the burst that is being made
	place  place
	random *rand.Rand
	burst  []*op
	next   []func()            // what the next burst begins with
	claims map[*claim]*subject // that it holds
	mutex  int                 // that it holds, or 0
	domain uint64              // domain time, when it last asked
	doomed bool                // it is about to crash
}

// add adds a command to the burst.
func (l *life) add(o *op) {
	if o.line != "drop" && o.line != "crash" && o.wait == 0 && o.patient() && l.random.IntN(6) == 0 {
		o.wait = []time.Duration{20, 100, 500, 2000}[l.random.IntN(4)] * time.Millisecond
		o.line += " wait=" + itoa(int64(o.wait/time.Millisecond))
	}
	l.burst = append(l.burst, o)
}

// patient reports whether the command can be told how long to wait.
func (o *op) patient() bool {
	switch o.name() {
	case "get", "peek", "stale", "set", "add", "replace", "del", "incr", "touch", "cas", "claim", "fill", "release", "fail", "clearns", "evicttag", "lock":
		return true
	}
	return false
}

// event returns the event of the next command.
func (l *life) event() event {
	l.seq++
	return event{life: l.id, seq: l.seq, sent: l.sent, done: never}
}

// later has the next burst begin with what f adds.
func (l *life) later(f func()) { l.next = append(l.next, f) }

// task is something to do, with a weight.
type task struct {
	weight int
	does   func(l *life)
}

var tasks = [places][]task{
	primary: append([]task{
		{4000, (*life).read},
		{2400, (*life).put},
		{150, (*life).readBatch},
		{600, (*life).increment},
		{150, (*life).readCounter},
		{500, (*life).swap},
		{500, (*life).seize},
		{150, (*life).readClaimed},
		{60, (*life).overwrite},
		{120, (*life).touch},
		{10, (*life).evictTag},
		{6, (*life).scan},
	}, meddling...),
	ponds: append([]task{
		{4000, (*life).read},
		{4000, (*life).put},
		{150, (*life).readBatch},
		{20, (*life).evict},
		{20, (*life).evictNear},
		{20, (*life).clearNamespace},
		{3, (*life).clear},
		{3, (*life).scan},
	}, meddling...),
	west: append([]task{{4000, (*life).read}, {2000, (*life).put}, {150, (*life).readBatch}, {40, (*life).move}, {3, (*life).scan}}, meddling...),
	east: append([]task{{4000, (*life).read}, {150, (*life).readBatch}, {40, (*life).move}, {3, (*life).scan}}, meddling...),
}

// meddling is what all do now and then.
var meddling = []task{
	{40, (*life).hold},
	{40, (*life).lock},
	{8, (*life).tiers},
	{8, (*life).move},
	{6, (*life).lead},
	{3, (*life).pool},
	{4, (*life).check},
	{2, (*life).rebuild},
	{1, (*life).dump},
	{10, (*life).now},
	{10, plain("reap")},
	{5, plain("peers")},
	{5, plain("steward")},
	{5, plain("refresh")},
	{5, plain("stat")},
	{5, plain("heard")},
	{5, (*life).ring},
}

// fill makes a burst.
func (l *life) fill(n int) {
	l.burst = nil
	begin := l.next
	l.next = nil
	for _, f := range begin {
		f()
	}
	some := tasks[l.place]
	sum := 0
	for _, t := range some {
		sum += t.weight
	}
	for len(l.burst) < n {
		r := l.random.IntN(sum)
		for _, t := range some {
			if r -= t.weight; r < 0 {
				t.does(l)
				break
			}
		}
	}
}

// lines is the burst as it is sent.
func (l *life) lines() []string {
	lines := make([]string, len(l.burst))
	for i, o := range l.burst {
		lines[i] = o.line
	}
	return lines
}

// families returns those that may be looked up where the handle is.
func (l *life) family(write bool) family {
	switch l.place {
	case ponds:
		return pond + family(l.random.IntN(2))
	case west, east:
		return nomad
	}
	return []family{own, own, own, named, timed, tagged}[l.random.IntN(6)]
}

// any returns a key that may be looked up.
func (l *life) any(f family) *subject {
	of := l.keys.by[f]
	some := of[l.random.IntN(len(of))]
	return some[l.random.IntN(len(some))]
}

// mine returns a key that this slot writes.
func (l *life) mine(f family) *subject {
	some := l.keys.by[f][l.slot.n]
	return some[l.random.IntN(len(some))]
}

func join(words ...string) string { return strings.Join(words, " ") }
