//go:build linux

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/step"
)

// Every command once, with its answer: DIR is the directory, a word * is any word, a
// word VERSION what the last answer that had one said.
var every = []struct{ command, answer string }{
	{"hello", "ok flagstone-conformance 1 go full 1 0 *"},
	{"get 61", "err closed"},
	{"open DIR x entries=64 cell=64 maxkey=64 maxvalue=64 shards=1 regions=4 order=lru full=evict stamp=0 wake=futex steward=0 promote=1 group=0 create=1", "ok * 1"},
	{"open DIR x", "err options"},
	{"set 61 62 ttl=100000 tag=3 stale=5 wait=100", "ok *"},
	{"get 61", "ok 62 * * 5 3"},
	{"peek 61", "ok 62 * * 5 3"},
	{"stale 61", "ok 62 * * 5 3 0"},
	{"add 61 63", "no"},
	{"add 62 -", "ok *"},
	{"scan", "ok 2|61 62 * * 5 3|62 - * 0 0 0"},
	{"replace 62 65", "ok *"},
	{"replace 6a 65", "no"},
	{"cas 62 1 66", "no"},
	{"cas 62 0 66", "no"},
	{"get @6e/61", "no"},
	{"set @6e/61 71 expiry=190288396800000", "ok *"},
	{"get @6e/61", "ok 71 * 190288396800000 0 0"},
	{"set #00000000000000ff 72", "ok *"},
	{"get #00000000000000ff", "ok 72 * 0 0 0"},
	{"batch 61 62 63", "ok 3|+ 62|+ 65|-"},
	{"batch 61 #00000000000000ff @6e/61 @6f/61", "ok 4|+ 62|+ 72|+ 71|-"},
	{"set 61 62 stale=65536", "err expiry"},
	{"touch 61 281474976710656", "err expiry"},
	{"touch 61 190288396800000", "ok"},
	{"touch 6a 0", "no"},
	{"incr 63 5 initial=-3", "ok 2"},
	{"incr 63 9223372036854775807", "err overflow"},
	{"incr 61 1", "err notcounter"},
	{"set 61 " + strings.Repeat("00", 65), "err valuetoolong"},
	{"set " + strings.Repeat("00", 65) + " -", "err keytoolong"},
	{"claim 61 1000", "ok value 62"},
	{"claim 70 60000", "ok claim *"},
	{"claim 70 60000", "ok held"},
	{"fill 70 2 71", "err claimlost"},
	{"fill 70 VERSION 71", "ok *"},
	{"claim 71 60000", "ok claim *"},
	{"release 71 VERSION", "ok"},
	{"release 71 VERSION", "err claimlost"},
	{"claim 71 60000", "ok claim *"},
	{"fail 71 VERSION 6f6f until=190288396800000", "ok"},
	{"claim 71 60000", "ok failed 6f6f"},
	{"fail 71 VERSION 6f6f", "err claimlost"},
	{"scan", "ok 6|#00000000000000ff 72 * 0 0 0"}, // the namespace's id is random, and its place
	{"del 62", "ok"},
	{"del 62", "no"},
	{"stat", "ok 1|0 * 7 * *"},
	{"check", "ok 0"},
	{"clearns 6e", "ok"},
	{"clearns 6e", "no"},
	{"rebuild", "ok"},
	{"repair", "ok 0"},
	{"evicttag 3", "ok 1"},
	{"evictnear 70 1", "ok 1"},
	{"evict 0 10", "ok 0"},
	{"evict 18446744073709551615 1", "ok 1"},
	{"clear", "ok 3"},
	{"dump", "ok 1|shard 0 0 0 0 * * 0"},
	{"set 61 62", "ok *"},
	{"dump", "ok 2|shard 0 0 1 1 * * 0|record main 61 0 62 * 0 0 0 * 0"},
	{"grow 7431 65536", "ok *"},
	{"refresh", "ok 2"},
	{"set 80 81 tier=1", "ok *"},
	{"add 80 81 tier=1", "unsupported"},
	{"age 1 0 18446744073709551615 5", "ok 1"},
	{"age 1 7 18446744073709551615 5", "err retired"},
	{"drain 1", "ok 0"},
	{"drain 0", "err options"},
	{"slab 6971 65536", "ok *"},
	{"slab 6971 65536", "err slabexists"},
	{"move - 6971 1", "ok 1"},
	{"move - - 1", "err options"},
	{"retire 6971", "ok"},
	{"retire 6971", "err noslab"},
	{"publish 70 4096", "ok *"},
	{"entries", "ok *"},
	{"peers", "ok 1|* 1 * 1 futex"},
	{"reap", "ok 0"},
	{"lock 20", "ok"},
	{"unlock 20", "ok"},
	{"unlock 20", "err notheld"},
	{"lock 99999", "err nomutex"},
	{"hold 61", "ok"},
	{"get 61", "*"},
	{"drop", "ok"},
	{"drop", "err notheld"},
	{"flags 5", "ok"},
	{"ring OWN 3", "ok"},
	{"await 3", "ok"},
	{"ring OWN 4", "ok"},
	{"await 3 wait=50", "err busy"},
	{"heard", "ok 16 *"},
	{"heard", "ok 0 *"},
	{"ring 99 4", "err options"},
	{"steward", "no"},
	{"lead", "ok"},
	{"steward", "ok OWN"},
	{"resign", "ok"},
	{"resign", "no"},
	{"now", "ok * *"},
	{"bogus", "unsupported"},
	{"fork", "unsupported"},
	{"get 61 bogus=1", "unsupported"},
	{"get", "err options"},
	{"get zz", "err options"},
	{"get #12", "err options"},
	{"set 61 62 ttl=x", "err options"},
	{"close", "ok"},
	{"close", "err closed"},
	{"open DIR x read=1", "ok - -"},
	{"peers", "ok 0"},
	{"set 61 62", "err readonly"},
	{"reap", "err readonly"},
	{"get 61", "*"},
	{"close", "ok"},
	{"open DIR x create=0 slab=6971", "err noslab"},
	{"open DIR nobody create=0", "err notfound"},
	{"list DIR", "ok 1|x"},
	{"gc DIR", "ok 1"},
	{"list DIR", "ok 0"},
	{"open DIR x order=s3fifo full=refuse entries=600 shards=1 wake=signal", "ok * 1"},
	{"destroy DIR x", "ok"},
	{"get 61", "err destroyed"},
	{"destroy DIR x", "err notfound"},
}

