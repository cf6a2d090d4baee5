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
	mask, at := c.mask(), 0
	for i := range dst {
		dst[i] = T(base + int64(binary.LittleEndian.Uint64(c.data[at:at+wordBytes])&mask))
		at += c.width
		base += step
	}
}

// totals returns the sum of a column's values, as readColumn has them, and the
// greatest.
func totals[T ~uint32 | ~uint64](c *pageColumn, rows int) (sum int64, greatest T) {
	if c.constant() {
		return int64(T(c.base)) * int64(rows), T(c.base)
	}
	base, mask, at := c.base, c.mask(), 0
	for range rows {
		v := T(base + int64(binary.LittleEndian.Uint64(c.data[at:at+wordBytes])&mask))
		sum += int64(v)
		greatest = max(greatest, v)
		at += c.width
		base += int64(c.step)
	}
	return sum, greatest
}

// mask has the bits of a value, which is read as a word. Of no bytes it is 0.
func (c *pageColumn) mask() uint64 { return 1<<(8*c.width) - 1 }

// first returns the first value.
func (c *pageColumn) first() int64 {
	if c.width == 0 {
		return c.base
	}
	return c.base + int64(binary.LittleEndian.Uint64(c.data)&c.mask())
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
	found   mailindex.PackedRows
	scratch mailindex.Columns
	counts  [mailindex.PageRows]int // by place in the dictionary
}

// scan returns the rows of a page, in memory of their own, with what there is to
// say of them, which the next call overwrites.
func (s *pageScan) scan(p *packedPage, last imap.UID, cols *pageColumns) (*mailindex.PackedRows, error) {
	s.scratch.Resize(p.rows)
	if !s.ascend(p, last, cols) || !s.countFlags(p, cols) {
		return nil, errPage()
	}
	found := &s.found
	found.Rows = &packedPage{rows: p.rows, flags: p.flags, data: slices.Clone(p.data)}
	found.Len, found.First, found.Last = p.rows, imap.UID(cols.uids.first()), last
	_, found.MaxModSeq = totals[imap.ModSeq](&cols.modseqs, p.rows)
	found.Size, _ = totals[uint32](&cols.sizes, p.rows)
	found.DeletedSize, found.Flags = 0, found.Flags[:0]
	for place, id := range p.flags {
		if n := s.counts[place]; n > 0 {
			found.Flags = append(found.Flags, mailindex.FlagsCount{ID: id, Count: n})
			if s.deleted(id) {
				found.DeletedSize += s.sizeOf(place, cols)
			}
		}
	}
	return found, nil
}

// ascend reports whether the UIDs ascend to last.
func (s *pageScan) ascend(p *packedPage, last imap.UID, cols *pageColumns) bool {
	c := &cols.uids
	if c.width == 0 && c.step == 1 && c.base > 0 && c.base+int64(p.rows)-1 == int64(last) {
		return true // as most do: they have no gaps
	}
	readColumn(s.scratch.UIDs, c)
	return ascend(s.scratch.UIDs, last)
}

// countFlags counts the rows by their flags, and reports whether all are in the
// dictionary.
func (s *pageScan) countFlags(p *packedPage, cols *pageColumns) bool {
	clear(s.counts[:len(p.flags)])
	if cols.flags.constant() {
		place := uint32(cols.flags.base)
		if int(place) >= len(p.flags) {
			return false
		}
		s.counts[place] = p.rows
		return true
	}
	readColumn(s.scratch.Flags, &cols.flags)
	for _, place := range s.scratch.Flags {
		if int(place) >= len(p.flags) {
			return false
		}
		s.counts[place]++
	}
	return true
}

// sizeOf returns the sum of the sizes of rows with the flags at a place in the
// dictionary.
func (s *pageScan) sizeOf(place int, cols *pageColumns) (sum int64) {
	readColumn(s.scratch.Sizes, &cols.sizes)
	readColumn(s.scratch.Flags, &cols.flags)
	for i, size := range s.scratch.Sizes {
		if int(s.scratch.Flags[i]) == place {
			sum += int64(size)
		}
	}
	return sum
}
