package mailstore

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// drawRows makes rows as mailboxes have them, and some as they never do.
func drawRows(t *rapid.T) mailindex.Columns {
	var c mailindex.Columns
	dense := rapid.Bool().Draw(t, "dense")
	wild := rapid.Bool().Draw(t, "wild")
	row := mailindex.Row{UID: imap.UID(rapid.Uint32Range(1, 1<<31).Draw(t, "first"))}
	for range rapid.IntRange(1, mailindex.PageRows).Draw(t, "rows") {
		if !dense {
			row.UID += imap.UID(rapid.Uint32Range(0, 1000).Draw(t, "gap"))
			row.Flags = mailindex.FlagsID(rapid.Uint32Range(0, 300).Draw(t, "flags"))
			row.Size = rapid.Uint32().Draw(t, "size")
			row.SaveDate = int64(rapid.Uint32().Draw(t, "saved"))
		}
		if wild {
			row.ModSeq = imap.ModSeq(rapid.Uint64Range(1, 1<<63-1).Draw(t, "modseq"))
			row.Date = imap.Time(rapid.Int64().Draw(t, "date"))
			row.Msg = rapid.Uint64().Draw(t, "message")
		}
		c.Push(&row)
		row.UID, row.Msg = row.UID+1, row.Msg+1
	}
	return c
}

// A page gives back the rows that it was made of.
func TestPageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRows(t)
		code := func(id mailindex.FlagsID) []byte { return fmt.Append(nil, "flags ", id) }
		data := appendPage(nil, &want, code)
		var codes codes
		var got mailindex.Columns
		last := want.UIDs[want.Len()-1]
		if err := readPage(&got, last, data, codes.number); err != nil {
			t.Fatal(err)
		}
		for i, id := range got.Flags {
			if string(codes.code(id)) != string(code(want.Flags[i])) {
				t.Fatalf("row %d has %s, want %s", i, codes.code(id), code(want.Flags[i]))
			}
		}
		if err := checkPacked(&got, data, codes.number); err != nil {
			t.Fatal(err)
		}
		copy(got.Flags, want.Flags)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if err := readPage(&got, last+1, data, codes.number); imap.KindOf(err) != imap.Corruption {
			t.Fatalf("a page under a wrong key gave %v", err)
		}
		cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
		if err := readPage(&got, last, data[:cut], codes.number); imap.KindOf(err) != imap.Corruption {
			t.Fatalf("%d bytes of %d gave %v", cut, len(data), err)
		}
	})
}

// checkPacked compares what a page says while it is packed, and its rows when they
// are unpacked, with its rows.
func checkPacked(want *mailindex.Columns, data []byte, intern func([]byte) (mailindex.FlagsID, error)) error {
	p, cols, err := openPage(slices.Clone(data), intern)
	if err != nil {
		return err
	}
	deleted := func(id mailindex.FlagsID) bool { return id%2 == 1 }
	n := want.Len()
	scan := pageScan{deleted: deleted}
	for range 2 { // nothing is left over from one page for the next
		sum, err := scan.scan(&p, want.UIDs[n-1], &cols)
		if err != nil {
			return err
		}
		counts := make([]int, len(p.flags))
		for _, f := range sum.Flags {
			counts[slices.Index(p.flags, f.ID)] += f.Count
		}
		wantSum := mailindex.PackedRows{Rows: sum.Rows, Len: n, First: want.UIDs[0], Last: want.UIDs[n-1], Flags: sum.Flags}
		for i, id := range want.Flags {
			wantSum.Size += int64(want.Sizes[i])
			wantSum.MaxModSeq = max(wantSum.MaxModSeq, want.ModSeqs[i])
			if deleted(id) {
				wantSum.DeletedSize += int64(want.Sizes[i])
			}
			counts[slices.Index(p.flags, id)]--
		}
		if !reflect.DeepEqual(*sum, wantSum) || slices.Max(counts) != 0 || slices.Min(counts) != 0 {
			return fmt.Errorf("the rows make %+v, the page says %+v", wantSum, *sum)
		}
		got, marks := mailindex.NewColumns(n), mailindex.NewColumns(n)
		sum.Rows.UnpackRows(&mailindex.Columns{UIDs: got.UIDs, Sizes: got.Sizes, Dates: got.Dates, Saved: got.Saved, Msgs: got.Msgs})
		sum.Rows.UnpackMarks(&mailindex.Columns{Flags: marks.Flags, ModSeqs: marks.ModSeqs})
		got.Flags, got.ModSeqs = marks.Flags, marks.ModSeqs
		if diff := cmp.Diff(*want, got); diff != "" {
			return errors.New(diff)
		}
	}
	return nil
}

// FuzzReadPage reads what no program has written.
func FuzzReadPage(f *testing.F) {
	c := mailindex.NewColumns(3)
	copy(c.UIDs, []imap.UID{1, 2, 9})
	copy(c.Sizes, []uint32{1, 70_000, 3})
	f.Add(appendPage(nil, &c, func(mailindex.FlagsID) []byte { return []byte{1} }), uint32(9))
	f.Fuzz(func(t *testing.T, data []byte, last uint32) {
		var codes codes
		var c mailindex.Columns
		if err := readPage(&c, imap.UID(last), data, codes.number); err != nil {
			if p, cols, err := openPage(data, codes.number); err == nil {
				scan := pageScan{deleted: func(mailindex.FlagsID) bool { return true }}
				if sum, err := scan.scan(&p, imap.UID(last), &cols); err == nil {
					t.Errorf("a damaged page can be packed: %+v", sum)
				}
			}
			return
		}
		if err := checkPacked(&c, data, codes.number); err != nil {
			t.Error(err)
		}
		for i, uid := range c.UIDs {
			if i > 0 && uid <= c.UIDs[i-1] || int(c.Flags[i]) >= len(codes.list) {
				t.Errorf("row %d: %+v", i, c.Row(i))
			}
		}
	})
}
