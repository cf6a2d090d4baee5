package mailindex

import (
	"fmt"
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// Editor makes a new snapshot out of another one. It costs what it touches,
// and a copy of the list of pages. An editor is used by one goroutine; the
// snapshot that it began with does not change. An editor may be dropped
// without Commit.
//
// Positions given to its methods are those of the snapshot that is edited,
// followed by the rows appended with this editor: a removed row keeps its
// place until Commit.
type Editor struct {
	base   *Snapshot
	meta   Meta
	table  *flagTable
	sets   []*FlagSet
	pages  []*page
	starts []int32
	firsts []imap.UID
	own    []ownership
	gone   map[int]*goneRows
	n      int // rows, the removed ones included
	sum    sums
	tally  tallyEdit
	grew   bool // starts and firsts are ours
}

type ownership uint8

const (
	ownsPage ownership = 1 << iota
	ownsMarks
)

// goneRows are the removed rows of a page.
type goneRows struct {
	bits  [PageRows / 64]uint64
	count int
}

func (g *goneRows) has(i int) bool { return g != nil && g.bits[i/64]&(1<<(i%64)) != 0 }

// Edit begins a change.
func (s *Snapshot) Edit() *Editor {
	return &Editor{
		base: s, meta: s.meta, table: s.table, sets: s.sets,
		pages: slices.Clone(s.pages), starts: s.starts, firsts: s.firsts,
		own: make([]ownership, len(s.pages)), n: s.n, sum: s.sum, tally: editTally(s.tally),
	}
}

// Meta returns the values to be changed; Commit takes them as they are then.
// Append and SetFlags raise UIDNext and HighestModSeq by themselves.
func (e *Editor) Meta() *Meta { return &e.meta }

// Intern returns the id of a combination of flags. \Recent and system flags
// that are not known are left out; doubles do not matter.
func (e *Editor) Intern(flags []imap.Flag) FlagsID {
	id := e.table.intern(flags)
	if int(id) >= len(e.sets) {
		e.sets, _ = e.table.view()
	}
	return id
}

// internFrom returns the id of another snapshot's combination.
func (e *Editor) internFrom(s *Snapshot, id FlagsID) FlagsID {
	if s.table == e.table {
		if int(id) >= len(e.sets) {
			e.sets, _ = e.table.view()
		}
		return id
	}
	own := e.table.internSet(s.sets[id])
	if int(own) >= len(e.sets) {
		e.sets, _ = e.table.view()
	}
	return own
}

// Flags returns the combination with an id that Intern has returned.
func (e *Editor) Flags(id FlagsID) *FlagSet { return e.sets[id] }

// Append adds a row behind all others. Its UID must be greater than every UID
// in the snapshot, its flags come from Intern.
func (e *Editor) Append(r Row) {
	k := len(e.pages) - 1
	if k >= 0 {
		if last := e.pages[k].last(); r.UID <= last {
			panic(fmt.Sprintf("mailindex: Append of UID %d after %d", r.UID, last))
		}
	}
	if k < 0 || e.pages[k].n >= PageRows {
		capacity := PageRows
		if k < 0 {
			capacity = pageCap(1)
		}
		if !e.grew {
			e.starts, e.firsts, e.grew = slices.Clone(e.starts), slices.Clone(e.firsts), true
		}
		e.pages = append(e.pages, newPage(capacity))
		e.own = append(e.own, ownsPage)
		e.starts = append(e.starts, int32(e.n))
		e.firsts = append(e.firsts, r.UID)
		k++
	}
	bits := e.sets[r.Flags].bits
	e.ownPage(k).push(&r, bits)
	e.n++
	e.sum.add(bits, r.Size, 1)
	e.tally.add(r.Flags, 1)
	e.meta.UIDNext = max(e.meta.UIDNext, r.UID+1)
	e.meta.HighestModSeq = max(e.meta.HighestModSeq, r.ModSeq)
}

// SetFlags gives the row at position i other flags and a new mod-sequence. A
// removed row stays as it is.
func (e *Editor) SetFlags(i int, flags FlagsID, modseq imap.ModSeq) {
	e.SetFlagsRun(i, 1, flags, modseq)
}

// SetFlagsRun is [Editor.SetFlags] for n rows from position i on.
func (e *Editor) SetFlagsRun(i, n int, flags FlagsID, modseq imap.ModSeq) {
	for n > 0 {
		k, off := e.locate(i)
		end := min(off+n, e.pages[k].n)
		i, n = i+end-off, n-(end-off)
		for off < end {
			flagsOf := e.pages[k].marks.get().flags
			old := flagsOf[off]
			same := off
			for same < end && flagsOf[same] == old && !e.gone[k].has(same) {
				same++
			}
			e.setFlags(k, off, same, old, flags, modseq)
			off = max(same, off+1) // a row that is gone stays as it is
		}
	}
}

// setFlags changes rows of page k that have the same flags.
func (e *Editor) setFlags(k, from, to int, old, flags FlagsID, modseq imap.ModSeq) {
	if from == to {
		return
	}
	p := e.ownPage(k)
	if e.own[k]&ownsMarks == 0 {
		p.ownMarks()
		e.own[k] |= ownsMarks
	}
	size, sizes := int64(0), p.rows.get().size
	for off := from; off < to; off++ {
		p.marks.flags[off], p.marks.modseq[off] = flags, modseq
		size += int64(sizes[off])
	}
	p.sum.maxModSeq = max(p.sum.maxModSeq, modseq)
	e.meta.HighestModSeq = max(e.meta.HighestModSeq, modseq)
	if old == flags {
		return
	}
	n := to - from
	e.tally.add(old, -n)
	e.tally.add(flags, n)
	before, after := e.sets[old].bits, e.sets[flags].bits
	for _, sum := range [...]*sums{&p.sum, &e.sum} {
		sum.addRows(before, -n, -size)
		sum.addRows(after, n, size)
	}
}

// FlagsID returns the flags that the row at position i has by now.
func (e *Editor) FlagsID(i int) FlagsID {
	k, off := e.locate(i)
	return e.pages[k].marks.get().flags[off]
}

// Remove takes away the row at position i. Doing so twice does no harm.
func (e *Editor) Remove(i int) {
	k, off := e.locate(i)
	g := e.gone[k]
	if g.has(off) {
		return
	}
	if g == nil {
		if e.gone == nil {
			e.gone = make(map[int]*goneRows)
		}
		g = new(goneRows)
		e.gone[k] = g
	}
	g.bits[off/64] |= 1 << (off % 64)
	g.count++
	p := e.pages[k]
	flags := p.marks.get().flags[off]
	e.sum.add(e.sets[flags].bits, p.rows.get().size[off], -1)
	e.tally.add(flags, -1)
}

func (e *Editor) locate(i int) (k, off int) {
	if i < 0 || i >= e.n {
		panic(fmt.Sprintf("mailindex: position %d of %d rows", i, e.n))
	}
	k = searchStarts(e.starts, i)
	return k, i - int(e.starts[k])
}

// ownPage returns page k as one that no snapshot holds.
func (e *Editor) ownPage(k int) *page {
	if e.own[k]&ownsPage == 0 {
		p := *e.pages[k]
		e.pages[k] = &p
		e.own[k] |= ownsPage
	}
	return e.pages[k]
}

// Commit returns the new snapshot. The editor must not be used afterwards.
func (e *Editor) Commit() *Snapshot {
	s := &Snapshot{
		meta: e.meta, pages: e.pages, starts: e.starts, firsts: e.firsts,
		n: e.n, sum: e.sum, table: e.table, tally: e.tally.tally,
	}
	s.sets, s.keywords = e.table.view()
	if len(e.gone) > 0 {
		e.compact(s)
	}
	if garbage := len(s.sets) - s.tally.live; garbage > rebuildGarbage && garbage > 3*s.tally.live {
		rebuildFlags(s)
	}
	return s
}

// rebuildGarbage is the least number of unused combinations for which the
// table is rebuilt. Rebuilding costs a walk over all rows.
const rebuildGarbage = 256

// compact drops removed rows, and joins neighbours that have become small.
func (e *Editor) compact(s *Snapshot) {
	pages := make([]*page, 0, len(e.pages))
	touched := false // the last page of pages has been made here
	for k, p := range e.pages {
		g := e.gone[k]
		if g != nil {
			if g.count == p.n {
				continue
			}
			p = p.without(g, s.sets)
		}
		if last := len(pages) - 1; last >= 0 && (touched || g != nil) && pages[last].n+p.n <= PageRows/2 {
			pages[last] = joinPages(pages[last], p)
			touched = true
			continue
		}
		pages = append(pages, p)
		touched = g != nil
	}
	s.pages = pages
	s.starts, s.firsts, s.n = directory(pages)
}

// directory returns where the rows of pages begin, and how many there are.
func directory(pages []*page) (starts []int32, firsts []imap.UID, n int) {
	starts = make([]int32, len(pages))
	firsts = make([]imap.UID, len(pages))
	for k, p := range pages {
		starts[k] = int32(n)
		firsts[k] = p.first()
		n += p.n
	}
	return starts, firsts, n
}

// without returns a page without the rows in g.
func (p *page) without(g *goneRows, sets []*FlagSet) *page {
	q := newPage(pageCap(p.n - g.count))
	for i := 0; i < p.n; {
		if g.has(i) {
			i++
			continue
		}
		end := i + 1
		for end < p.n && !g.has(end) {
			end++
		}
		q.rows.copyRange(q.n, p.rows.get(), i, end)
		q.marks.copyRange(q.n, p.marks.get(), i, end)
		q.n += end - i
		i = end
	}
	q.seal(sets)
	return q
}

// joinPages returns the rows of both pages in one.
func joinPages(a, b *page) *page {
	q := newPage(pageCap(a.n + b.n))
	q.rows.copyRange(0, a.rows.get(), 0, a.n)
	q.rows.copyRange(a.n, b.rows.get(), 0, b.n)
	q.marks.copyRange(0, a.marks.get(), 0, a.n)
	q.marks.copyRange(a.n, b.marks.get(), 0, b.n)
	q.n = a.n + b.n
	q.sum = a.sum
	q.sum.join(&b.sum)
	q.claim()
	return q
}

// seal ends the filling of a page that was written column by column.
func (p *page) seal(sets []*FlagSet) {
	p.claim()
	p.remeasure(sets)
}

func (p *page) claim() {
	p.rows.used.Store(int32(p.n))
	p.marks.used.Store(int32(p.n))
}

// rebuildFlags gives s a table without the combinations that no row has.
func rebuildFlags(s *Snapshot) {
	table := newFlagTable(s.keywords)
	ids := make([]FlagsID, len(s.sets))
	counts := editTally(tally{})
	for id, set := range s.sets {
		if n := s.tally.count(FlagsID(id)); n > 0 {
			ids[id] = table.internSet(set)
			counts.add(ids[id], int(n))
		}
	}
	pages := make([]*page, len(s.pages))
	for k, old := range s.pages {
		p := *old
		p.ownMarks()
		for i, id := range p.marks.flags[:p.n] {
			p.marks.flags[i] = ids[id]
		}
		pages[k] = &p
	}
	s.pages, s.table, s.tally = pages, table, counts.tally
	s.sets, s.keywords = table.view()
}
