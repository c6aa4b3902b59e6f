package main

import "strings"

// command is what the testee does for a name.
type command struct {
	words   int    // that it takes; fewer or more are refused
	more    bool   // more are welcome
	options string // that it knows
	without bool   // it needs no handle
	run     func(s *session, l *line) (answer, error)
}

const (
	lookups = "wait"
	writes  = "wait ttl stale tag expiry tier"
)

var commands = map[string]command{
	"hello":   {run: hello, without: true},
	"open":    {words: 2, run: open, without: true, options: "create read slab entries cell maxkey maxvalue shards order full stamp regions wake steward promote group"},
	"close":   {run: shut},
	"destroy": {words: 2, run: destroy, without: true},
	"gc":      {words: 1, run: gc, without: true},
	"list":    {words: 1, run: list, without: true},

	"get":       {words: 1, run: get, options: lookups},
	"peek":      {words: 1, run: peek, options: lookups},
	"stale":     {words: 1, run: stale, options: lookups},
	"batch":     {words: 1, more: true, run: batch, options: lookups},
	"set":       {words: 2, run: set, options: writes},
	"add":       {words: 2, run: add, options: writes},
	"replace":   {words: 2, run: replace, options: writes},
	"cas":       {words: 3, run: cas, options: writes},
	"del":       {words: 1, run: del, options: lookups},
	"incr":      {words: 2, run: incr, options: "wait initial ttl"},
	"touch":     {words: 2, run: touch, options: lookups},
	"claim":     {words: 2, run: claim, options: lookups},
	"fill":      {words: 3, run: fill, options: writes},
	"release":   {words: 2, run: release, options: lookups},
	"fail":      {words: 3, run: fail, options: "wait until"},
	"clearns":   {words: 1, run: clearNamespace, options: lookups},
	"clear":     {run: clearAll, options: lookups},
	"scan":      {run: scan, options: lookups},
	"evict":     {words: 2, run: evict, options: lookups},
	"evicttag":  {words: 1, run: evictTag, options: lookups},
	"evictnear": {words: 2, run: evictNear, options: lookups},

	"peers":   {run: peers},
	"reap":    {run: reap},
	"entries": {run: entries},
	"lock":    {words: 1, run: lockMutex, options: lookups},
	"unlock":  {words: 1, run: unlockMutex},
	"hold":    {words: 1, run: hold, options: lookups},
	"drop":    {run: drop},
	"flags":   {words: 1, run: flags},
	"ring":    {words: 2, run: ring},
	"heard":   {run: heard},
	"await":   {words: 1, run: await, options: lookups},
	"steward": {run: steward},
	"lead":    {run: lead},
	"resign":  {run: resign},
	"grow":    {words: 2, run: grow, options: lookups},
	"drain":   {words: 1, run: drain, options: lookups},
	"age":     {words: 4, run: age, options: lookups},
	"slab":    {words: 2, run: makeSlab, options: lookups},
	"retire":  {words: 1, run: retire, options: lookups},
	"move":    {words: 3, run: move, options: lookups},
	"publish": {words: 2, run: publish, options: lookups},
	"now":     {run: now},
	"refresh": {run: refresh},

	"stat":    {run: stat},
	"dump":    {run: dump, options: lookups},
	"check":   {run: check, options: lookups},
	"rebuild": {run: rebuild, options: lookups},
	"repair":  {run: repair, options: lookups},

	"crash":      {run: crash, without: true},
	"crashafter": {words: 1, run: crashAfter, without: true},
}

// do answers one line.
func (s *session) do(text string) answer {
	name, l := parse(text)
	c, known := commands[name]
	for option := range l.options {
		known = known && strings.Contains(" "+c.options+" ", " "+option+" ")
	}
	if !known {
		return failed(errUnsupported)
	}
	if len(l.words) < c.words || len(l.words) > c.words && !c.more {
		l.wrong("%s takes %d words, here are %d", name, c.words, len(l.words))
		return failed(l.err)
	}
	if !c.without && s.cache == nil {
		return failed(errNoHandle)
	}
	a, err := c.run(s, l)
	if err != nil {
		return failed(err)
	}
	return a
}
