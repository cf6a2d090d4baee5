package mailindex

import (
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// Columns are consecutive rows column by column, in the order of their UIDs.
// All slices have the same length. It is what rows are moved with in bulk: see
// [Editor.AppendColumns].
type Columns struct {
	UIDs    []imap.UID
	Flags   []FlagsID
	ModSeqs []imap.ModSeq
	Sizes   []uint32
	Dates   []imap.Time
	Saved   []uint32 // save dates in Unix seconds, 0 where unknown
	Msgs    []uint64
}

// NewColumns returns columns of n rows, all zero.
func NewColumns(n int) Columns {
	return Columns{
		UIDs: make([]imap.UID, n), Flags: make([]FlagsID, n), ModSeqs: make([]imap.ModSeq, n), Sizes: make([]uint32, n),
		Dates: make([]imap.Time, n), Saved: make([]uint32, n), Msgs: make([]uint64, n),
	}
}

// Len returns the number of rows.
func (c *Columns) Len() int { return len(c.UIDs) }

// Row returns row i.
func (c *Columns) Row(i int) Row {
	return Row{
		UID: c.UIDs[i], Flags: c.Flags[i], ModSeq: c.ModSeqs[i], Size: c.Sizes[i],
		Date: c.Dates[i], SaveDate: int64(c.Saved[i]), Msg: c.Msgs[i],
	}
}

// Set changes row i.
func (c *Columns) Set(i int, r *Row) {
	c.UIDs[i], c.Flags[i], c.ModSeqs[i], c.Sizes[i] = r.UID, r.Flags, r.ModSeq, r.Size
	c.Dates[i], c.Saved[i], c.Msgs[i] = r.Date, packSaved(r.SaveDate), r.Msg
}

// Push adds a row at the end.
func (c *Columns) Push(r *Row) {
	c.UIDs = append(c.UIDs, r.UID)
	c.Flags = append(c.Flags, r.Flags)
	c.ModSeqs = append(c.ModSeqs, r.ModSeq)
	c.Sizes = append(c.Sizes, r.Size)
	c.Dates = append(c.Dates, r.Date)
	c.Saved = append(c.Saved, packSaved(r.SaveDate))
	c.Msgs = append(c.Msgs, r.Msg)
}

// Slice returns the rows from to to-1; they share memory with c.
func (c *Columns) Slice(from, to int) Columns {
	return Columns{
		UIDs: c.UIDs[from:to:to], Flags: c.Flags[from:to:to], ModSeqs: c.ModSeqs[from:to:to], Sizes: c.Sizes[from:to:to],
		Dates: c.Dates[from:to:to], Saved: c.Saved[from:to:to], Msgs: c.Msgs[from:to:to],
	}
}

// Resize gives c n rows, in the memory that it has where that is enough. What
// is in them is not defined.
func (c *Columns) Resize(n int) {
	if n > cap(c.UIDs) || n > cap(c.Msgs) {
		*c = NewColumns(n)
		return
	}
	c.UIDs, c.Flags, c.ModSeqs, c.Sizes = c.UIDs[:n], c.Flags[:n], c.ModSeqs[:n], c.Sizes[:n]
	c.Dates, c.Saved, c.Msgs = c.Dates[:n], c.Saved[:n], c.Msgs[:n]
}

// Remove takes away the rows with the given positions, which ascend.
func (c *Columns) Remove(rows []int) {
	if len(rows) == 0 {
		return
	}
	c.UIDs, c.Flags, c.ModSeqs, c.Sizes = without(c.UIDs, rows), without(c.Flags, rows), without(c.ModSeqs, rows), without(c.Sizes, rows)
	c.Dates, c.Saved, c.Msgs = without(c.Dates, rows), without(c.Saved, rows), without(c.Msgs, rows)
}

func without[T any](col []T, rows []int) []T {
	n := rows[0]
	for i, gone := range rows {
		end := len(col)
		if i+1 < len(rows) {
			end = rows[i+1]
		}
		n += copy(col[n:], col[gone+1:end])
	}
	return col[:n]
}

// AppendColumns adds up to PageRows rows behind all others, as one page, and
// keeps the slices of c as they are. Their UIDs must ascend and be greater than
// every UID in the snapshot, their flags come from Intern.
func (e *Editor) AppendColumns(c *Columns) {
	n := c.Len()
	if n == 0 {
		return
	}
	p := &page{
		n:     n,
		rows:  &rowCols{rowSlices: rowSlices{uid: c.UIDs, size: c.Sizes, date: c.Dates, saved: c.Saved, msg: c.Msgs}},
		marks: &markCols{markSlices: markSlices{flags: c.Flags, modseq: c.ModSeqs}},
	}
	p.seal(e.sets)
	e.appendPage(p, c.UIDs[0], c.UIDs[n-1])
	e.tallyPage(p)
}

// appendPage adds a page behind all others, whose first and last UIDs are given.
func (e *Editor) appendPage(p *page, first, last imap.UID) {
	if k := len(e.pages) - 1; p.n > PageRows || k >= 0 && first <= e.pages[k].last() {
		panic("mailindex: a page of too many rows, or of UIDs that do not ascend")
	}
	if !e.grew {
		e.starts, e.firsts, e.grew = slices.Clone(e.starts), slices.Clone(e.firsts), true
	}
	e.pages, e.own = append(e.pages, p), append(e.own, ownsPage)
	e.starts, e.firsts = append(e.starts, int32(e.n)), append(e.firsts, first)
	e.n += p.n
	e.sum.join(&p.sum)
	e.meta.UIDNext = max(e.meta.UIDNext, last+1)
	e.meta.HighestModSeq = max(e.meta.HighestModSeq, p.sum.maxModSeq)
}

// tallyPage counts the rows of a page by their flags.
func (e *Editor) tallyPage(p *page) {
	var few [tallyRows]int // most mailboxes have few combinations
	for _, id := range p.marks.get().flags[:p.n] {
		if int(id) < len(few) {
			few[id]++
		} else {
			e.tally.add(id, 1)
		}
	}
	for id, n := range few[:min(len(few), len(e.sets))] {
		if n > 0 {
			e.tally.add(FlagsID(id), n)
		}
	}
}
