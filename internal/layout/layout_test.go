package layout

import (
	"reflect"
	"testing"
)

var mapped = map[reflect.Type]uintptr{
	reflect.TypeFor[ControlHeader](): SizeControlHeader,
	reflect.TypeFor[Mutex]():         SizeMutex,
	reflect.TypeFor[Entry]():         SizeEntry,
	reflect.TypeFor[Region]():        SizeRegion,
	reflect.TypeFor[SlabHeader]():    SizeSlabHeader,
	reflect.TypeFor[Shard]():         SizeShard,
	reflect.TypeFor[Bucket]():        SizeBucket,
	reflect.TypeFor[CellHeader]():    SizeCellHeader,
	reflect.TypeFor[TailHeader]():    SizeTailHeader,
}

// Other processes have other address spaces, and may write any word at any time:
// nothing but atomics of fixed width, aligned, and padding.
func TestMapped_OnlyAlignedAtomics(t *testing.T) {
	width := map[reflect.Type]uintptr{reflect.TypeFor[Uint32](): 4, reflect.TypeFor[Uint64](): 8}
	for typ, size := range mapped {
		if typ.Size() != size || size%8 != 0 {
			t.Errorf("%v has %d bytes, want %d, a multiple of 8", typ, typ.Size(), size)
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			word := f.Type
			if word.Kind() == reflect.Array {
				word = word.Elem()
			}
			if f.Name == "_" {
				if word.Kind() != reflect.Uint8 {
					t.Errorf("%v: padding of %v", typ, f.Type)
				}
				continue
			}
			w, ok := width[word]
			if !ok || f.Offset%w != 0 {
				t.Errorf("%v.%s: %v at %d", typ, f.Name, f.Type, f.Offset)
			}
		}
	}
}

// A cell's version stands where a tail's does, and a late stamp on a tail falls
// into a word that means nothing.
func TestCell_HeadAndTail_AgreeWhereTheyMust(t *testing.T) {
	field := func(v any, name string) uintptr {
		f, ok := reflect.TypeOf(v).FieldByName(name)
		if !ok {
			t.Fatalf("%T has no %s", v, name)
		}
		return f.Offset
	}
	if field(CellHeader{}, "Version") != field(TailHeader{}, "Version") {
		t.Error("versions lie apart")
	}
	if field(CellHeader{}, "Recency") != field(TailHeader{}, "Hole") {
		t.Error("a late stamp would hit a tail's payload or link")
	}
}

// What ControlHeader and SlabHeader have in common is checked by one function.
func TestHeaders_BeginAlike(t *testing.T) {
	c, s := reflect.TypeFor[ControlHeader](), reflect.TypeFor[SlabHeader]()
	for _, name := range []string{"Magic", "ReadVersion", "WriteVersion", "Endian", "Compatible", "Incompatible", "Fingerprint", "FileSize"} {
		a, ok1 := c.FieldByName(name)
		b, ok2 := s.FieldByName(name)
		if !ok1 || !ok2 || a.Offset != b.Offset || a.Type != b.Type {
			t.Errorf("%s: %d and %d", name, a.Offset, b.Offset)
		}
	}
}

// The table for those who print memory says of each field what the compiler does.
func TestStructs_SameAsTheTypes(t *testing.T) {
	if len(Structs) != len(mapped) {
		t.Errorf("%d structs, want %d", len(Structs), len(mapped))
	}
	for typ, size := range mapped {
		s := Structs[typ.Name()]
		if s.Name != typ.Name() || s.Size != uint64(size) || s.Doc == "" {
			t.Errorf("%v: %+v", typ, s)
		}
		named := 0
		for i := range typ.NumField() {
			if typ.Field(i).Name != "_" {
				named++
			}
		}
		if named != len(s.Fields) {
			t.Errorf("%v: %d fields, want %d", typ, len(s.Fields), named)
		}
		for _, f := range s.Fields {
			has, ok := typ.FieldByName(f.Name)
			if !ok || uint64(has.Offset) != f.Offset || uint64(has.Type.Size()) != f.Width*f.Count || f.Doc == "" {
				t.Errorf("%v.%s: %+v", typ, f.Name, f)
			}
		}
	}
}

// Fields and reserved bytes are all there is of a struct.
func TestReserved_WithTheFields_WholeStruct(t *testing.T) {
	for name, s := range Structs {
		covered := make([]int, s.Size)
		for _, f := range s.Fields {
			for i := range f.Width * f.Count {
				covered[f.Offset+i]++
			}
		}
		for _, span := range s.Reserved() {
			for i := range span.N {
				covered[span.Offset+i]++
			}
		}
		for i, n := range covered {
			if n != 1 {
				t.Fatalf("%s: byte %d is covered %d times", name, i, n)
			}
		}
	}
}
