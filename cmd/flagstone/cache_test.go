package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

func TestCreate_New_PrintsShape(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB", "--max-value", "1k", "--shards", "2").exits(0).
		says("created c", "capacity", "headroom", "file size", "shards     2 of")
	var made createdJSON
	b.run("create", "d", "--entries", "500", "--cell", "64", "--max-key", "16", "--max-value", "64", "--on-full", "refuse", "--order", "s3fifo", "--regions", "3", "--precision", "20ms", "--json").exits(0).decode(&made)
	s := made.Shape
	if !made.Created || made.Name != "d" || s.Capacity != 500 || s.CellSize != 64 || s.MaxKey != 16 || s.MaxValue != 64 || s.OnFull != "refuse" || s.Order != "s3fifo" || s.Regions != 3 || s.PrecisionMillis != 20 || len(made.Differences) != 0 {
		t.Errorf("%+v", made)
	}
	if got := uint64(s.Shards)*uint64(s.CellsPerShard) - s.Capacity; got != s.HeadroomCells {
		t.Errorf("headroom is %d, said to be %d", got, s.HeadroomCells)
	}
	if st, err := os.Stat(made.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Error(st, err)
	}
}

func TestCreate_Exists_ListsDifferencesAndExitsZero(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100").exits(0)
	b.run("create", "c", "--entries", "200", "--max-key", "9", "--on-full", "refuse", "--order", "s3fifo", "--regions", "7", "--precision", "1m").exits(0).
		says("c exists already", "--entries: asked for 200, found 100", "--max-key: asked for 9, found 1024",
			"--on-full: asked for refuse, found evict", "--order: asked for s3fifo, found lru", "--precision: asked for 1m0s, found 1s", "--regions: asked for 7, found 256")
	var again createdJSON
	b.run("create", "c", "--entries", "100", "--order", "lru", "--precision", "1s", "--json").exits(0).decode(&again)
	if again.Created || len(again.Differences) != 0 {
		t.Errorf("%+v", again)
	}
}

func TestCreate_ImpossibleOptions_ExitsTwoOrThree(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{
		{"c", "--size", "1KiB"},
		{"c", "--size", "1XB"},
		{"c", "--size", "99999999999999999999"},
		{"c", "--size", "99999999TiB"},
		{"c", "--cell", "65"},
		{"c", "--shards", "3"},
		{"c", "--size", "1MiB", "--entries", "5"},
		{"c", "--on-full", "panic"},
		{"c", "--order", "fifo"},
		{"c", "--regions", "5000"},
		{"c", "--precision", "2h"},
		{"c", "--precision", "1us"},
		{"c", "--precision", "-1s"},
		{"c", "--precision", "1"},
		{".c"},
		{},
	} {
		b.run(append([]string{"create"}, args...)...).exits(exitUsage).warns("see `flagstone create --help`")
	}
	b.run("create", "c", "--size", "4096TiB").exits(exitError).warns("bytes needed", "free", "ask for less")
}

