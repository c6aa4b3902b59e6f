package torture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// fake is a domain in the test's own memory, which does everything right but what its
// sabotage says.
type fake struct {
	sabotage string
	every    int // so often

	mu      sync.Mutex
	slabs   map[string]map[string]*record
	version uint64
	claims  map[string]*seized
	mutexes map[string]*fakePeer
	turn    int
}

type record struct {
	value   []byte
	old     []byte // the value before
	version uint64
	tag     string
	expiry  int64
}

type seized struct {
	version  uint64
	owner    *fakePeer
	deadline time.Time
	failed   string
	until    int64
}

func newFake(sabotage string, every int) *fake {
	return &fake{sabotage: sabotage, every: every, slabs: map[string]map[string]*record{}, claims: map[string]*seized{}, mutexes: map[string]*fakePeer{}}
}

// spoils reports whether it is time for that sabotage.
func (f *fake) spoils(how string) bool {
	if f.sabotage != how {
		return false
	}
	f.turn++
	return f.turn%f.every == 0
}

// fakePeer is a process of a fake domain.
type fakePeer struct {
	of    *fake
	slab  string
	work  chan []*fakeCall
	mu    sync.Mutex // held while it does a command; a stop holds it too
	stop  bool
	once  sync.Once
	gone  chan struct{}
	ended atomic.Bool // nothing is done any more
}

type fakeCall struct {
	line   string
	answer testee.Answer
	err    error
	done   chan struct{}
}

func (c *fakeCall) Wait() (testee.Answer, error) {
	<-c.done
	return c.answer, c.err
}

func (f *fake) start(testee.Program) (peer, error) {
	p := &fakePeer{of: f, work: make(chan []*fakeCall, 1), gone: make(chan struct{})}
	go p.run()
	return p, nil
}

func (p *fakePeer) run() {
	for {
		select {
		case <-p.gone:
			return
		case calls := <-p.work:
			for _, c := range calls {
				p.one(c)
			}
		}
	}
}

func (p *fakePeer) one(c *fakeCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(c.done)
	if p.ended.Load() {
		c.err = testee.ErrGone
		return
	}
	c.answer, c.err = p.of.do(p, c.line)
	if c.err != nil {
		p.ended.Store(true)
	}
}

func (p *fakePeer) SendAll(lines []string) []call {
	var calls []call
	var work []*fakeCall
	for _, line := range lines {
		c := &fakeCall{line: line, done: make(chan struct{})}
		calls, work = append(calls, c), append(work, c)
	}
	p.work <- work
	return calls
}

func (p *fakePeer) Kill() error {
	_ = p.Continue()
	p.mu.Lock()
	p.ended.Store(true)
	p.mu.Unlock()
	return nil
}

func (p *fakePeer) Stop() error {
	p.mu.Lock()
	p.stop = true
	return nil
}

func (p *fakePeer) Continue() error {
	if p.stop { // it may have been killed meanwhile
		p.stop = false
		p.mu.Unlock()
	}
	return nil
}

func (p *fakePeer) End() error     { return p.Kill() }
func (p *fakePeer) Close()         { p.once.Do(func() { close(p.gone) }) }
func (p *fakePeer) Stderr() string { return "" }

func yes(words ...any) testee.Answer {
	a := testee.Answer{Kind: testee.OK}
	for _, w := range words {
		a.Words = append(a.Words, fmt.Sprint(w))
	}
	return a
}

func refused(name string) testee.Answer { return testee.Answer{Kind: testee.Err, Name: name} }

var no = testee.Answer{Kind: testee.No}

