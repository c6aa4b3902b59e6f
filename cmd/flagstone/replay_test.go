package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// raceDetector is set in builds with it, where millions of requests take minutes.
var raceDetector bool

// writeTrace writes requests cycling over keys 0 to unique-1, in every format.
func writeTrace(t *testing.T, requests, unique int) (u64, gz, lines string) {
	t.Helper()
	var words, text, zipped bytes.Buffer
	for i := range requests {
		text.WriteString(fmt.Sprintf("key number %d\n", i%unique))
		words.Write(binary.LittleEndian.AppendUint64(nil, uint64(i%unique)))
	}
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(words.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("t.u64", words.Bytes()), write("t.u64.gz", zipped.Bytes()), write("t.txt", text.Bytes())
}

func TestReplay_AllFormatsAndProcesses_ExactCounts(t *testing.T) {
	b := newBench(t)
	u64, gz, lines := writeTrace(t, 2000, 100)
	for _, args := range [][]string{
		{u64},
		{gz, "--procs", "2"},
		{lines, "--procs", "2", "--share", "contiguous"},
		{u64, u64, "--limit", "2000", "--format", "u64"},
	} {
		var out replayJSON
		b.run(append([]string{"replay", "--capacity", "100%", "--json"}, args...)...).exits(0).decode(&out)
		if out.Requests != 2000 || out.Unique != 100 || len(out.Runs) != 1 {
			t.Fatalf("%q: %+v", args, out)
		}
		run := out.Runs[0]
		// Processes may both miss a key before either has stored it.
		misses := run.Requests - run.Hits
		if run.Requests != 2000 || misses < 100 || misses > uint64(100*out.Procs) || run.Records != 100 || run.Evictions != 0 || len(run.WorkerResults) != out.Procs {
			t.Errorf("%q: %+v", args, run)
		}
		for _, w := range run.WorkerResults {
			if w.Requests != 2000/uint64(out.Procs) {
				t.Errorf("%q: %+v", args, run.WorkerResults)
			}
		}
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestReplay_CycleOneLongerThanCache_LRUNeverHits(t *testing.T) {
	b := newBench(t)
	u64, _, _ := writeTrace(t, 1010, 101)
	var out replayJSON
	b.run("replay", u64, "--capacity", "100,101", "--shards", "1", "--json").exits(0).decode(&out)
	if r := out.Runs[0]; r.Hits != 0 || r.Evictions != 1010-100 || r.Records != 100 || r.Room != 100 {
		t.Errorf("100: %+v", r)
	}
	if r := out.Runs[1]; r.Hits != 1010-101 || r.Evictions != 0 || r.Records != 101 {
		t.Errorf("101: %+v", r)
	}
}

func TestReplay_Exact_RoomIsCapacity(t *testing.T) {
	b := newBench(t)
	u64, _, _ := writeTrace(t, 5000, 2500)
	var out replayJSON
	b.run("replay", u64, "--capacity", "512", "--shards", "4", "--exact", "--json").exits(0).decode(&out)
	if r := out.Runs[0]; r.Room != 512 || r.Records != 512 || r.Shape.Shards != 4 {
		t.Errorf("%+v", r)
	}
	b.run("replay", u64, "--capacity", "513", "--shards", "4", "--exact").exits(exitUsage).warns("multiple of the shards")
}

func TestReplay_HumanTableAndProgress(t *testing.T) {
	b := newBench(t)
	u64, _, _ := writeTrace(t, 2000, 100)
	b.run("replay", u64, "--capacity", "10,50%").exits(0).says("requests", "unique keys", "CAPACITY", "50%", "NS/REQUEST")
	b.run("replay", u64, "--capacity", "10", "--progress").exits(0).warns("replayed")
}

func TestReplay_BadInput_CodesAndNothingLeft(t *testing.T) {
	b := newBench(t)
	u64, gz, lines := writeTrace(t, 200, 100)
	cut := filepath.Join(t.TempDir(), "cut")
	if err := os.WriteFile(cut, []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		warn string
		args []string
	}{
		{exitUsage, "capacity", []string{u64}},
		{exitUsage, "bad capacity", []string{u64, "--capacity", "0"}},
		{exitUsage, "bad capacity", []string{u64, "--capacity", "NaN%"}},
		{exitUsage, "unknown trace format", []string{u64, "--capacity", "5", "--format", "csv"}},
		{exitUsage, "--procs", []string{u64, "--capacity", "5", "--procs", "0"}},
		{exitUsage, "--policy", []string{u64, "--capacity", "5", "--policy", "fifo"}},
		{exitUsage, "--share", []string{u64, "--capacity", "5", "--share", "x"}},
		{exitUsage, "shards", []string{u64, "--capacity", "5", "--shards", "3"}},
		{exitUsage, "arg", []string{"--capacity", "5"}},
		{exitError, "request 1: trace ends within a key: 1 bytes, want 8", []string{cut, "--capacity", "5"}},
		{exitError, "no requests", []string{empty, "--capacity", "5"}},
		{exitError, "no such file", []string{u64 + "x", "--capacity", "5"}},
		{exitError, "within a key", []string{lines, u64, "--capacity", "5", "--format", "u64", "--limit", "99999"}},
		{exitError, "gzip", []string{gz[:len(gz)-len(".u64.gz")] + ".gz", "--capacity", "5"}},
	} {
		if c.warn == "gzip" { // a name that promises what the file is not
			if err := os.WriteFile(c.args[0], []byte("plain"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.run(append([]string{"replay"}, c.args...)...).exits(c.code).warns(c.warn)
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestReplay_InterruptedOrWorkerKilled_ErrorAndNothingLeft(t *testing.T) {
	for name, strike := range map[string]func(parent, worker int) error{
		"interrupted":   func(parent, _ int) error { return syscall.Kill(parent, syscall.SIGINT) },
		"worker killed": func(_, worker int) error { return syscall.Kill(worker, syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			// A pipe in the place of the trace: the worker waits in the second reading.
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			replay := b.start("replay", pipe, "--capacity", "5", "--format", "lines", "--json")
			feed := func(text string) *os.File {
				f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // until there is a reader
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(text); err != nil {
					t.Fatal(err)
				}
				return f
			}
			if err := feed("a\nb\n").Close(); err != nil {
				t.Fatal(err)
			}
			var all []listedJSON
			for len(all) == 0 || all[0].Error != "" || all[0].Processes < 2 {
				all = nil // decoding into used elements would keep an error that is over
				b.run("ls", "--json").exits(0).decode(&all)
			}
			defer feed("a\n").Close()
			var st statJSON
			b.run("stat", all[0].Name, "--json").exits(0).decode(&st)
			parent := replay.cmd.Process.Pid
			for _, r := range st.Regions {
				if int(r.Pid) != parent {
					if err := strike(parent, int(r.Pid)); err != nil {
						t.Fatal(err)
					}
				}
			}
			defer time.AfterFunc(patience, func() { _ = replay.cmd.Process.Kill() }).Stop()
			_ = replay.cmd.Wait() // the exit code says it
			if code := replay.cmd.ProcessState.ExitCode(); code != exitError {
				t.Errorf("exits with %d", code)
			}
			if left, err := os.ReadDir(b.dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// Hit ratios as other simulators count them, at 1% and 10% of the unique keys: of
// strict LRU, and of S3-FIFO with 32 relinks an eviction and ghosts of 16 bits.
func TestReplay_RealTraces_HitRatioOfTheOrder(t *testing.T) {
	dir := os.Getenv("FLAGSTONE_TRACES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "traces")
	}
	for _, c := range []struct {
		file             string
		requests, unique uint64
		lru, s3fifo      [2]float64
	}{
		{"web12.u64.gz", 95607, 13756, [2]float64{39.8, 68.5}, [2]float64{41.0, 72.2}},
		{"OLTP.u64.gz", 914145, 186880, [2]float64{41.6, 66.5}, [2]float64{46.5, 67.8}},
		{"orm-busy.u64.gz", 5000000, 76349, [2]float64{77.0, 88.0}, [2]float64{75.6, 89.0}},
	} {
		t.Run(c.file, func(t *testing.T) {
			path := filepath.Join(dir, c.file)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("no trace, FLAGSTONE_TRACES says where they are: %v", err)
			}
			if c.requests > 1e5 && (testing.Short() || raceDetector) {
				t.Skip("long under the race detector, and not a short test")
			}
			for policy, ratios := range map[string][2]float64{"lru": c.lru, "s3fifo": c.s3fifo} {
				var out replayJSON
				newBench(t).run("replay", path, "--policy", policy, "--capacity", "1%,10%", "--shards", "1", "--json").exits(0).decode(&out)
				if out.Requests != c.requests || out.Unique != c.unique || out.Policy != policy {
					t.Errorf("%d requests for %d keys in %s, want %d for %d in %s", out.Requests, out.Unique, out.Policy, c.requests, c.unique, policy)
				}
				for i, want := range ratios {
					got := 100 * out.Runs[i].HitRatio
					t.Logf("%s, capacity %s: %.2f%% hits", policy, out.Runs[i].Asked, got)
					if math.Abs(got-want) > 0.3 {
						t.Errorf("%s, capacity %s: %.2f%% hits, want %.1f%%", policy, out.Runs[i].Asked, got, want)
					}
				}
			}
		})
	}
}
