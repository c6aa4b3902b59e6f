package main

import (
	"slices"
	"strings"
	"testing"
)

func TestKeys_TagsNamespacesHashes_OneLineEach(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	b.run("set", "c", "plain", "value").exits(0)
	b.run("set", "c", "tagged\n", "v", "--tag", "7", "--ttl", "1h").exits(0)
	b.run("set", "c", "--hash", "255", "v").exits(0)
	b.run("set", "c", "inner", "vv", "--namespace", "ns", "--tag", "7").exits(0)

	list := func(args ...string) (names []string) {
		out := b.run(append([]string{"keys", "c"}, args...)...).exits(0).out
		for line := range strings.Lines(out) {
			names = append(names, line[:strings.IndexByte(line, '\t')])
		}
		slices.Sort(names)
		return names
	}
	for args, want := range map[string][]string{
		"":               {`"tagged\n"`, "0x00000000000000ff", "plain"},
		"--tag 7":        {`"tagged\n"`},
		"--tag 8":        nil,
		"--namespace ns": {"inner"},

		"--namespace ns --tag 7": {"inner"},
		"--namespace ns --tag 1": nil,
		"--namespace none":       nil,
	} {
		if got := list(strings.Fields(args)...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	var one listedKeyJSON
	b.run("keys", "c", "--namespace", "ns", "--json").exits(0).decode(&one)
	if *one.Key.Text != "inner" || one.Bytes != 2 || one.Tag != 7 || one.TTL != 0 || one.ByHash {
		t.Errorf("%+v", one)
	}

	b.run("get", "c", "inner").exits(exitNegative)
	if o := b.run("get", "c", "inner", "--namespace", "ns").exits(0); o.out != "vv" {
		t.Error(o.out)
	}
	b.run("evict", "c", "--tag", "7").exits(0).says("2 evicted")
	b.run("get", "c", "inner", "--namespace", "ns").exits(exitNegative).warns(`of namespace "ns"`)
	b.run("evict", "c", "--tag", "7", "--older-than", "1s").exits(exitUsage)
	b.run("get", "c", "7", "--hash", "--namespace", "ns").exits(exitUsage)
}

func TestSet_IfAbsent_OnceThenNegative(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	var out setJSON
	b.run("set", "c", "lock", "first", "--if-absent", "--json").exits(0).decode(&out)
	if !out.Set {
		t.Errorf("%+v", out)
	}
	b.run("set", "c", "lock", "second", "--if-absent").exits(exitNegative).warns("is there already")
	b.run("set", "c", "lock", "second", "--if-absent", "--json").exits(exitNegative).decode(&out)
	if o := b.run("get", "c", "lock"); out.Set || o.out != "first" {
		t.Errorf("%+v, %s", out, o.out)
	}
	b.run("set", "c", "--namespace", "ns", "lock", "other", "--if-absent").exits(0)
	b.run("set", "c", "k", "v", "--if-absent", "--tag", "1").exits(exitUsage)
	b.run("set", "c", "k", "v", "--stale-for", "-1s").exits(exitUsage)
}

func TestIncr_Sums_OtherValuesRefused(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	for _, step := range []struct{ args, want string }{
		{"", "1"}, {"41", "42"}, {"-- -2", "40"},
	} {
		if o := b.run(append([]string{"incr", "c", "n"}, strings.Fields(step.args)...)...).exits(0); o.out != step.want+"\n" {
			t.Errorf("%s: %q", step.args, o.out)
		}
	}
	var out countedJSON
	b.run("incr", "c", "m", "--initial", "100", "--ttl", "1h", "--json").exits(0).decode(&out)
	if out.Count != 101 || *out.Key.Text != "m" {
		t.Errorf("%+v", out)
	}
	b.run("ttl", "c", "m").exits(0).says("59m")
	b.run("incr", "c", "m", "9223372036854775807").exits(exitError).warns("overflow")
	b.run("set", "c", "text", "text").exits(0)
	b.run("incr", "c", "text").exits(exitError).warns("not a counter", "flagstone del c")
	b.run("incr", "c", "n", "much").exits(exitUsage)
}

func TestTTLTouch_FoundOrNot(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	b.run("ttl", "c", "k").exits(exitNegative).warns("is not there")
	b.run("touch", "c", "k", "--ttl", "1h").exits(exitNegative)
	b.run("set", "c", "k", "v").exits(0)
	b.run("ttl", "c", "k").exits(0).says("forever")
	b.run("touch", "c", "k", "--ttl", "1h").exits(0).says("1h0m0s")
	b.run("touch", "c", "k").exits(exitUsage).warns("ttl")
	b.run("touch", "c", "k", "--ttl", "-1h").exits(exitUsage)
	var out ttlJSON
	b.run("ttl", "c", "k", "--json").exits(0).decode(&out)
	if !out.Found || out.TTL <= 0 || out.TTL > 3600e3 {
		t.Errorf("%+v", out)
	}
	b.run("touch", "c", "k", "--ttl", "0").exits(0)
	b.run("ttl", "c", "k", "--json").exits(0).decode(&out)
	if !out.Found || out.TTL != 0 {
		t.Errorf("%+v", out)
	}
	b.run("ttl", "c", "none", "--json").exits(exitNegative).decode(&out)
	if out.Found {
		t.Errorf("%+v", out)
	}
}
