// Package fuzz feeds arbitrary bytes to everything that reads shared memory: no
// bytes may panic, hang or reach outside a segment. The corpora are plain segment
// files; `go test ./fuzz -update` makes them anew after a change of the layout.
package fuzz

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
)

var update = flag.Bool("update", false, "write the corpora anew")

// patience bounds every wait: what takes longer hangs.
const patience = 10 * time.Second

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tolerate accepts success and the errors listed. Anything else is a bug.
func tolerate(t testing.TB, err error, allowed ...error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, a := range allowed {
		if errors.Is(err, a) && !errors.Is(err, shm.ErrBounds) {
			return
		}
	}
	t.Fatal(err)
}

// save writes one file of a target's corpus, in the encoding of go test.
func save(t testing.TB, target, name string, args ...any) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	must(t, os.MkdirAll(dir, 0o755))
	text := "go test fuzz v1\n"
	for _, a := range args {
		if b, ok := a.([]byte); ok {
			text += fmt.Sprintf("[]byte(%q)\n", b)
		} else {
			text += fmt.Sprintf("%T(%#v)\n", a, a)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// outdated tells a corpus made for another layout, whose files would all be
// refused at the door.
func outdated(t testing.TB, target string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "good-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus of %s: run go test ./fuzz -update", target)
	}
	var fingerprint [8]byte
	for i := range fingerprint {
		fingerprint[i] = byte(uint64(layout.Fingerprint) >> (8 * i))
	}
	want := strings.Trim(fmt.Sprintf("%q", fingerprint), `"`)
	for _, f := range files {
		if text, err := os.ReadFile(f); err != nil || !strings.Contains(string(text), want) {
			t.Fatalf("%s is of another layout: run go test ./fuzz -update", f)
		}
	}
}

// covered returns how many bytes of a header stand under its checksum.
func covered[T any]() uint64 {
	f, _ := reflect.TypeFor[T]().FieldByName("Checksum")
	return uint64(f.Offset)
}

// segment puts bytes into a segment on the heap, zeros behind them. Sealed makes
// the header's checksum right, so that changes of what it covers get past it.
func segment(file []byte, least uint64, covered uint64, sealed bool) *shm.Segment {
	seg := shm.Heap(max(uint64(len(file)), least))
	seg.Window().Write(0, file)
	if sealed {
		shm.At[layout.Bucket](seg.Window(), covered&^7).Slots[0].Store(format.Checksum(seg.Window(), covered))
	}
	return seg
}
