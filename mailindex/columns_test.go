package mailindex_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// Rows that are added in bulk make the same snapshot as rows that are added
// one by one, and the edits that follow do the same to both.
func TestAppendColumns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := mailindex.New(mailindex.Meta{UIDValidity: 1}, nil)
		one, bulk := base.Edit(), base.Edit()
		uid := imap.UID(1)
		flags := [][]imap.Flag{nil, {imap.FlagSeen}, {imap.FlagDeleted}, {imap.FlagSeen, "kw"}}
		for range rapid.IntRange(1, 4).Draw(t, "pages") {
			var c mailindex.Columns
			for i := range rapid.IntRange(0, mailindex.PageRows).Draw(t, "rows") {
				set := flags[rapid.IntRange(0, len(flags)-1).Draw(t, "flags")]
				row := mailindex.Row{UID: uid, Flags: one.Intern(set), ModSeq: imap.ModSeq(i + 1), Size: uint32(i), Date: imap.Time(i), SaveDate: 7, Msg: uint64(uid)}
				one.Append(row)
				row.Flags = bulk.Intern(set)
				c.Push(&row)
				uid += imap.UID(1 + i%2)
			}
			bulk.AppendColumns(&c)
		}
		a, b := one.Commit(), bulk.Commit()
		compareSnapshots(t, a, b)
		if a.Len() == 0 {
			return
		}
		one, bulk = a.Edit(), b.Edit()
		for _, e := range []*mailindex.Editor{one, bulk} {
			e.SetFlags(a.Len()/2, e.Intern(flags[1]), 999)
			e.Remove(a.Len() / 3)
			e.Append(mailindex.Row{UID: uid, Flags: e.Intern(flags[2]), ModSeq: 1000})
		}
		compareSnapshots(t, one.Commit(), bulk.Commit())
		compareSnapshots(t, a, b)
	})
}

func compareSnapshots(t *rapid.T, a, b *mailindex.Snapshot) {
	t.Helper()
	var rowsA, rowsB []mailindex.Row
	for _, r := range a.Rows() {
		rowsA = append(rowsA, r)
	}
	for _, r := range b.Rows() {
		rowsB = append(rowsB, r)
	}
	if diff := cmp.Diff(rowsA, rowsB); diff != "" {
		t.Fatal(diff)
	}
	if a.Meta() != b.Meta() || a.Unseen() != b.Unseen() || a.Deleted() != b.Deleted() || a.Size() != b.Size() || a.DeletedSize() != b.DeletedSize() {
		t.Fatalf("%+v unseen %d deleted %d, %+v unseen %d deleted %d", a.Meta(), a.Unseen(), a.Deleted(), b.Meta(), b.Unseen(), b.Deleted())
	}
	deleted := 0
	for p := range b.DeletedPages() {
		for _, id := range p.Flags {
			if b.Flags(id).Bits()&mailindex.BitDeleted != 0 {
				deleted++
			}
		}
	}
	if deleted != b.Deleted() {
		t.Fatalf("DeletedPages have %d rows with \\Deleted of %d", deleted, b.Deleted())
	}
	for id := range mailindex.FlagsID(a.FlagSets()) {
		if a.FlagCount(id) != b.FlagCount(id) {
			t.Fatalf("flags %d: %d and %d rows", id, a.FlagCount(id), b.FlagCount(id))
		}
	}
}

// Columns stay together when rows are taken out.
func TestColumnsRemove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c mailindex.Columns
		var want []mailindex.Row
		var gone []int
		for i := range rapid.IntRange(0, 40).Draw(t, "rows") {
			n := i + 1
			row := mailindex.Row{UID: imap.UID(n), Flags: mailindex.FlagsID(n), ModSeq: imap.ModSeq(n), Size: uint32(n), Date: imap.Time(n), SaveDate: int64(n), Msg: uint64(n)}
			c.Push(&row)
			if rapid.Bool().Draw(t, "gone") {
				gone = append(gone, i)
			} else {
				want = append(want, row)
			}
		}
		c.Remove(gone)
		var got []mailindex.Row
		for i := range c.Len() {
			got = append(got, c.Row(i))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}
