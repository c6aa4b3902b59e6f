package fuzz

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// step is a command and how the answers to it are compared.
type step struct {
	command string
	rule    rule
}

// rule compares two answers. Why says what is wrong; over is true if what follows
// cannot be compared.
type rule func(j *judge, a, b []string) (why string, over bool)

// judge is what rules know of the round.
type judge struct {
	strict bool // both testees are one program
	anew   bool // a rebuild may have numbered the versions anew
	sound  bool // check has found nothing wrong
	lru    bool // use counts mean nothing
}

// keys are some that the images have.
var keys = []string{"a", "b", "c", "d", "e", "long", "one", "two", "low", "lower", "mid", "top", "never", "past", "later", "failed", "loading", "new", "k3"}

// reading is what two readers are asked.
func reading(r *rand.Rand) []step {
	out := []step{{"open DIR NAME read=1", opening}, {"stat", same}}
	for _, i := range r.Perm(len(keys)) {
		out = append(out, step{"peek " + hex.EncodeToString([]byte(keys[i])), free})
	}
	return append(out, step{"peek #1122334455667788", free}, step{"peek @6e/61", free}, step{"scan", free}, step{"batch 61 62 63", free}, step{"close", same})
}

// dialogue is what both testees are asked. Check comes first, as lookups may repair, and
// nothing is used before the dump: what is missed as damaged would not be stamped.
func dialogue(r *rand.Rand) []step {
	// A lock may be held, as its word says, by a living process: the testee itself, for one.
	const patience = " wait=2000"
	out := []step{{"open DIR NAME create=0 wake=poll", opening}, {"check" + patience, zero}}
	for _, i := range r.Perm(len(keys))[:8] {
		out = append(out, step{"peek " + hex.EncodeToString([]byte(keys[i])), free})
	}
	out = append(out,
		step{"peek #1122334455667788", free}, step{"peek @6e/61", free}, step{"scan" + patience, free}, step{"stat", free},
		step{"rebuild" + patience, needed}, step{"check" + patience, zero}, step{"dump" + patience, records}, step{"scan" + patience, listing}, step{"stat", same},
	)
	for _, key := range keys {
		out = append(out, step{"peek " + hex.EncodeToString([]byte(key)), value})
	}
	return append(out,
		step{"batch 61 62 63", same}, step{"set 7a7a 31" + patience, value}, step{"get 7a7a", value}, step{"add 61 32" + patience, value}, step{"incr 7a79 5" + patience, same}, step{"del 62" + patience, same},
		step{"evict 18446744073709551615 3" + patience, same}, step{"check" + patience, zero}, step{"close", same},
	)
}

// opening: both open it, or neither. Which of several things that are wrong is named is
// free.
func opening(j *judge, a, b []string) (string, bool) {
	one, other := strings.HasPrefix(a[0], "ok"), strings.HasPrefix(b[0], "ok")
	switch {
	case one != other, j.strict && !one && a[0] != b[0]:
		return "one opens what the other refuses", true
	}
	return "", !one
}

// zero: both find problems, or neither. How many and which is free, and a lock word may
// name a living process.
func zero(j *judge, a, b []string) (string, bool) {
	if a[0] == "err busy" || b[0] == "err busy" {
		return "", true
	}
	j.sound = sound(a)
	if sound(a) != sound(b) || strings.HasPrefix(a[0], "err") != strings.HasPrefix(b[0], "err") {
		return "one finds problems where the other finds none", true
	}
	return "", false
}

func sound(a []string) bool { return a[0] == "ok 0" }

// free: where check has found something, or nobody has checked, damaged bytes may be
// answered with anything (section 2, guarantee 6); an answer is all that is asked for.
func free(j *judge, a, b []string) (string, bool) {
	busy := a[0] == "err busy" || b[0] == "err busy"
	if (j.strict || j.sound && !j.anew) && !busy && !slices.Equal(a, b) {
		return "different answers", true
	}
	return "", false
}

// needed: what has to work. If a lock is held as its word says there is nothing more to
// compare.
func needed(_ *judge, a, b []string) (string, bool) {
	switch {
	case a[0] == "err busy" || b[0] == "err busy":
		return "", true
	case a[0] != b[0]:
		return "different answers", true
	}
	return "", a[0] != "ok"
}

// same: what is sound is answered alike.
func same(_ *judge, a, b []string) (string, bool) {
	if slices.Equal(a, b) {
		return "", false
	}
	return "different answers", true
}

// value is same, but for versions that may have been numbered anew.
func value(j *judge, a, b []string) (string, bool) {
	if j.anew && len(a) == 1 && len(b) == 1 {
		return same(j, []string{unversioned(a[0])}, []string{unversioned(b[0])})
	}
	return same(j, a, b)
}

// unversioned hides the version in the answer to a lookup or a write.
func unversioned(line string) string {
	words := strings.Fields(line)
	switch {
	case words[0] == "ok" && len(words) == 2:
		words[1] = "*"
	case words[0] == "ok" && len(words) > 2:
		words[2] = "*"
	}
	return strings.Join(words, " ")
}

// listing is value for the rows of a scan.
func listing(j *judge, a, b []string) (string, bool) {
	if !j.anew {
		return same(j, a, b)
	}
	hide := func(rows []string) (out []string) {
		for _, row := range rows {
			words := strings.Fields(row)
			if len(words) > 2 {
				words[2] = "*"
			}
			out = append(out, strings.Join(words, " "))
		}
		slices.Sort(out[1:])
		return out
	}
	return same(j, hide(a), hide(b))
}

// records compares dumps after a rebuild. Stamps far ahead became domain time (section
// 17, step 2), which differs and moves on meanwhile, so that such records may stand in any
// order among themselves, as those of equal stamp and version may.
func records(j *judge, a, b []string) (string, bool) {
	one, tiesA := plain(j, a)
	other, tiesB := plain(j, b)
	if tiesA && tiesB {
		slices.Sort(one)
		slices.Sort(other)
	}
	if !slices.Equal(one, other) {
		return "different records after a rebuild", true
	}
	return "", !strings.HasPrefix(a[0], "ok")
}

// uses are stamps that a testee made: those of the images lie far before.
const uses = 100_000

func plain(j *judge, rows []string) (out []string, ties bool) {
	seen := map[string]bool{}
	for _, row := range rows {
		words := strings.Fields(row)
		switch {
		case words[0] == "record" && len(words) == 11:
			const version, stamp, count = 5, 9, 10
			id := fmt.Sprint(words[version], words[stamp])
			ties = ties || seen[id]
			seen[id] = true
			if n, _ := strconv.ParseUint(words[stamp], 10, 64); n >= uses {
				words[stamp] = "*"
			}
			if j.anew {
				words[version] = "+"
			}
			if j.lru { // where it is 0, unless somebody damaged it
				words[count] = "+"
			}
		case words[0] == "shard" && j.anew:
			words[5] = "+"
		}
		out = append(out, strings.Join(words, " "))
	}
	sortUses(out)
	return out, ties
}

// sortUses puts neighbours whose stamps are hidden into one order.
func sortUses(rows []string) {
	hidden := func(row string) bool { return strings.HasPrefix(row, "record") && strings.Contains(row, " * ") }
	for i := 0; i < len(rows); i++ {
		from := i
		for i < len(rows) && hidden(rows[i]) {
			i++
		}
		slices.Sort(rows[from:i])
	}
}
