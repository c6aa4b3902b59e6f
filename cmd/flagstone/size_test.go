package main

import (
	"fmt"
	"strings"
	"testing"
)

// What size says is what create makes.
func TestSize_SameShapeAsCreate(t *testing.T) {
	b := newBench(t)
	for i, flags := range []string{
		"--entries 1000",
		"--entries 5000 --cell 64 --max-key 16 --max-value 64 --shards 4",
		"--size 2MiB --precision 5ms",
		"--size 3MiB --max-value 1KiB --shards 2",
	} {
		var said sizedJSON
		var made createdJSON
		args := strings.Fields(flags)
		b.run(append([]string{"size", "--json"}, args...)...).exits(0).decode(&said)
		b.run(append([]string{"create", fmt.Sprint("c", i), "--json"}, args...)...).exits(0).decode(&made)
		if said.Shape != made.Shape {
			t.Errorf("%s: %+v, made %+v", flags, said.Shape, made.Shape)
		}
	}
}

func TestSize_RecordsOfSeveralCells_FitForSure(t *testing.T) {
	b := newBench(t)
	var out sizedJSON
	b.run("size", "--entries", "1000", "--key-size", "20", "--value-size", "200", "--json").exits(0).decode(&out)
	// 80 bytes in the first cell, 104 in each further one.
	if r := out.Record; r.Cells != 3 || r.Fit < 1000 || r.Fit > 1200 || out.Shape.Capacity < 3000 || r.KeySize != 20 {
		t.Errorf("%+v", out)
	}
	// As many as a cache of that capacity is said to take, and into one of that size too.
	var again sizedJSON
	b.run("size", "--entries", fmt.Sprint(out.Shape.Capacity), "--json").exits(0).decode(&again)
	if again.Shape != out.Shape {
		t.Errorf("%+v, want %+v", again.Shape, out.Shape)
	}
	b.run("size", "--size", fmt.Sprint(out.Shape.FileSize), "--key-size", "20", "--value-size", "200", "--json").exits(0).decode(&again)
	if again.Record.Fit < 1000 {
		t.Errorf("%+v", again)
	}
	// One record of many cells in many shards: each needs room for all of them.
	b.run("size", "--entries", "3", "--shards", "64", "--value-size", "60k", "--json").exits(0).decode(&out)
	if out.Record.Fit < 3 || out.Shape.Shards != 64 {
		t.Errorf("%+v", out)
	}
	b.run("size", "--size", "64MiB", "--value-size", "100k").exits(0).says("capacity", "headroom", "payload"[:0], "fit", "102400 bytes")
}

func TestSize_Impossible_ExitsTwo(t *testing.T) {
	b := newBench(t)
	for _, args := range []string{
		"", "--size 1MiB --entries 5", "--size 1KiB", "--entries 5 --cell 65", "--entries 5 --shards 3",
		"--entries 5 --value-size 2k --max-value 1k", "--entries 99999999999999", "--entries 5 --value-size 2GiB",
		"--entries 5 --key-size 1MiB", "--size 1MiB --precision 2h", "--size 1MiB --precision 1us", "--size 1MiB extra",
	} {
		b.run(append([]string{"size"}, strings.Fields(args)...)...).exits(exitUsage)
	}
}
