package mailstore

import (
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// This file reads the rows of a mailbox from disk: pages, and the loose rows
// beside them and in place of rows of theirs, with the flags that storings have
// given them (storing.go). How they lie there says pages.go.

// unit is a piece of what is on disk: a page with the loose rows that override
// it, or a run of loose rows that are in no page.
type unit struct {
	page  imap.UID // the key of the page; 0 for a run
	end   imap.UID // no row of it has a greater UID
	tail  bool     // a run with no page behind it
	rows  mailindex.Columns
	loose []imap.UID // all loose records, those included that take rows away

	packed *mailindex.PackedRows // in place of rows: see rowReader.pack

	settled bool // rows have changed by storings
}

// rowReader reads the rows of a mailbox that are on disk, those included that
// are in graves. It is used by one goroutine.
type rowReader struct {
	r      driver.Reader
	box    boxNum
	intern func(code []byte) (mailindex.FlagsID, error) // gives flags a number
	keep   bool                                         // units stay valid when the callback has returned

	// pack, where it is set, reports whether rows from first to last may stay packed,
	// if they are a page that nothing has changed. Such a unit has no rows.
	pack func(first, last imap.UID, flags []mailindex.FlagsID) bool
	scan pageScan

	anyLoose bool // visit goes to all units with loose records

	storings settler

	page, run mailindex.Columns // where units are not kept
}

func (p *rowReader) columns(c *mailindex.Columns) mailindex.Columns {
	if p.keep {
		return mailindex.Columns{}
	}
	return *c
}

var errOverlap = errors.New("their page overlaps the one before")

// errPast ends a scan that has come to the end of what was asked for.
var errPast = errors.New("mailstore: past the last row")

// units calls fn for each unit with UIDs from first to last, in their order. A
// page is whole, though rows of it may be outside.
func (p *rowReader) units(first, last imap.UID, fn func(u *unit) error) error {
	if err := p.begin(); err != nil {
		return err
	}
	l := looseReader{r: p.r, box: p.box, next: first}
	if p.keep {
		// All are wanted: then one scan before that of the pages costs least.
		l.size = looseMost
		if err := l.read(); err != nil {
			return err
		}
	}
	before := imap.UID(0) // the last row of the page before
	err := scanRange(p.r, rowKey(nil, keyPage, p.box, first), prefixEnd(boxKey(keyPage, p.box)), func(key, value []byte) error {
		u := unit{page: uidOfRowKey(key), end: uidOfRowKey(key)}
		page, cols, err := openPage(value, p.intern)
		from := imap.UID(cols.uids.first())
		if err == nil && from > u.page {
			err = errPage()
		}
		if err != nil {
			return imap.E("mailstore: read rows up to UID "+u.page.String(), imap.Other, err)
		}
		if before == 0 && from < first {
			l.next = min(l.next, from)
		}
		if from <= before {
			return imap.E("mailstore: read rows up to UID "+u.page.String(), imap.Corruption, errOverlap)
		}
		before = u.page
		if err := p.runs(&l, min(from-1, last), false, fn); err != nil {
			return err
		}
		if from > last {
			return errPast
		}
		list, err := l.take(u.page, 1<<30)
		if err == nil {
			err = p.read(&u, &page, &cols, list)
		}
		if err == nil {
			err = fn(&u)
		}
		if err == nil && u.page >= last {
			err = errPast
		}
		return err
	})
	if errors.Is(err, errPast) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.runs(&l, last, true, fn)
}

// read reads the rows of a page, and of the loose rows that override it.
func (p *rowReader) read(u *unit, page *packedPage, cols *pageColumns, list []looseRow) error {
	var err error
	if p.pack != nil && len(list) == 0 && len(p.storings.list) == 0 && p.pack(imap.UID(cols.uids.first()), u.page, page.flags) {
		u.packed, err = p.scan.scan(page, u.page, cols)
	} else {
		u.rows = p.columns(&p.page)
		err = page.read(&u.rows, u.page, cols)
		p.page = u.rows
	}
	if err != nil {
		return imap.E("mailstore: read rows up to UID "+u.page.String(), imap.Other, err)
	}
	if u.packed != nil {
		return nil
	}
	if err := p.override(u, list); err != nil {
		return err
	}
	return p.settle(u)
}

// runs calls fn for loose rows up to last.
func (p *rowReader) runs(l *looseReader, last imap.UID, tail bool, fn func(u *unit) error) error {
	for {
		list, err := l.take(last, mailindex.PageRows)
		if err != nil || len(list) == 0 {
			return err
		}
		u := unit{end: list[len(list)-1].uid, tail: tail, rows: p.columns(&p.run)}
		u.rows.Resize(len(list))
		var gone []int
		for i, rec := range list {
			u.loose = append(u.loose, rec.uid)
			if len(rec.value) == 0 {
				gone = append(gone, i)
			} else if err := p.set(&u, i, rec); err != nil {
				return err
			}
		}
		p.run = u.rows
		u.rows.Remove(gone)
		if err := p.settle(&u); err != nil {
			return err
		}
		if err := fn(&u); err != nil {
			return err
		}
	}
}

// override applies loose rows to their page.
func (p *rowReader) override(u *unit, list []looseRow) error {
	var gone []int
	for _, rec := range list {
		i, ok := slices.BinarySearch(u.rows.UIDs, rec.uid)
		if !ok {
			return imap.E("mailstore: read row with UID "+rec.uid.String(), imap.Corruption, errDamaged)
		}
		u.loose = append(u.loose, rec.uid)
		if len(rec.value) == 0 {
			gone = append(gone, i)
		} else if err := p.set(u, i, rec); err != nil {
			return err
		}
	}
	u.rows.Remove(gone)
	return nil
}

func (p *rowReader) set(u *unit, i int, rec looseRow) error {
	row, code, err := decodeRow(rec.uid, rec.value)
	if err != nil {
		return err
	}
	if row.Flags, err = p.intern(code); err != nil {
		return err
	}
	u.rows.Set(i, &row)
	return nil
}

// errJump ends a scan that would go on through rows that nobody asked for.
var errJump = errors.New("mailstore: far from the next row")

// visit calls fn for each unit that has rows of uids, with their positions in
// it.
func (p *rowReader) visit(uids imap.UIDSet, fn func(u *unit, rows []int) error) error {
	ranges := slices.Clone(uids.Ranges())
	for len(ranges) > 0 {
		err := p.units(ranges[0].Start, ranges[len(ranges)-1].Stop, func(u *unit) error {
			rows := positions(u.rows.UIDs, ranges)
			wanted := len(rows) > 0 || p.anyLoose && len(u.loose) > 0
			if wanted {
				if err := fn(u, rows); err != nil {
					return err
				}
			}
			for len(ranges) > 0 && ranges[0].Stop <= u.end {
				ranges = ranges[1:]
			}
			if len(ranges) == 0 {
				return errPast
			}
			ranges[0].Start = max(ranges[0].Start, u.end+1)
			if !wanted {
				return errJump
			}
			return nil
		})
		if errors.Is(err, errPast) || err == nil {
			return nil
		}
		if !errors.Is(err, errJump) {
			return err
		}
	}
	return nil
}

// positions returns where in uids the members of ranges are.
func positions(uids []imap.UID, ranges []imap.UIDRange) []int {
	var list []int
	for i, uid := range uids {
		for len(ranges) > 0 && ranges[0].Stop < uid {
			ranges = ranges[1:]
		}
		if len(ranges) == 0 {
			break
		}
		if uid >= ranges[0].Start {
			list = append(list, i)
		}
	}
	return list
}

// looseRow is a loose record.
type looseRow struct {
	uid   imap.UID
	value []byte // empty where it takes the row away
}

// looseReader reads loose records in the order of UIDs, some at a time.
type looseReader struct {
	r    driver.Reader
	box  boxNum
	next imap.UID // where to go on reading
	done bool     // all have been read
	size int      // how many were read the last time
	list []looseRow
	room []byte // for values
}

// How many loose records are read at a time: few at first, since often one
// page is all that is asked for, and twice as many each time.
const (
	looseFirst = 32
	looseMost  = 4096
)

// take returns the next records with UIDs up to last, limit at most.
func (l *looseReader) take(last imap.UID, limit int) ([]looseRow, error) {
	for !l.done && len(l.list) < limit && (len(l.list) == 0 || l.list[len(l.list)-1].uid < last) {
		if err := l.read(); err != nil {
			return nil, err
		}
	}
	n := 0
	for n < min(len(l.list), limit) && l.list[n].uid <= last {
		n++
	}
	list := l.list[:n:n]
	l.list = l.list[n:]
	return list, nil
}

func (l *looseReader) read() error {
	l.size = min(max(2*l.size, looseFirst), looseMost)
	room := l.size
	err := scanRange(l.r, rowKey(nil, keyLoose, l.box, l.next), prefixEnd(boxKey(keyLoose, l.box)), func(key, value []byte) error {
		if room == 0 {
			return errEnough
		}
		room--
		uid := uidOfRowKey(key)
		l.list = append(l.list, looseRow{uid, l.copy(value)})
		l.next = uid + 1
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	l.done = true
	return err
}

// looseBytes is how much memory is taken for values at a time, at most.
const looseBytes = 16 << 10

// copy copies a value into memory that many share.
func (l *looseReader) copy(value []byte) []byte {
	if cap(l.room)-len(l.room) < len(value) {
		l.room = make([]byte, 0, max(min(32*l.size, looseBytes), len(value)))
	}
	from := len(l.room)
	l.room = append(l.room, value...)
	return l.room[from:len(l.room):len(l.room)]
}
