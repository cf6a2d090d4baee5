package mailindex

import (
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
)

// Packed are the rows of a page in a form that takes less room and time than
// columns. They become columns when somebody first looks at one of them, which
// in a large mailbox never happens to most; until then [PackedRows] says what
// has to be known. Each method is called once at most, by any goroutine, and
// cannot fail: whoever packs rows looks at them before.
type Packed interface {
	// UnpackRows fills the columns of c but Flags and ModSeqs, which are nil. The
	// others are as long as there are rows.
	UnpackRows(c *Columns)
	// UnpackMarks fills Flags and ModSeqs; the other columns are nil.
	UnpackMarks(c *Columns)
}

// PackedRows says of packed rows what a snapshot tells without looking at them.
type PackedRows struct {
	Rows        Packed
	Len         int // PageRows at most, and not 0
	First, Last imap.UID
	MaxModSeq   imap.ModSeq
	Flags       []FlagsCount // the combinations that rows have, each once
	Size        int64        // the sum of all sizes
	DeletedSize int64        // of the rows with \Deleted
}

// FlagsCount is how many rows have a combination of flags.
type FlagsCount struct {
	ID    FlagsID
	Count int
}

// AppendPacked is [Editor.AppendColumns] for rows that are packed. It keeps
// p.Rows until they are unpacked, and nothing else of p.
func (e *Editor) AppendPacked(p *PackedRows) {
	// Rows may only be added behind the last one once there are columns for them.
	q := &page{n: p.Len, rows: new(rowCols), marks: new(markCols)}
	q.rows.pack(p)
	q.marks.pack(p)
	q.claim()
	q.sum = sums{maxModSeq: p.MaxModSeq, size: p.Size, delSize: p.DeletedSize}
	for _, f := range p.Flags {
		bits := e.sets[f.ID].bits
		if bits&BitSeen == 0 {
			q.sum.unseen += f.Count
		}
		if bits&BitDeleted != 0 {
			q.sum.deleted += f.Count
		}
		e.tally.add(f.ID, f.Count)
	}
	e.appendPage(q, p.First, p.Last)
}

// unpacking is what columns are made of when they are first looked at.
type unpacking struct {
	pending     atomic.Bool // there are no columns yet
	once        sync.Once
	packed      Packed
	n           int
	first, last imap.UID
}

func (u *unpacking) pack(p *PackedRows) {
	u.packed, u.n, u.first, u.last = p.Rows, p.Len, p.First, p.Last
	u.pending.Store(true)
}

// done lets go of the packed rows: there are columns now.
func (u *unpacking) done() {
	u.packed = nil
	u.pending.Store(false)
}

// get returns the columns, unpacking them where they are packed.
func (c *rowCols) get() *rowSlices {
	if c.pending.Load() {
		c.unpack()
	}
	return &c.rowSlices
}

func (c *rowCols) unpack() {
	c.once.Do(func() {
		s := newRowCols(c.n)
		c.packed.UnpackRows(&Columns{UIDs: s.uid, Sizes: s.size, Dates: s.date, Saved: s.saved, Msgs: s.msg})
		c.rowSlices = s.rowSlices
		c.done()
	})
}

// get returns the columns, unpacking them where they are packed.
func (c *markCols) get() *markSlices {
	if c.pending.Load() {
		c.unpack()
	}
	return &c.markSlices
}

func (c *markCols) unpack() {
	c.once.Do(func() {
		s := newMarkCols(c.n)
		c.packed.UnpackMarks(&Columns{Flags: s.flags, ModSeqs: s.modseq})
		c.markSlices = s.markSlices
		c.done()
	})
}

// first returns the least UID of the page, without unpacking it.
func (p *page) first() imap.UID {
	if p.rows.pending.Load() {
		return p.rows.first
	}
	return p.rows.uid[0]
}

// last returns the greatest UID of the page, without unpacking it.
func (p *page) last() imap.UID {
	if p.rows.pending.Load() {
		return p.rows.last
	}
	return p.rows.uid[p.n-1]
}
