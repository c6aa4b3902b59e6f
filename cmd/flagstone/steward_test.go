package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

func TestMove_OldOnes_InTheOtherSlab(t *testing.T) {
	b := newBench(t)
	crowded(b, "c", 10)
	b.run("move", "c", "primary", "tier1", "--older-than", "1h").exits(0).says("0 records moved", "earlier than --older-than may stay", "1.03s")
	// What was used a moment ago stays: again until all are older.
	moveAll := func(from, to string, records int) {
		t.Helper()
		for deadline := time.Now().Add(patience); records > 0 && time.Now().Before(deadline); {
			var out movedJSON
			b.run("move", "c", from, to, "--limit", fmt.Sprint(records), "--json", "--progress").exits(0).decode(&out)
			if records -= out.Moved; out.Stayed || fmt.Sprint(out.From.Tier, " ", out.To.Tier) != from+" "+to {
				t.Errorf("%+v", out)
			}
		}
		if records != 0 {
			t.Errorf("%d records to be moved", records)
		}
	}
	moveAll("0", "1", 4)
	if st := b.stat("c"); st.Tiers[0].Records != 6 || st.Tiers[1].Records != 4 || st.Tiers[1].MovedIn != 4 {
		t.Errorf("%+v", st.Tiers)
	}
	for i := range 10 {
		b.run("get", "c", fmt.Sprint("key", i)).exits(0).says(fmt.Sprint("value", i))
	}
	moveAll("1", "0", 4)
	b.run("move", "c", "0", "0").exits(exitUsage)
	b.run("move", "c", "0", "9").exits(exitError).warns("no such slab", "flagstone stat c")
	b.run("move", "c", "0", "1", "--limit", "-1").exits(exitUsage)
}

func TestMove_TargetRefuses_ExitsOneAndSaysHowMany(t *testing.T) {
	b := newBench(t)
	crowded(b, "c", 18, "small", "--entries", "5", "--on-full", "refuse")
	var o outcome
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if o = b.run("move", "c", "primary", "small", "--json"); o.code != 0 {
			break
		}
	}
	var out movedJSON
	o.exits(exitNegative).warns("stay in primary", "flagstone stat c").decode(&out)
	if st := b.stat("c"); !out.Stayed || st.Tiers[1].Records < 5 || st.Tiers[0].Records+st.Tiers[1].Records != 18 {
		t.Errorf("%+v, %+v", out, st.Tiers)
	}
	b.run("check", "c").exits(0)
}

func TestSteward_KilledThenAnother_LeadsAndEnds(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "20", "--shards", "1", "--max-key", "16", "--max-value", "64").exits(0)
	watcher := b.start("watch", "c", "--json")
	first := b.start("steward", "c", "--json", "--keep-for", "1h")
	if e := watcher.await("steward"); e.Steward == nil || int(e.Steward.Pid) != first.cmd.Process.Pid {
		t.Fatalf("%+v", e)
	}
	first.awaitSteward("steward")
	second := b.start("steward", "c", "--json", "--keep-for", "1h")
	if e := second.awaitSteward("waiting"); e.Steward == nil || int(e.Steward.Pid) != first.cmd.Process.Pid {
		t.Errorf("%+v", e)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second.awaitSteward("steward")
	for i := range 30 {
		b.run("set", "c", fmt.Sprint("key", i), "v").exits(0)
	}
	if e := second.awaitSteward("grew"); e.Slab == nil || e.Slab.Tier != 1 {
		t.Errorf("%+v", e)
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.cmd.Wait(); err != nil {
		t.Error(err)
	}
	b.run("steward", "c", "--keep-for", "-1s").exits(exitUsage)
	b.run("steward", "nope").exits(exitError).warns("flagstone create nope")
}

// awaitSteward returns the next line of that kind, of a --json steward.
func (g *background) awaitSteward(kind string) (e stewardJSON) {
	g.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				g.Fatalf("ended without %q", kind)
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				g.Fatalf("%s: %v", line, err)
			}
			if e.Event == kind {
				return e
			}
		case <-timeout:
			g.Fatalf("no %q", kind)
		}
	}
}

func TestSteward_Lines_SayHowAndWho(t *testing.T) {
	for want, s := range map[string]stewardJSON{
		"heard by futex": newStewardLine(flagstone.Event{Kind: flagstone.EventSlabAdded, Slab: "cold", SlabID: 7, Tier: 1, How: flagstone.ByFutex}),
		"waiting: region 3 (pid 42) is the steward": {Event: waiting, Steward: &holderJSON{Region: 3, Pid: 42}},
	} {
		if text := s.text(); !strings.HasSuffix(text, want) {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

func TestHelp_Defaults_NoneEmpty(t *testing.T) {
	b := newBench(t)
	for _, command := range []string{"move", "steward", "grow", "drain", "evict", "create"} {
		if o := b.run(command, "--help").exits(0); strings.Contains(o.out, "(default )") {
			t.Errorf("%s:\n%s", command, o.out)
		}
	}
}
