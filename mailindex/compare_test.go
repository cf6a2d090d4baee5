package mailindex_test

import (
	"slices"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// A changed row is found wherever it is in its page, also where the page ends
// within a block of rows that are compared together, and a change of flags or of
// the mod-sequence alone is one.
func TestCompareEachRow(t *testing.T) {
	const rows = 100
	s := build(rows)
	seen := s.FlagsID(0)
	for i := range rows {
		for _, to := range []struct {
			flags  mailindex.FlagsID
			modseq imap.ModSeq
		}{{0, 1}, {seen, 2}, {0, 2}} {
			e := s.Edit()
			e.SetFlags(i, to.flags, to.modseq)
			if c := mailindex.Compare(s, e.Commit()); !slices.Equal(c.Changed, []int{i}) {
				t.Fatalf("row %d with flags %d at %d: Compare found %v", i, to.flags, to.modseq, c.Changed)
			}
		}
	}
}

// What is known is left out, and what asks is told is right.
func TestCompareUnknown(t *testing.T) {
	s := build(1000)
	seen := s.FlagsID(0)
	e := s.Edit()
	e.SetFlagsRun(10, 900, 0, 2)
	e.SetFlags(500, seen, 3)
	e.Remove(600)
	n := e.Commit()
	asked := 0
	c := mailindex.CompareUnknown(s, n, func(uid imap.UID, modseq imap.ModSeq, was, is mailindex.FlagsID) bool {
		asked++
		pos, ok := n.Find(uid)
		if row := n.Row(pos); !ok || row.ModSeq != modseq || row.Flags != is || was != seen {
			t.Errorf("asked about UID %d at %d, from flags %d to %d; the row is %+v", uid, modseq, was, is, row)
		}
		return modseq == 2 && uid%2 == 0
	})
	if asked != 899 || len(c.Changed) != 449 || len(c.Vanished) != 1 {
		t.Errorf("%d rows were asked about, %d have changed, %d are gone; want 899, 449, 1", asked, len(c.Changed), len(c.Vanished))
	}
}
