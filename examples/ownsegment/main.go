// Command ownsegment shows the control segment without a cache: one process
// publishes a segment of its own, another one (this program again) finds it,
// pins it, reads it, and sees it retired while it goes on reading.
//
// It exits with status 0 only if all of that held.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/flagstone-shm/flagstone/table"
)

// kind is this program's own kind of segment: a text padded with zeros.
const (
	kind = table.KindApplication + 1
	name = "greeting"
	text = "hello from shared memory"
)

func main() {
	run := publisher
	if len(os.Args) == 3 { // a reader is told directory and domain
		run = reader
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ownsegment:", err)
		os.Exit(1)
	}
}

func publisher(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ownsegment-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t, err := table.Open(ctx, table.Options{Dir: dir, Name: "example"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()

	segment, err := t.PublishSegment(table.Spec{Kind: kind, Name: name, Size: 4096}, func(b []byte) error {
		copy(b, text)
		return nil
	})
	if err != nil {
		return err
	}
	e := segment.Entry()
	fmt.Printf("publisher: entry %d, segment %016x, %d bytes, published\n", e.Index, e.SegmentID, e.Size)
	// The publisher need not keep it mapped.
	if err := segment.Close(); err != nil {
		return err
	}

	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, dir, "example")
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for pinned := false; !pinned && lines.Scan(); pinned = lines.Text() == "reader: pinned" {
		fmt.Println(lines.Text())
	}
	pinners := t.Pinners(e)
	fmt.Printf("publisher: mapped by regions %v; retiring\n", pinners)
	retired := t.Retire(e)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	if err := errors.Join(retired, child.Wait()); err != nil {
		return err
	}
	if len(pinners) != 1 {
		return fmt.Errorf("%d handles mapped the segment, want the reader's", len(pinners))
	}
	if left := t.Entries(); len(left) != 0 {
		return fmt.Errorf("entries left after the reader has gone: %v", left)
	}
	fmt.Println("publisher: the entry is free again")
	return table.Destroy(ctx, dir, "example")
}

func reader(ctx context.Context) (err error) {
	t, err := table.Open(ctx, table.Options{Dir: os.Args[1], Name: os.Args[2], MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	e, ok := t.Find(kind, name)
	if !ok {
		return errors.New("the segment is not in the directory")
	}
	segment, err := t.OpenSegment(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, segment.Close()) }()
	if err := check(segment, "found and read"); err != nil {
		return err
	}
	fmt.Println("reader: pinned")
	for !segment.Retired() {
		select {
		case <-t.C(): // rung by the publisher
		case <-ctx.Done():
			return fmt.Errorf("never saw it retired: %w", ctx.Err())
		}
	}
	if _, ok := t.Find(kind, name); ok {
		return errors.New("retired, and still in the directory")
	}
	if _, err := t.OpenSegment(e); !errors.Is(err, table.ErrRetired) {
		return fmt.Errorf("attached a retired segment: %w", err)
	}
	return check(segment, "retired, and still reads")
}

func check(s *table.Segment, what string) error {
	return s.Do(func(b []byte) error {
		got := bytes.TrimRight(b, "\x00")
		if string(got) != text {
			return fmt.Errorf("read %q, want %q", got, text)
		}
		fmt.Printf("reader: %s %q\n", what, got)
		return nil
	})
}
