package torture

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever byte of a value changes, and wherever it is cut or goes on, it is torn.
func TestParse_DamagedValue_Torn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := key{own, rapid.IntRange(0, MaxProcs-1).Draw(t, "slot"), rapid.IntRange(0, 31).Draw(t, "n")}
		v := value{k.id(), rapid.Uint64().Draw(t, "writer"), rapid.Uint64().Draw(t, "number"), rapid.Uint64().Draw(t, "before")}
		b := v.bytes()
		if got, wrong := parse(b); wrong != "" || got != v {
			t.Fatalf("%v is %v, %s", v, got, wrong)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		case 1:
			b = b[:at]
		case 2:
			b = append(b, byte(at))
		}
		if _, wrong := parse(b); !strings.HasPrefix(wrong, "torn") {
			t.Fatalf("damaged at %d of %d: %q", at, len(b), wrong)
		}
	})
}

// The judgement of a key with one writer, whose writes up to number 10 were acknowledged.
func TestJudge_Lookup_FoundOut(t *testing.T) {
	k := key{family: own, slot: 2, n: 3}
	for k.absent(9) || k.absent(10) || k.absent(11) || !k.absent(12) { // 12 deletes
		k.n++
	}
	stays := k
	k.family = pond
	vanishes := k
	for _, c := range []struct {
		name     string
		key      key
		number   uint64 // found; 0 is a miss
		of       key
		floor    uint64
		verdicts string
	}{
		{"the last one", stays, 10, stays, 10, ""},
		{"the one under way", stays, 11, stays, 10, ""},
		{"an older one", stays, 9, stays, 10, "older"},
		{"a newer one than was to be seen at least", stays, 10, stays, 9, ""},
		{"one never written", stays, 20, stays, 10, "never written"},
		{"another key's", stays, 10, vanishes, 10, "another key's"},
		{"nothing", stays, 0, stays, 10, "missing"},
		{"nothing where others evict", vanishes, 0, vanishes, 10, ""},
		{"an older one where others evict", vanishes, 9, vanishes, 10, "older"},
	} {
		l := &ledger{}
		l.Floors[c.key.family][c.key.slot][c.key.n].Store(10)
		var found []byte
		if c.number > 0 {
			found = value{id: c.of.id(), number: c.number}.bytes()
		}
		if wrong := l.judge(c.key, found, c.number > 0, c.floor); wrong != c.verdicts && (c.verdicts == "" || !strings.HasPrefix(wrong, c.verdicts)) {
			t.Errorf("%s: %q, want %q", c.name, wrong, c.verdicts)
		}
	}
	l := &ledger{} // 11 is acknowledged, 12 deletes and is under way
	l.Floors[stays.family][stays.slot][stays.n].Store(11)
	if wrong := l.judge(stays, nil, false, 11); wrong != "" || l.floor(stays) != 12 {
		t.Errorf("a deletion that was seen: %q, floor %d", wrong, l.floor(stays))
	}
	if wrong := l.judge(stays, value{id: stays.id(), number: 11}.bytes(), true, l.floor(stays)); !strings.HasPrefix(wrong, "older") {
		t.Errorf("what came back: %q", wrong)
	}
}

func TestJudgeChain_TwoLinksInOnePlace_FoundOut(t *testing.T) {
	l, k := &ledger{}, key{family: chain, n: 1}
	for number := uint64(1); number <= 3*links; number++ {
		v := value{id: k.id(), writer: number, number: number, before: number - 1}
		if wrong := l.link(k, v); wrong != "" {
			t.Fatal(wrong)
		}
	}
	last := value{id: k.id(), writer: 3 * links, number: 3 * links, before: 3*links - 1}
	if _, wrong := l.judgeChain(k, last.bytes(), true, 0); wrong != "" {
		t.Error(wrong)
	}
	last.before = 7
	if _, wrong := l.judgeChain(k, last.bytes(), true, 0); !strings.Contains(wrong, "follows") {
		t.Errorf("another one before: %q", wrong)
	}
	last.writer, last.before = 8, 3*links-1
	if _, wrong := l.judgeChain(k, last.bytes(), true, 0); !strings.HasPrefix(wrong, "two swaps") {
		t.Errorf("another one in its place: %q", wrong)
	}
}