func TestTestee_EveryCommand_Answered(t *testing.T) {
	dir := t.TempDir()
	s := &session{}
	defer func() { _ = s.leave() }()
	version, own := "", ""
	used := map[string]bool{}
	for _, c := range every {
		command := strings.NewReplacer(" DIR", " "+dir, " VERSION", " "+version, " OWN", " "+own).Replace(c.command)
		name, _ := parse(command)
		used[name] = true
		a := s.do(command)
		got := strings.Join(append([]string{strings.Join(a.words, " ")}, a.rows...), "|")
		want := strings.ReplaceAll(regexp.QuoteMeta(strings.ReplaceAll(c.answer, "OWN", own)), `\*`, `\S+`)
		if strings.HasPrefix(c.answer, "err ") {
			want += " .*"
		}
		if c.answer == "*" {
			want = ".*"
		}
		if name == "entries" || name == "scan" {
			want += `(\|.*)?`
		}
		if !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%s: %s, want %s", c.command, got, c.answer)
		}
		switch {
		case name == "open" && a.words[0] == "ok":
			own = a.words[1]
		case name == "claim" && a.words[1] == "claim":
			version = a.words[2]
		}
	}
	for name := range commands {
		if !used[name] && name != "crash" && name != "crashafter" {
			t.Errorf("%s is not tried", name)
		}
	}
}

// What is written comes line by line, and the end of the input is the end.
func TestServe_EndOfInput_Closes(t *testing.T) {
	var out bytes.Buffer
	in := fmt.Sprintf("open %s x entries=8 cell=64 maxkey=8 maxvalue=40\nset 61 62\nscan\n", t.TempDir())
	if err := serve(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 5 || lines[2] != "ok 1" || !strings.HasPrefix(lines[3], "61 62 ") {
		t.Errorf("%q", lines)
	}
}

// Without the build tag nobody is promised a crash at a store.
func TestCrashAfter_NoHook_Unsupported(t *testing.T) {
	s := &session{}
	if a := s.do("crashafter 0"); (a.words[0] == "ok") != step.On {
		t.Errorf("%v with steps %v", a.words, step.On)
	}
}
