package layout

// Span is N bytes at Offset.
type Span struct{ Offset, N uint64 }

// Reserved returns where s has no field. A later minor version may have one there:
// who makes the struct anew writes zeros, the value that means nothing was added.
func (s Struct) Reserved() (spans []Span) {
	end := uint64(0)
	for _, f := range append(s.Fields, Field{Offset: s.Size}) {
		if f.Offset > end {
			spans = append(spans, Span{end, f.Offset - end})
		}
		end = f.Offset + f.Width*f.Count
	}
	return spans
}
