package main

import (
	"syscall"
	"testing"
)

func TestWatch_ProcessJoinsAndIsKilled_SeenByAnother(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "10").exits(0)
	watcher := b.start("watch", "c", "--json")
	if e := watcher.await("published"); e.Entry == nil || e.Entry.Name != "primary" || e.Region != nil {
		t.Errorf("%+v", e)
	}
	victim := b.start("set", "c", "k", "-")
	if e := watcher.await("joined"); e.Region == nil || e.Region.Pid != uint32(victim.cmd.Process.Pid) {
		t.Errorf("%+v", e)
	}
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if e := watcher.await("died"); e.Region == nil || e.Region.Pid != uint32(victim.cmd.Process.Pid) {
		t.Errorf("%+v", e)
	}
	polite := b.start("set", "c", "k", "-")
	watcher.await("joined")
	if err := polite.in.Close(); err != nil { // the value is empty
		t.Fatal(err)
	}
	watcher.await("left")
	if err := watcher.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := watcher.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWatch_Bounds_CountAndTime(t *testing.T) {
	b := newBench(t)
	b.run("create", "c", "--entries", "10").exits(0)
	b.run("watch", "c", "--count", "1").exits(0).says("published", "primary")
	b.run("watch", "c", "--for", "1ms").exits(0)
	b.run("watch", "c", "--for", "100ms", "--count", "99").exits(exitNegative).warns("of 99 events")
	b.run("watch", "c", "--count", "-1").exits(exitUsage)
	b.run("watch", "nope").exits(exitError)
}
