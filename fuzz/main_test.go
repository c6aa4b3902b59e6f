// Package fuzz feeds arbitrary bytes to everything that reads shared memory: no
// bytes may panic, hang or reach outside a segment. The corpora are plain segment
// files; `go test ./fuzz -update` makes them anew after a change of the layout.
package fuzz

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
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

// allow returns nil for the errors listed. Any other is a bug, a missing check of
// a shared number first of all.
func allow(err error, allowed ...error) error {
	for _, a := range allowed {
		if errors.Is(err, a) && !errors.Is(err, shm.ErrBounds) {
			return nil
		}
	}
	return err
}

// images are the plain segment files of a kind, which the targets damage.
func images(t testing.TB, kind string) (names []string, all [][]byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", kind+"-*.bin"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no images of a %s: run go test ./fuzz -update", kind)
	}
	var fingerprint [8]byte
	binary.LittleEndian.PutUint64(fingerprint[:], layout.Fingerprint)
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		if !bytes.Contains(b, fingerprint[:]) {
			t.Fatalf("%s is of another layout: run go test ./fuzz -update", name)
		}
		all = append(all, b)
	}
	return names, all
}

// save writes one of them.
func save(t testing.TB, kind, name string, image []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join("testdata", kind+"-"+name+".bin"), image, 0o644))
}

// poke changes a byte, or a word to one of those that matter: an offset of two
// bytes, what is changed, and to what.
func poke(b []byte, change []byte) {
	if len(b) < 8 {
		return
	}
	at := int(binary.BigEndian.Uint16(change)) % len(b)
	if change[2]%2 == 0 {
		b[at] = change[3]
		return
	}
	words := [...]uint64{
		0, 1, 2, 3, 1 << 32, 1<<32 - 1, 1<<52 - 2, 1<<52 - 1, 1 << 62, 1<<62 - 1, 1 << 63, 1<<64 - 1,
		lock.Token(3, 5), lock.Token(0, 1), 7 << layout.VersionSequenceShift, 1 << layout.StateGenerationShift,
	}
	binary.LittleEndian.PutUint64(b[min(at&^7, len(b)-8):], words[int(change[3])%len(words)])
}

// damaged is a copy of an image with patches of four bytes applied, cut or
// extended by some bytes.
func damaged(images [][]byte, which uint8, patches []byte, longer int16) []byte {
	b := slices.Clone(images[int(which)%len(images)])
	for patch := range slices.Chunk(patches, 4) {
		if len(patch) == 4 {
			poke(b, patch)
		}
	}
	if longer < 0 {
		return b[:max(len(b)+int(longer), 0)]
	}
	return append(b, make([]byte, longer)...)
}

// seal makes a header's checksum right, so that changes of what it covers get
// past it. H is the header's type.
func seal[H any](file []byte) {
	field, _ := reflect.TypeFor[H]().FieldByName("Checksum")
	if len(file) >= layout.PageSize {
		binary.LittleEndian.PutUint64(file[field.Offset:], xxh3.Hash(file[:field.Offset]))
	}
}
