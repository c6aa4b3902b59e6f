package fuzz

import (
	"testing"

	"github.com/flagstone-shm/flagstone"
)

// FuzzDescriptor: a text that an application received is a descriptor that makes the
// very same text, or an error of one kind, and then nothing is changed.
func FuzzDescriptor(f *testing.F) {
	for _, d := range []flagstone.Descriptor{
		{},
		{Domain: [2]uint64{1, 1<<64 - 1}, SlabID: 1 << 63, Entry: 4095, Generation: 1<<32 - 1, Size: 1 << 40, Name: "archive"},
		{Name: "a/b %\x00\xff"},
	} {
		text, err := d.MarshalText()
		must(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		was := flagstone.Descriptor{Name: "was", Size: 7}
		d := was
		if err := d.UnmarshalText(text); err != nil {
			must(t, allow(err, flagstone.ErrDescriptor))
			if d != was {
				t.Fatalf("%v changed to %v", was, d)
			}
			return
		}
		again, err := d.MarshalText()
		must(t, err)
		if string(again) != string(text) {
			t.Fatalf("%q and %q are one descriptor", text, again)
		}
	})
}