func TestLs_CachesAndBrokenOnes_OneRowEach(t *testing.T) {
	b := newBench(t)
	if out := b.run("ls", "--json").exits(0).out; strings.TrimSpace(out) != "[]" {
		t.Errorf("empty: %q", out)
	}
	b.run("create", "good", "--entries", "100").exits(0)
	b.run("set", "good", "key", "value").exits(0)
	var bad createdJSON
	b.run("create", "bad", "--entries", "100", "--json").exits(0).decode(&bad)
	if err := os.WriteFile(filepath.Join(bad.Path, "control"), make([]byte, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("ls").exits(0).says("NAME", "good  0          1        100", "bad", "control")
	var all []listedJSON
	b.run("ls", "--json").exits(0).decode(&all)
	if len(all) != 2 || all[0].Name != "bad" || all[0].Error == "" ||
		all[1].Name != "good" || all[1].Processes != 0 || all[1].Records != 1 || all[1].Capacity != 100 || all[1].Bytes != 8 || all[1].Error != "" {
		t.Errorf("%+v", all)
	}
	b.run("get", "bad", "k").exits(exitError).warns("control", "flagstone destroy bad")
	b.run("destroy", "bad").exits(0)
	b.run("ls", "--dir", b.dir+"/none").exits(exitError)
}

func TestGetSetDel_Roundtrip_AnyBytes(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	binary := "\x00\xff\n\r\x00 value"
	for _, key := range [][]string{{"text"}, {""}, {"\xff\xfe"}, {"--hex", "00ff0a"}, {"--hex", ""}, {"--hash", "0x0"}, {"--hash", "18446744073709551615"}} {
		with := func(verb string, rest ...string) []string {
			return append(append([]string{verb, "c"}, key...), rest...)
		}
		b.run(with("del")...).exits(exitNegative).warns("was not there")
		b.run(with("get")...).exits(exitNegative).warns("is not there")
		b.feed(binary, with("set", "-")...).exits(0)
		if o := b.run(with("get")...).exits(0); o.out != binary {
			t.Errorf("%q: %q", key, o.out)
		}
		b.feed("short", with("set")...).exits(0)
		if o := b.run(with("get")...).exits(0); o.out != "short" {
			t.Errorf("%q: %q", key, o.out)
		}
		b.run(with("set", "")...).exits(0)
		if o := b.run(with("get")...).exits(0); o.out != "" {
			t.Errorf("%q: %q", key, o.out)
		}
		b.run(with("del")...).exits(0)
	}
}

func TestGetSetDel_JSON_TextOnlyIfUTF8(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--size", "1MiB").exits(0)
	var set setJSON
	b.feed("\xff\x00", "set", "c", "k", "--ttl", "1h", "--json").exits(0).decode(&set)
	if set.Bytes != 2 || set.TTL != 3600000 || *set.Key.Text != "k" {
		t.Errorf("%+v", set)
	}
	var got gotJSON
	b.run("get", "c", "k", "--json").exits(0).decode(&got)
	if !got.Found || string(got.Value.Base64) != "\xff\x00" || got.Value.Text != nil || got.Hash != nil {
		t.Errorf("%+v", got)
	}
	got = gotJSON{}
	b.run("get", "c", "--hash", "7", "--json").exits(exitNegative).decode(&got)
	if got.Found || got.Value != nil || *got.Hash != 7 {
		t.Errorf("%+v", got)
	}
	var deleted deletedJSON
	b.run("del", "c", "k", "--json").exits(0).decode(&deleted)
	if !deleted.Deleted {
		t.Errorf("%+v", deleted)
	}
	b.run("del", "c", "k", "--json").exits(exitNegative).decode(&deleted)
	if deleted.Deleted {
		t.Errorf("%+v", deleted)
	}
}

func TestErrors_CodesAndAdvice(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "4", "--max-value", "100", "--max-key", "8", "--on-full", "refuse").exits(0)
	b.run("get", "nope", "k").exits(exitError).warns("nope", "flagstone create nope", "--dir")
	b.run("destroy", "nope").exits(exitError).warns("no such domain", "flagstone ls")
	b.run("set", "c", "k", strings.Repeat("v", 101)).exits(exitError).warns("101 bytes", "100", "--max-value")
	b.feed(strings.Repeat("v", 10000), "set", "c", "k", "-").exits(exitError).warns("--max-value")
	b.run("set", "c", "123456789", "v").exits(exitError).warns("9 bytes", "--max-key")
	b.run("set", "c", "k", "v", "--ttl", "-1s").exits(exitUsage)
	for _, key := range []string{"1", "2", "3", "4"} {
		b.run("set", "c", key, "v").exits(0)
	}
	b.run("set", "c", "5", "v").exits(exitError).warns("full", "flagstone evict c")
	if code := b.run("get", "c", "1", "--hash", "--hex").code; code != exitUsage {
		t.Error(code)
	}
	b.run("get", "c", "x", "--hash").exits(exitUsage)
	b.run("get", "c", "x", "--hex").exits(exitUsage)
	b.run("nonsense").exits(exitUsage).warns("unknown command")
	b.run("get", "c").exits(exitUsage)
	b.run("get", "c", "k", "--nope").exits(exitUsage)
	b.run("evict", "c", "--max", "1").exits(exitUsage).warns("older-than")
	b.run("evict", "c", "--max", "-1", "--older-than", "1s").exits(exitUsage)
	b.run().exits(0).says("Exit codes")

	o := b.run("get", "nope", "k", "--json").exits(exitError)
	var said struct {
		Error, Advice string
		Exit          int
	}
	if err := json.Unmarshal([]byte(o.errs), &said); err != nil || said.Exit != exitError || said.Error == "" || said.Advice == "" {
		t.Error(o.errs, err)
	}
}

func TestEvict_All_PrintsHashesOrRecords(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100").exits(0)
	fill := func() {
		for _, key := range []string{"a", "b\x01", "c"} {
			b.run("set", "c", key, "value of "+key).exits(0)
		}
		b.run("set", "c", "--hash", "255", "by hash").exits(0)
	}
	fill()
	var out evictedJSON
	b.run("evict", "c", "--older-than", "1h", "--max", "9", "--json").exits(0).decode(&out)
	if out.Count != 0 || len(out.Hashes) != 0 {
		t.Errorf("%+v", out)
	}
	// What was used within the clock's slack stays; a process takes longer to start.
	var hashes []hex
	for len(hashes) < 4 {
		b.run("evict", "c", "--older-than", "0", "--max", "3", "--json").exits(0).decode(&out)
		if out.Count != len(out.Hashes) || out.Count > 3 {
			t.Fatalf("%+v", out)
		}
		hashes = append(hashes, out.Hashes...)
	}
	slices.Sort(hashes)
	if len(slices.Compact(hashes)) != 4 || !slices.Contains(hashes, 255) {
		t.Errorf("%v", hashes)
	}
	fill()
	text := ""
	for strings.Count(text, " idle ") < 4 {
		text += b.run("evict", "c", "--older-than", "0", "--max", "9", "--values").exits(0).says("evicted").out
	}
	for _, want := range []string{`"a"`, `"value of a"`, `"b\x01"`, `0x00000000000000ff  "by hash"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	fill()
	var records []pairJSON
	for len(records) < 4 {
		var out evictedJSON
		b.run("evict", "c", "--older-than", "0", "--max", "9", "--values", "--json").exits(0).decode(&out)
		records = append(records, out.Records...)
	}
	for _, r := range records {
		if r.ByHash != (r.Key == nil) || r.ByHash != (r.Hash == 255) || r.Key != nil && *r.Value.Text != "value of "+*r.Key.Text {
			t.Errorf("%+v", r)
		}
	}
}

func TestStat_SetsAndProcesses_Shown(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100").exits(0)
	b.run("set", "c", "key", "value").exits(0)
	holder := b.hold("c")
	b.run("stat", "c").exits(0).says("capacity", "headroom", "records     1 in 1 of", "REGION", "ENTRY", "slab", "primary", "open")
	var st statJSON
	b.run("stat", "c", "--json").exits(0).decode(&st)
	if st.Name != "c" || st.Content.Records != 1 || st.Content.Sets != 1 || st.Content.Bytes != 8 || len(st.Locks) != 0 ||
		len(st.Entries) != 1 || st.Entries[0].State != "open" || st.Entries[0].Size != st.Shape.FileSize {
		t.Errorf("%+v", st)
	}
	if len(st.Regions) != 1 || st.Regions[0].Pid != uint32(holder.cmd.Process.Pid) || !st.Regions[0].Alive ||
		st.Regions[0].Wake == "" || !slices.Equal(st.Regions[0].Mapped, []hex{st.Entries[0].Segment}) {
		t.Errorf("%+v", st.Regions)
	}
}

func TestCheck_SoundAndDamaged_ExitsZeroAndOne(t *testing.T) {
	b := newBench(t)
	var made createdJSON
	b.run("create", "c", "--entries", "100", "--shards", "1", "--json").exits(0).decode(&made)
	b.run("set", "c", "key", "value").exits(0)
	b.run("check", "c").exits(0).says("c is sound")
	var sound, damaged checkedJSON
	b.run("check", "c", "--json").exits(0).decode(&sound)
	if !sound.Sound || len(sound.Problems) != 0 {
		t.Errorf("%+v", sound)
	}
	// The index, emptied behind the cache's back.
	slabs, err := filepath.Glob(filepath.Join(made.Path, "slab-*"))
	if err != nil || len(slabs) != 1 {
		t.Fatal(slabs, err)
	}
	f, err := os.OpenFile(slabs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buckets := (made.Shape.CellsPerShard + layout.RecordsPerBucket - 1) / layout.RecordsPerBucket
	if _, err := f.WriteAt(make([]byte, buckets*layout.SizeBucket), layout.PageSize+layout.SizeShard); err != nil {
		t.Fatal(err)
	}
	b.run("check", "c").exits(exitNegative).says("shard 0").warns("problems")
	b.run("check", "c", "--json").exits(exitNegative).decode(&damaged)
	if damaged.Sound || len(damaged.Problems) == 0 {
		t.Errorf("%+v", damaged)
	}
}

func TestDestroy_InUse_GoneAndUserTold(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "10").exits(0)
	b.run("create", "d", "--entries", "10").exits(0)
	watcher := b.start("watch", "c", "--json")
	watcher.await("published")
	b.run("destroy", "c").exits(0).says("destroyed c")
	watcher.await("destroyed")
	if err := watcher.cmd.Wait(); err != nil {
		t.Error(err)
	}
	var gone destroyedJSON
	b.run("destroy", "d", "--json").exits(0).decode(&gone)
	if !gone.Destroyed || gone.Name != "d" {
		t.Errorf("%+v", gone)
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

func TestVersionAndCompletion_Print(t *testing.T) {
	b := newBench(t)
	b.run("version").exits(0).says("flagstone", "layout")
	var v versionJSON
	b.run("version", "--json").exits(0).decode(&v)
	if v.Fingerprint != layout.Fingerprint || v.Go == "" {
		t.Errorf("%+v", v)
	}
	b.run("completion", "bash").exits(0).says("flagstone")
	b.run("create", "complete-me", "--entries", "10").exits(0)
	b.run("__complete", "--dir", b.dir, "get", "").exits(0).says("complete-me")
}
