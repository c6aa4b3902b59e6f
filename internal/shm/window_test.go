package shm

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// guarded runs f as operations on segments do.
func guarded(s *Segment, f func()) (err error) {
	defer s.Catch(Guard(), &err)
	f()
	return nil
}

func TestWindow_OutOfBounds_ErrBounds(t *testing.T) {
	s := Heap(4096)
	whole := s.Window()
	w := whole.Sub(64, 128)
	huge := uint64(math.MaxUint64)
	for name, f := range map[string]func(){
		"At behind the end":        func() { At[layout.Uint64](w, 128) },
		"At over the end":          func() { At[[2]layout.Uint64](w, 120) },
		"At misaligned":            func() { At[layout.Uint64](w, 4) },
		"At misaligned by one":     func() { At[layout.Uint32](w, 1) },
		"At overflow":              func() { At[layout.Uint64](w, huge-7) },
		"At the last word of all":  func() { At[layout.Uint64](w, huge&^7) },
		"Sub over the end":         func() { w.Sub(64, 72) },
		"Sub overflow":             func() { w.Sub(64, huge&^7-56) },
		"Sub misaligned offset":    func() { w.Sub(4, 8) },
		"Sub misaligned length":    func() { w.Sub(0, 12) },
		"Append over the end":      func() { w.Append(nil, 127, 2) },
		"Append overflow":          func() { w.Append(nil, 8, huge-4) },
		"Append far":               func() { w.Append(nil, huge, 1) },
		"Equal over the end":       func() { w.Equal(120, make([]byte, 9)) },
		"Equal overflow":           func() { w.Equal(huge, make([]byte, 2)) },
		"Write over the end":       func() { w.Write(128, []byte{1}) },
		"Zero over the end":        func() { w.Zero(0, 129) },
		"Zero overflow":            func() { w.Zero(8, huge-7) },
		"MatchTags over the end":   func() { w.MatchTags(72, 0) },
		"MatchTags overflow":       func() { w.MatchTags(huge-63, 0) },
		"anything of the zero one": func() { At[layout.Uint32](Window{}, 0) },
	} {
		if err := guarded(s, f); !errors.Is(err, ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := guarded(s, func() {
		At[layout.Uint64](w, 120).Store(7)
		if At[layout.Uint64](whole, 64+120).Load() != 7 {
			t.Error("Sub starts elsewhere")
		}
		w.Sub(128, 0)
		w.Append(nil, 128, 0)
		w.Prefetch(huge) // ignored
		w.Prefetch(127)
	}); err != nil {
		t.Error(err)
	}
}

func TestCatch_OtherPanics_GoOn(t *testing.T) {
	defer func() {
		if r := recover(); r != "a bug" {
			t.Fatal(r)
		}
	}()
	_ = guarded(Heap(64), func() { panic("a bug") })
}

func TestWindow_AnyCopies_AsAByteSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 2048
		w := Heap(4096).Window().Sub(8*rapid.Uint64Range(0, 8).Draw(t, "base/8"), size)
		model := make([]byte, size)
		place := func(t *rapid.T) (off, n uint64) {
			off = rapid.Uint64Range(0, size).Draw(t, "off")
			n = rapid.OneOf(rapid.Uint64Range(0, min(20, size-off)), rapid.Uint64Range(0, size-off)).Draw(t, "n")
			return off, n
		}
		t.Repeat(map[string]func(*rapid.T){
			"Write": func(t *rapid.T) {
				off, n := place(t)
				b := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, int(n))
				w.Write(off, b)
				copy(model[off:], b)
			},
			"Zero": func(t *rapid.T) {
				off, n := place(t)
				w.Zero(off, n)
				clear(model[off : off+n])
			},
			"Append": func(t *rapid.T) {
				off, n := place(t)
				dst := []byte("before")
				if got := w.Append(dst, off, n); string(got) != "before"+string(model[off:off+n]) {
					t.Fatalf("%x, want %x", got, model[off:off+n])
				}
			},
			"Equal": func(t *rapid.T) {
				off, n := place(t)
				b := bytes.Clone(model[off : off+n])
				if !w.Equal(off, b) {
					t.Fatal("differs from itself")
				}
				if n > 0 {
					b[rapid.Uint64Range(0, n-1).Draw(t, "at")]++
					if w.Equal(off, b) {
						t.Fatal("equals something else")
					}
				}
			},
			"": func(t *rapid.T) {
				if !bytes.Equal(w.Append(nil, 0, size), model) {
					t.Fatal("differs")
				}
			},
		})
	})
}

func TestMatchTags_AnyLine_AsALoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Heap(4096).Window()
		off := 64 * rapid.Uint64Range(0, 10).Draw(t, "line")
		tags := rapid.SampledFrom([]uint32{0, 1, 0x80000000, 0xffffffff, 0x12345678, 0x1234})
		tag, want := tags.Draw(t, "tag"), uint32(0)
		for i := range uint64(8) {
			high, low := tags.Draw(t, "high"), tags.Draw(t, "low")
			At[layout.Uint64](w, off+8*i).Store(uint64(high)<<32 | uint64(low))
			if i < 7 && high == tag {
				want |= 2 << (2 * i)
			}
		}
		if got := w.MatchTags(off, tag); got != want {
			t.Fatalf("%#x, want %#x", got, want)
		}
	})
}

func TestHeap_StartsOnALineAndIsZero(t *testing.T) {
	for range 20 {
		s := Heap(100)
		if s.Window().Len() != 4096 || uintptr(s.base)%64 != 0 {
			t.Fatalf("%d bytes at %p", s.Window().Len(), s.base)
		}
		if !bytes.Equal(s.Bytes(), make([]byte, 4096)) || s.Close() != nil {
			t.Fatal("not zero, or not closed")
		}
	}
}
