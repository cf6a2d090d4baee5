package mailindex

import (
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
)

// Row describes one message of a mailbox.
type Row struct {
	UID      imap.UID
	Flags    FlagsID
	ModSeq   imap.ModSeq
	Size     uint32 // octets of the message as served (RFC822.SIZE)
	Date     imap.Time
	SaveDate int64  // when it came into this mailbox, Unix seconds; 0 is unknown
	Msg      uint64 // the owner's key of the message; means nothing here
}

// PageRows is the greatest number of rows in a page.
const PageRows = 512

// Page is a run of consecutive rows as columns. Its slices must not be
// changed; they are as long as the page has rows.
type Page struct {
	First   int // position of the page's first row in the snapshot
	UIDs    []imap.UID
	Flags   []FlagsID
	ModSeqs []imap.ModSeq
	Sizes   []uint32
	Dates   []imap.Time
	Msgs    []uint64
	saved   []uint32
}

// Len returns the number of rows.
func (p *Page) Len() int { return len(p.UIDs) }

// SaveDate returns the save date of the page's row i, in Unix seconds.
func (p *Page) SaveDate(i int) int64 { return int64(p.saved[i]) }

// Row returns the page's row i.
func (p *Page) Row(i int) Row {
	return Row{
		UID: p.UIDs[i], Flags: p.Flags[i], ModSeq: p.ModSeqs[i], Size: p.Sizes[i],
		Date: p.Dates[i], SaveDate: int64(p.saved[i]), Msg: p.Msgs[i],
	}
}

// page is a run of rows. It is immutable once a snapshot holds it, except
// that rows may be added behind its end, which those who hold the page with
// its old length never look at.
type page struct {
	n     int
	rows  *rowCols
	marks *markCols
	sum   sums
}

// sums are counters over some rows.
type sums struct {
	maxModSeq       imap.ModSeq
	unseen, deleted int
	size, delSize   int64
}

func (s *sums) add(bits FlagBits, size uint32, sign int) {
	s.addRows(bits, sign, int64(sign)*int64(size))
}

// addRows adds n rows, or takes -n away, which have size bytes together.
func (s *sums) addRows(bits FlagBits, n int, size int64) {
	s.size += size
	if bits&BitSeen == 0 {
		s.unseen += n
	}
	if bits&BitDeleted != 0 {
		s.deleted += n
		s.delSize += size
	}
}

// join adds the counters of other rows.
func (s *sums) join(other *sums) {
	s.maxModSeq = max(s.maxModSeq, other.maxModSeq)
	s.unseen += other.unseen
	s.deleted += other.deleted
	s.size += other.size
	s.delSize += other.delSize
}

// rowCols are the columns that never change in the life of a row, shared by
// pages of several snapshots.
type rowCols struct {
	used atomic.Int32 // rows that have been given to some page
	unpacking
	rowSlices // by way of get
}

type rowSlices struct {
	uid   []imap.UID
	size  []uint32
	date  []imap.Time
	saved []uint32
	msg   []uint64
}

// markCols are the columns that change with the flags.
type markCols struct {
	used atomic.Int32
	unpacking
	markSlices // by way of get
}

type markSlices struct {
	flags  []FlagsID
	modseq []imap.ModSeq
}

func newRowCols(capacity int) *rowCols {
	return &rowCols{rowSlices: rowSlices{
		uid: make([]imap.UID, capacity), size: make([]uint32, capacity), date: make([]imap.Time, capacity),
		saved: make([]uint32, capacity), msg: make([]uint64, capacity),
	}}
}

func newMarkCols(capacity int) *markCols {
	return &markCols{markSlices: markSlices{flags: make([]FlagsID, capacity), modseq: make([]imap.ModSeq, capacity)}}
}

func (c *rowSlices) set(i int, r *Row) {
	c.uid[i], c.size[i], c.msg[i], c.date[i] = r.UID, r.Size, r.Msg, r.Date
	c.saved[i] = packSaved(r.SaveDate)
}

// copyRange copies src[from:to] to c[at:].
func (c *rowSlices) copyRange(at int, src *rowSlices, from, to int) {
	copy(c.uid[at:], src.uid[from:to])
	copy(c.size[at:], src.size[from:to])
	copy(c.date[at:], src.date[from:to])
	copy(c.saved[at:], src.saved[from:to])
	copy(c.msg[at:], src.msg[from:to])
}

func (c *markSlices) copyRange(at int, src *markSlices, from, to int) {
	copy(c.flags[at:], src.flags[from:to])
	copy(c.modseq[at:], src.modseq[from:to])
}

// packSaved keeps a save date in 32 bits, which last until 2106; what does
// not fit is kept as the nearest that does.
func packSaved(unix int64) uint32 {
	return uint32(min(max(unix, 0), 1<<32-1))
}

func (p *page) row(i int) Row {
	rows, marks := p.rows.get(), p.marks.get()
	return Row{
		UID: rows.uid[i], Flags: marks.flags[i], ModSeq: marks.modseq[i], Size: rows.size[i],
		Date: rows.date[i], SaveDate: int64(rows.saved[i]), Msg: rows.msg[i],
	}
}

// newPage returns an empty page with columns of its own.
func newPage(capacity int) *page {
	return &page{rows: newRowCols(capacity), marks: newMarkCols(capacity)}
}

// pageCap is the capacity for a page that holds n rows and may grow.
func pageCap(n int) int {
	c := 8
	for c < n {
		c *= 2
	}
	return min(c, PageRows)
}

// reserve makes room for one more row behind p's last. Where p is the newest
// user of its columns it goes on sharing them; p itself must not be shared.
func (p *page) reserve() {
	n := int32(p.n)
	if rows := p.rows.get(); p.n >= len(rows.uid) || !p.rows.used.CompareAndSwap(n, n+1) {
		c := newRowCols(pageCap(p.n + 1))
		c.copyRange(0, rows, 0, p.n)
		c.used.Store(n + 1)
		p.rows = c
	}
	if marks := p.marks.get(); p.n >= len(marks.flags) || !p.marks.used.CompareAndSwap(n, n+1) {
		c := newMarkCols(pageCap(p.n + 1))
		c.copyRange(0, marks, 0, p.n)
		c.used.Store(n + 1)
		p.marks = c
	}
}

// push adds a row to a page that is not shared.
func (p *page) push(r *Row, bits FlagBits) {
	p.reserve()
	p.rows.set(p.n, r)
	p.marks.flags[p.n], p.marks.modseq[p.n] = r.Flags, r.ModSeq
	p.n++
	p.sum.maxModSeq = max(p.sum.maxModSeq, r.ModSeq)
	p.sum.add(bits, r.Size, 1)
}

// ownMarks gives p its own copy of the columns that change.
func (p *page) ownMarks() {
	marks := p.marks.get()
	c := newMarkCols(len(marks.flags))
	c.copyRange(0, marks, 0, p.n)
	c.used.Store(int32(p.n))
	p.marks = c
}

// remeasure computes the counters of p.
func (p *page) remeasure(sets []*FlagSet) {
	p.sum = sums{}
	rows, marks := p.rows.get(), p.marks.get()
	for i := range p.n {
		p.sum.maxModSeq = max(p.sum.maxModSeq, marks.modseq[i])
		p.sum.add(sets[marks.flags[i]].bits, rows.size[i], 1)
	}
}