// do does one command.
func (f *fake) do(p *fakePeer, line string) (testee.Answer, error) {
	if f.sabotage == "slow" && strings.HasPrefix(line, "get") && strings.Contains(line, "wait=20") {
		time.Sleep(1200 * time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := strings.Split(line, " ")
	option := map[string]string{}
	for len(w) > 1 {
		k, v, is := strings.Cut(w[len(w)-1], "=")
		if !is {
			break
		}
		option[k], w = v, w[:len(w)-1]
	}
	if f.spoils("end") && w[0] == "set" {
		return no, errors.New("it has ended by itself")
	}
	switch w[0] {
	case "crash":
		return no, testee.ErrGone
	case "crashafter":
		return testee.Answer{Kind: testee.Unsupported}, nil
	case "open":
		p.slab = option["slab"]
		if f.slabs[p.slab] == nil {
			f.slabs[p.slab] = map[string]*record{}
		}
		return yes(0, 1), nil
	case "entries":
		row := "open slab 0 00000000000000aa 00000000000000aa 4096 " + testee.Hex(placeNames[primary])
		a := yes()
		for at := range places {
			a.Rows = append(a.Rows, strings.ReplaceAll(strings.Replace(row, testee.Hex(placeNames[primary]), testee.Hex(placeNames[at]), 1), "aa", fmt.Sprintf("a%d", at)))
		}
		return a, nil
	case "now":
		return yes(time.Now().UnixMilli(), time.Now().UnixMilli()), nil
	case "lock":
		if other := f.mutexes[w[1]]; other != nil && !other.ended.Load() && !f.spoils("mutex") {
			return refused("busy"), nil
		}
		f.mutexes[w[1]] = p
		return yes(), nil
	case "unlock":
		delete(f.mutexes, w[1])
		return yes(), nil
	case "dump":
		if f.sabotage == "disagree" {
			return testee.Answer{Kind: testee.OK, Rows: []string{fmt.Sprintf("of %p", p)}}, nil
		}
		return yes(), nil
	case "check":
		if f.spoils("unsound") {
			return testee.Answer{Kind: testee.OK, Rows: []string{"something is wrong"}}, nil
		}
		return yes(), nil
	case "batch":
		a := yes()
		for _, key := range w[1:] {
			row := "-"
			if r := f.alive(p, key); r != nil {
				row = "+ " + testee.Hex(f.shown(r))
			}
			a.Rows = append(a.Rows, row)
		}
		return a, nil
	case "scan":
		return f.scan(p), nil
	case "clear":
		clear(f.slabs[p.slab])
		return yes(0), nil
	case "clearns", "evicttag":
		for key, r := range f.slabs[p.slab] {
			if w[0] == "clearns" && strings.HasPrefix(key, "@"+w[1]+"/") || w[0] == "evicttag" && r.tag == w[1] {
				delete(f.slabs[p.slab], key)
			}
		}
		return yes(0), nil
	case "get", "peek", "stale", "set", "add", "replace", "cas", "del", "incr", "touch", "claim", "fill", "release", "fail":
		return f.record(p, w, option), nil
	}
	return yes(), nil
}

// alive returns a record that has not expired.
func (f *fake) alive(p *fakePeer, key string) *record {
	r := f.slabs[p.slab][key]
	if r != nil && r.expiry != 0 && r.expiry <= time.Now().UnixMilli() && f.sabotage != "expired" {
		return nil
	}
	return r
}

// shown is the value that a lookup tells.
func (f *fake) shown(r *record) []byte {
	if r.old != nil && f.spoils("old") {
		return r.old
	}
	if len(r.value) > valueHeader && f.spoils("tear") {
		b := slices.Clone(r.value)
		b[len(b)/2] ^= 0x10
		return b
	}
	return r.value
}

func (f *fake) scan(p *fakePeer) testee.Answer {
	a := yes()
	for _, key := range sorted(f.slabs[p.slab]) {
		r := f.alive(p, key)
		if r == nil || f.spoils("overlook") {
			continue
		}
		if f.spoils("repeat") {
			a.Rows = append(a.Rows, fmt.Sprintf("%s %s %d %d 0 %s", bare(key), testee.Hex(r.value), r.version, r.expiry, r.tag))
		}
		a.Rows = append(a.Rows, fmt.Sprintf("%s %s %d %d 0 %s", bare(key), testee.Hex(r.value), r.version, r.expiry, r.tag))
	}
	return a
}

// bare is a key as a scan writes it.
func bare(key string) string {
	if _, within, scoped := strings.Cut(key, "/"); scoped {
		return "0102030405060708" + within
	}
	return key
}

// record does what is about one key.
func (f *fake) record(p *fakePeer, w []string, option map[string]string) testee.Answer {
	key := w[1]
	r := f.alive(p, key)
	put := func(value []byte) testee.Answer {
		f.version++
		next := &record{value: value, version: f.version, tag: "0"}
		if r != nil {
			next.old = r.value
		}
		if option["tag"] != "" {
			next.tag = option["tag"]
		}
		if ttl, err := strconv.ParseInt(option["ttl"], 10, 64); err == nil {
			next.expiry = time.Now().UnixMilli() + ttl
		}
		f.slabs[p.slab][key] = next
		return yes(f.version)
	}
	last, _ := testee.Bytes(w[len(w)-1])
	c := f.claims[key]
	if c != nil && c.failed == "" && (c.owner != p && c.owner.ended.Load() || time.Now().After(c.deadline)) { // nobody's
		c = nil
	}
	switch w[0] {
	case "get", "peek", "stale":
		if r == nil {
			return no
		}
		a := yes(testee.Hex(f.shown(r)), r.version, r.expiry, 0, r.tag)
		if w[0] == "stale" {
			a.Words = append(a.Words, "0")
		}
		return a
	case "set", "add", "replace", "cas":
		if w[0] == "add" && r != nil || w[0] == "replace" && r == nil {
			return no
		}
		if w[0] == "cas" && (r == nil || strconv.FormatUint(r.version, 10) != w[2]) && !f.spoils("cas") {
			return no
		}
		delete(f.claims, key)
		if w[0] == "set" && f.spoils("forget") {
			f.version++
			return yes(f.version)
		}
		return put(last)
	case "del":
		delete(f.claims, key)
		if r == nil {
			return no
		}
		if !f.spoils("undelete") {
			delete(f.slabs[p.slab], key)
		}
		return yes()
	case "incr":
		sum := uint64(1)
		if r != nil {
			sum += binary.LittleEndian.Uint64(r.value)
		}
		if !f.spoils("increment") {
			put(binary.LittleEndian.AppendUint64(nil, sum))
		}
		return yes(sum)
	case "touch":
		if r == nil {
			return no
		}
		r.expiry, _ = strconv.ParseInt(w[2], 10, 64)
		return yes()
	case "claim":
		switch {
		case r != nil:
			return yes("value", testee.Hex(f.shown(r)))
		case c != nil && c.failed != "" && c.until > time.Now().UnixMilli():
			return yes("failed", c.failed)
		case c != nil && c.failed == "" && !f.spoils("claim"):
			return yes("held")
		case f.sabotage == "held" && f.spoils("held"):
			return yes("held")
		}
		f.version++
		wait, _ := strconv.Atoi(w[2])
		f.claims[key] = &seized{version: f.version, owner: p, deadline: time.Now().Add(time.Duration(wait) * time.Millisecond)}
		return yes("claim", f.version)
	}
	return f.settle(key, w, option, put, last)
}

// settle ends a claim.
func (f *fake) settle(key string, w []string, option map[string]string, put func([]byte) testee.Answer, last []byte) testee.Answer {
	c := f.claims[key]
	lost := c == nil || c.failed != "" || strconv.FormatUint(c.version, 10) != w[2]
	if lost && !f.spoils("fill") || f.spoils("lose") {
		return refused("claimlost")
	}
	delete(f.claims, key)
	switch w[0] {
	case "fill":
		return put(last)
	case "fail":
		f.version++
		until, _ := strconv.ParseInt(option["until"], 10, 64)
		f.claims[key] = &seized{version: f.version, failed: w[3], until: until}
	}
	return yes()
}
