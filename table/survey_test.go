//go:build linux

package table

import "testing"

func TestSurvey_PublishedMeanwhile_NoFlaw(t *testing.T) {
	table := openTable(t, options(t.TempDir()))
	publish(t, table, spec("before"))
	s := surveyor{Table: table, files: map[string]bool{}, named: map[string]int{}, tops: map[uint64]int{}}
	s.gather()
	late := publish(t, table, spec("meanwhile")).Entry()
	for i := range int(table.header.Entries) {
		s.entry(i)
	}
	for _, f := range s.flaws {
		t.Errorf("%+v", f)
	}
	if !s.taken(segmentFile(late.Kind, late.SegmentID)) || s.isTop(1) {
		t.Error("what was published meanwhile is not known, or what is not there is")
	}
}
