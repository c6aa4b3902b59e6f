package demo

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// launch starts a victim on a new cache and waits until it is ready.
func launch(t *testing.T, command string) (cache *flagstone.Cache, victim *exec.Cmd, stdin io.Closer) {
	t.Helper()
	dir := t.TempDir()
	cache, err := flagstone.Open(context.Background(), "c", flagstone.Options{
		Dir: dir, Size: 16 << 20, CellSize: cellSize, MaxValue: maxValue, Shards: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	victim = exec.Command(os.Args[0], command, dir)
	victim.Stderr = os.Stderr
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the victim said %q: %v", line, err)
	}
	return cache, victim, in
}

func TestKillHolder_VictimInSet_DiesWithTheLock(t *testing.T) {
	cache, victim, _ := launch(t, setterCommand)
	d := killHolder(context.Background(), cache, victim.Process)
	if d.err != nil {
		t.Fatal(d.err)
	}
	_ = victim.Wait()
	if s := victim.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", victim.ProcessState)
	}
	s := &shared{cache: cache, shards: 2}
	if want := s.shardOf("large"); d.Shard != want {
		t.Errorf("killed in shard %d, want %d", d.Shard, want)
	}
	holders, err := cache.Holders()
	if err != nil || len(holders) != 1 || holders[0] != d.Holder {
		t.Fatalf("locks left: %+v, %v; want %+v", holders, err, d.Holder)
	}
	if err := s.set("large", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	st, err := cache.Stats()
	if err != nil || st.Steals != 1 || st.Rebuilds == 0 {
		t.Errorf("%d steals, %d rebuilds, %v", st.Steals, st.Rebuilds, err)
	}
	if problems, err := cache.Check(context.Background()); len(problems) != 0 || err != nil {
		t.Error(problems, err)
	}
	w := s.waits(d.killed)
	if w.FirstSet <= 0 || w.FirstSet < w.After.Set {
		t.Errorf("first set after %v, longest %v", w.FirstSet, w.After.Set)
	}
}

func TestKillHolder_VictimIdle_GivesUpAndLetsItRun(t *testing.T) {
	cache, victim, stdin := launch(t, idlerCommand)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if d := killHolder(ctx, cache, victim.Process); d.err == nil || !strings.Contains(d.err.Error(), "could not be stopped inside Set") {
		t.Fatalf("%+v", d)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestKillHolder_VictimGone_Error(t *testing.T) {
	cache, victim, stdin := launch(t, setterCommand)
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Wait(); err != nil {
		t.Fatal(err)
	}
	if d := killHolder(context.Background(), cache, victim.Process); d.err == nil {
		t.Errorf("%+v", d)
	}
}

func TestStop_Running_Stopped(t *testing.T) {
	_, victim, _ := launch(t, setterCommand)
	for range 3 {
		if err := stop(victim.Process); err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(victim.Process.Pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		if state := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]; state != "T" {
			t.Fatalf("state %s", state)
		}
		if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}
