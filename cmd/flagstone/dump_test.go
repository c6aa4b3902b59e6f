package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDump_ControlAndSlab_TextAndJSONLines(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "100", "--shards", "2").exits(0)
	b.run("set", "c", "key", "some value").exits(0)
	b.run("dump", "c").exits(0).says("header: ControlHeader at 0x0", "Fingerprint", "as expected", "# ControlMagic", "entry 0: Entry at", "open, generation 0")
	b.run("dump", "c", "primary").exits(0).says("header: SlabHeader at 0x0", "shard 0: Shard at 0x1000", "shard 1: Shard at")
	text := b.run("dump", "c", "primary", "--cells", "all", "--hex").exits(0).
		says("CellHeader at", `"key"`, `"some value"`, "[0a 00 00 00]", "live, sequence 1", "# bytes of the value").out
	if strings.Contains(text, "ControlMagic") || strings.Contains(text, "header:") || strings.Count(text, "CellHeader") != 1 {
		t.Error("more than was chosen:", text)
	}
	structs := map[string]int{}
	d := json.NewDecoder(strings.NewReader(b.run("dump", "c", "primary", "--shards", "1", "--cells", "1..3", "--buckets", "0", "--json").exits(0).out))
	d.DisallowUnknownFields()
	for d.More() {
		var s sectionJSON
		if err := d.Decode(&s); err != nil {
			t.Fatal(err)
		}
		structs[s.Struct]++
		if !strings.HasPrefix(s.Name, "shard 1 ") || len(s.Fields) == 0 {
			t.Errorf("%+v", s)
		}
	}
	if fmt.Sprint(structs) != "map[Bucket:1 CellHeader:3]" {
		t.Errorf("%v", structs)
	}
}

func TestDump_Refused_ShowsAndExitsThree(t *testing.T) {
	b := newBench(t)
	var made createdJSON
	b.run("create", "c", "--entries", "100", "--json").exits(0).decode(&made)
	b.run("dump", "nope").exits(exitError).warns("flagstone create nope")
	b.run("dump", "c", "1234").exits(exitUsage).warns("there are control slab-")
	b.run("dump", "c", "primary", "--cells", "0").exits(exitUsage).warns("no shard 0 cell 0", "from 1 on")
	b.run("dump", "c", "--regions", "7-9").exits(exitUsage).warns("N..M")
	control := filepath.Join(made.Path, "control")
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{9}, 64); err != nil { // the number of regions
		t.Fatal(err)
	}
	b.run("dump", "c").exits(exitError).says("Regions", "0x109", "expected 0x").warns("header checksum is wrong", "flagstone destroy c")
	b.run("dump", "c", "primary").exits(0) // does not need it
	if err := os.Remove(control); err != nil {
		t.Fatal(err)
	}
	b.run("dump", "c").exits(exitError).warns("control")
	if err := os.Mkdir(control, 0o700); err != nil {
		t.Fatal(err)
	}
	b.run("dump", "c").exits(exitError).warns("not a regular file")
}

func TestStat_Evictions_ByReason(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "4", "--shards", "1", "--max-key", "8", "--max-value", "40").exits(0)
	for i := range 20 {
		b.run("set", "c", fmt.Sprint("k", i), "v", "--tag", fmt.Sprint(i%2)).exits(0)
	}
	b.run("evict", "c", "--tag", "1").exits(0)
	var st statJSON
	b.run("stat", "c", "--json").exits(0).decode(&st)
	e := st.Evictions
	if st.Content.Sets != 20 || e.Full == 0 || e.Tag == 0 || e.Full+e.Tag+st.Content.Records != 20 || e.Cutoff != 0 || st.Repairs != (repairsJSON{}) {
		t.Errorf("%+v", st)
	}
	b.run("stat", "c").exits(0).says("unused when full", "on average", fmt.Sprintf("%d by tag", e.Tag), "ALL PROCESSES")
}
