package mailindex_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// packed is a page whose columns are there already, and notes whether somebody
// has wanted them.
type packed struct {
	mailindex.Columns
	rows, marks *atomic.Int32
}

func (p *packed) UnpackRows(c *mailindex.Columns) {
	p.rows.Add(1)
	copy(c.UIDs, p.UIDs)
	copy(c.Sizes, p.Sizes)
	copy(c.Dates, p.Dates)
	copy(c.Saved, p.Saved)
	copy(c.Msgs, p.Msgs)
}

func (p *packed) UnpackMarks(c *mailindex.Columns) {
	p.marks.Add(1)
	copy(c.Flags, p.Flags)
	copy(c.ModSeqs, p.ModSeqs)
}

// pack describes rows for an editor.
func pack(e *mailindex.Editor, c mailindex.Columns, rows, marks *atomic.Int32) *mailindex.PackedRows {
	n := c.Len()
	p := &mailindex.PackedRows{Rows: &packed{c, rows, marks}, Len: n, First: c.UIDs[0], Last: c.UIDs[n-1]}
	counts := make(map[mailindex.FlagsID]int)
	for i := range n {
		p.MaxModSeq = max(p.MaxModSeq, c.ModSeqs[i])
		p.Size += int64(c.Sizes[i])
		if e.Flags(c.Flags[i]).Bits()&mailindex.BitDeleted != 0 {
			p.DeletedSize += int64(c.Sizes[i])
		}
		counts[c.Flags[i]]++
	}
	for id, n := range counts {
		p.Flags = append(p.Flags, mailindex.FlagsCount{ID: id, Count: n})
	}
	return p
}

// Packed rows make the same snapshot as others, and the edits that follow do the
// same to both, whichever page they come to first.
func TestAppendPacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := mailindex.New(mailindex.Meta{UIDValidity: 1}, nil)
		plain, lazy := base.Edit(), base.Edit()
		uid := imap.UID(1)
		flags := [][]imap.Flag{nil, {imap.FlagSeen}, {imap.FlagDeleted}, {imap.FlagSeen, "kw"}}
		var unpacked atomic.Int32
		for range rapid.IntRange(1, 4).Draw(t, "pages") {
			var c mailindex.Columns
			for i := range rapid.IntRange(1, 40).Draw(t, "rows") {
				with := flags[rapid.IntRange(0, len(flags)-1).Draw(t, "flags")]
				set := plain.Intern(with)
				lazy.Intern(with)
				c.Push(&mailindex.Row{UID: uid, Flags: set, ModSeq: imap.ModSeq(i + 1), Size: uint32(i), Date: imap.Time(i), SaveDate: 7, Msg: uint64(uid)})
				uid += imap.UID(1 + i%2)
			}
			lazy.AppendPacked(pack(plain, c, &unpacked, &unpacked))
			plain.AppendColumns(&c)
		}
		a, b := plain.Commit(), lazy.Commit()
		views := []*mailindex.Snapshot{a, b}
		at := rapid.IntRange(0, a.Len()-1)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			kind, i := rapid.IntRange(0, 3).Draw(t, "kind"), at.Draw(t, "at")
			for k, s := range views {
				i := min(i, s.Len()-1)
				e := s.Edit()
				switch {
				case kind == 0 || i < 0:
					e.Append(mailindex.Row{UID: uid, Flags: e.Intern(flags[2]), ModSeq: 1000})
				case kind == 1:
					e.SetFlagsRun(i, min(30, s.Len()-i), e.Intern(flags[1]), 999)
				case kind == 2:
					e.Remove(i)
				default:
					for gone := range i {
						e.Remove(gone)
					}
				}
				views[k] = e.Commit()
			}
			uid++
		}
		x, y := mailindex.WithGhosts(a, views[0]), mailindex.WithGhosts(b, views[1])
		compareSnapshots(t, x, y)
		compareSnapshots(t, views[0], views[1])
		compareSnapshots(t, a, b)
	})
}

// manyPacked returns a snapshot of ten pages of 400 rows, of which only the
// second has rows without \Seen, and what counts how many were unpacked.
func manyPacked() (s *mailindex.Snapshot, rows, marks *atomic.Int32) {
	rows, marks = new(atomic.Int32), new(atomic.Int32)
	e := mailindex.New(mailindex.Meta{UIDValidity: 1}, nil).Edit()
	seen := e.Intern([]imap.Flag{imap.FlagSeen})
	for page := range 10 {
		c := mailindex.NewColumns(400)
		for i := range 400 {
			n := 400*page + i + 1
			c.Set(i, &mailindex.Row{UID: imap.UID(n), Flags: seen, ModSeq: imap.ModSeq(page + 1), Size: 1, Msg: uint64(n)})
			if page == 1 {
				c.Flags[i] = 0
			}
		}
		e.AppendPacked(pack(e, c, rows, marks))
	}
	e.Meta().FirstRecent = 4001
	return e.Commit(), rows, marks
}

// What a SELECT asks is known without unpacking rows, and what a client does to
// one message unpacks its page.
func TestFewAreUnpacked(t *testing.T) {
	s, rows, marks := manyPacked()
	want := func(what string, r, m int32) {
		t.Helper()
		if rows.Load() != r || marks.Load() != m {
			t.Errorf("after %s %d and %d pages are unpacked, want %d and %d", what, rows.Load(), marks.Load(), r, m)
		}
	}
	if s.Len() != 4000 || s.Unseen() != 400 || s.Recent() != 0 || s.LastUID() != 4000 || s.Size() != 4000 || s.Memory() < 160_000 {
		t.Errorf("%d rows, %d unseen, %d recent, %d the last", s.Len(), s.Unseen(), s.Recent(), s.LastUID())
	}
	for p := range s.ChangedPages(10) {
		t.Errorf("page %d has changed", p.First)
	}
	want("a look at the counters", 0, 0)
	if i, ok := s.FirstUnseen(); i != 400 || !ok {
		t.Errorf("the first unseen is %d, %v", i, ok)
	}
	want("the first unseen", 0, 1)
	if i, ok := s.Find(3111); i != 3110 || !ok {
		t.Errorf("UID 3111 is at %d, %v", i, ok)
	}
	want("looking for a UID", 1, 1)
	e := s.Edit()
	e.SetFlags(3110, 0, 11)
	e.Remove(2200)
	e.Append(mailindex.Row{UID: 4001, ModSeq: 12})
	next := e.Commit()
	want("changes on three pages", 3, 4)
	if c := mailindex.Compare(s, next); len(c.Changed) != 1 || len(c.Vanished) != 1 {
		t.Errorf("changes are %+v", c)
	}
	want("comparing", 3, 4)
	if row := s.Row(2200); row.UID != 2201 || row.ModSeq != 6 || row.Msg != 2201 {
		t.Errorf("row 2200 is %+v", row)
	}
	for range s.Rows() {
	}
	for range next.Rows() {
	}
	want("reading all", 10, 10)
}

// Pages are unpacked once, whoever comes first.
func TestUnpackTogether(t *testing.T) {
	s, rows, marks := manyPacked()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i, row := range s.Rows() {
				if row.UID != imap.UID(i+1) || s.Memory() == 0 {
					t.Errorf("row %d is %+v", i, row)
				}
			}
			if e := s.Edit(); e.FlagsID(400) != 0 {
				t.Error("row 400 has flags")
			}
		})
	}
	wg.Wait()
	if rows.Load() != 10 || marks.Load() != 10 {
		t.Errorf("%d and %d pages were unpacked", rows.Load(), marks.Load())
	}
}
