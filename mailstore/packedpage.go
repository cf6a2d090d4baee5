package mailstore

import (
	"encoding/binary"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// This file reads pages of rows (pages.go has their form): all columns at once,
// or only what a snapshot has to know before somebody looks at the rows.

// packedPage is a page whose columns have not been read. It implements
// mailindex.Packed.
type packedPage struct {
	rows  int
	flags []mailindex.FlagsID // the dictionary
	data  []byte              // the columns
}

// pageColumns are the columns of a page, in their order.
type pageColumns struct{ uids, flags, modseqs, sizes, dates, saved, msgs pageColumn }

// pageColumn is a column that has not been read: see appendColumn.
type pageColumn struct {
	width, step int
	base        int64
	data        []byte // the values, and more behind them: wordBytes at least
}

// openPage decodes what stands before the columns, in data's memory, and finds
// the columns. intern gives flags a number.
func openPage(data []byte, intern func(code []byte) (mailindex.FlagsID, error)) (p packedPage, c pageColumns, err error) {
	d := decoder{data: data}
	rows, flags := d.uint(), d.uint()
	if rows == 0 || rows > mailindex.PageRows || flags > rows {
		return p, c, errPage()
	}
	p.flags = make([]mailindex.FlagsID, 0, flags)
	for range flags {
		n := d.uint()
		if n > uint64(len(d.data)) {
			return p, c, errPage()
		}
		id, err := intern(d.data[:n])
		if err != nil {
			return p, c, err
		}
		p.flags = append(p.flags, id)
		d.data = d.data[n:]
	}
	p.rows, p.data = int(rows), d.data
	if c = p.columns(&d); d.bad {
		return p, c, errPage()
	}
	return p, c, nil
}

func (p *packedPage) columns(d *decoder) (c pageColumns) {
	for _, col := range [...]*pageColumn{&c.uids, &c.flags, &c.modseqs, &c.sizes, &c.dates, &c.saved, &c.msgs} {
		*col = d.column(p.rows)
	}
	return c
}

// column finds a column of so many rows.
func (d *decoder) column(rows int) (c pageColumn) {
	if len(d.data) == 0 {
		d.bad = true
		return c
	}
	head := d.data[0]
	d.data = d.data[1:]
	c = pageColumn{width: int(head & 0xf), step: int(head >> 4), base: d.int(), data: d.data}
	size := rows * c.width
	if c.width > wordBytes || c.step > 1 || len(d.data) < size+wordBytes {
		d.bad, d.data = true, nil
		return pageColumn{}
	}
	d.data = d.data[size:]
	return c
}

// readColumn fills dst, which has a value for each row.
func readColumn[T ~uint32 | ~uint64 | ~int64](dst []T, c *pageColumn) {
	base, step := c.base, int64(c.step)
	if c.width == 0 {
		for i := range dst {
			dst[i] = T(base + step*int64(i))
		}
		return
	}
	mask := ^uint64(0) >> (8 * (wordBytes - c.width))
	at := c.data
	for i := range dst {
		dst[i] = T(base + int64(binary.LittleEndian.Uint64(at)&mask))
		at = at[c.width:]
		base += step
	}
}

// first returns the first value.
func (c *pageColumn) first() int64 {
	if c.width == 0 {
		return c.base
	}
	return c.base + int64(binary.LittleEndian.Uint64(c.data)&(^uint64(0)>>(8*(wordBytes-c.width))))
}

// constant reports whether all values are the same.
func (c *pageColumn) constant() bool { return c.width == 0 && c.step == 0 }

// readPage decodes a page into c. intern gives flags a number.
func readPage(c *mailindex.Columns, last imap.UID, data []byte, intern func(code []byte) (mailindex.FlagsID, error)) error {
	p, cols, err := openPage(data, intern)
	if err != nil {
		return err
	}
	return p.read(c, last, &cols)
}

// read decodes all columns into c.
func (p *packedPage) read(c *mailindex.Columns, last imap.UID, cols *pageColumns) error {
	c.Resize(p.rows)
	readColumn(c.UIDs, &cols.uids)
	readColumn(c.Flags, &cols.flags)
	readColumn(c.ModSeqs, &cols.modseqs)
	readColumn(c.Sizes, &cols.sizes)
	readColumn(c.Dates, &cols.dates)
	readColumn(c.Saved, &cols.saved)
	readColumn(c.Msgs, &cols.msgs)
	if !ascend(c.UIDs, last) {
		return errPage()
	}
	for i, at := range c.Flags {
		if int(at) >= len(p.flags) {
			return errPage()
		}
		c.Flags[i] = p.flags[at]
	}
	return nil
}

func errPage() error { return imap.E("mailstore: read page of rows", imap.Corruption, errDamaged) }

// ascend reports whether uids ascend from 1 or more to last.
func ascend(uids []imap.UID, last imap.UID) bool {
	before := imap.UID(0)
	for _, uid := range uids {
		if uid <= before {
			return false
		}
		before = uid
	}
	return before == last
}

// UnpackRows implements mailindex.Packed.
func (p *packedPage) UnpackRows(c *mailindex.Columns) {
	cols := p.columns(&decoder{data: p.data})
	readColumn(c.UIDs, &cols.uids)
	readColumn(c.Sizes, &cols.sizes)
	readColumn(c.Dates, &cols.dates)
	readColumn(c.Saved, &cols.saved)
	readColumn(c.Msgs, &cols.msgs)
}

// UnpackMarks implements mailindex.Packed.
func (p *packedPage) UnpackMarks(c *mailindex.Columns) {
	cols := p.columns(&decoder{data: p.data})
	readColumn(c.Flags, &cols.flags)
	readColumn(c.ModSeqs, &cols.modseqs)
	for i, at := range c.Flags {
		c.Flags[i] = p.flags[at]
	}
}

// A pageScan looks through pages for what a snapshot has to know of them, and
// whether they are sound: who unpacks one later has nobody to tell.
type pageScan struct {
	deleted func(mailindex.FlagsID) bool // whether flags have \Deleted
	scratch mailindex.Columns
	counts  [mailindex.PageRows]int // by place in the dictionary; all zero between pages
}

// scan returns the rows of a page, in memory of their own, with what there is to
// say of them.
func (s *pageScan) scan(p *packedPage, last imap.UID, cols *pageColumns) (*mailindex.PackedRows, error) {
	s.scratch.Resize(p.rows)
	own := &packedPage{rows: p.rows, flags: p.flags, data: slices.Clone(p.data)}
	sum := &mailindex.PackedRows{Rows: own, Len: p.rows, First: imap.UID(cols.uids.first()), Last: last}
	readColumn(s.scratch.UIDs, &cols.uids)
	if !ascend(s.scratch.UIDs, last) || !s.countFlags(p, cols) {
		return nil, errPage()
	}
	if cols.modseqs.constant() {
		sum.MaxModSeq = imap.ModSeq(cols.modseqs.base)
	} else {
		readColumn(s.scratch.ModSeqs, &cols.modseqs)
		sum.MaxModSeq = slices.Max(s.scratch.ModSeqs)
	}
	readColumn(s.scratch.Sizes, &cols.sizes)
	for _, size := range s.scratch.Sizes {
		sum.Size += int64(size)
	}
	for at, id := range p.flags {
		n := s.counts[at]
		s.counts[at] = 0
		if n == 0 {
			continue
		}
		sum.Flags = append(sum.Flags, mailindex.FlagsCount{ID: id, Count: n})
		if s.deleted(id) {
			for i, size := range s.scratch.Sizes {
				if int(s.scratch.Flags[i]) == at {
					sum.DeletedSize += int64(size)
				}
			}
		}
	}
	return sum, nil
}

// countFlags counts the rows by their flags, and reports whether all are in the
// dictionary.
func (s *pageScan) countFlags(p *packedPage, cols *pageColumns) bool {
	readColumn(s.scratch.Flags, &cols.flags)
	if len(p.flags) == 0 || int(slices.Max(s.scratch.Flags)) >= len(p.flags) {
		return false
	}
	if cols.flags.constant() {
		s.counts[cols.flags.base] = p.rows
		return true
	}
	for _, at := range s.scratch.Flags {
		s.counts[at]++
	}
	return true
}
