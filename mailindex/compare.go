package mailindex

import (
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// Changes is the difference of two snapshots of one mailbox.
type Changes struct {
	Vanished     []int       // positions in old of rows that new lacks, ascending
	VanishedUIDs imap.UIDSet // their UIDs
	Changed      []int       // positions in new of rows whose flags or mod-sequence differ
	Added        int         // position in new of the first row behind all of old's; new.Len() where none
}

// IsEmpty reports whether nothing about the rows of new is news.
func (c *Changes) IsEmpty(new *Snapshot) bool {
	return len(c.Vanished) == 0 && len(c.Changed) == 0 && c.Added >= new.Len()
}

// Compare returns what happened between old and new. Pages that both share
// cost one comparison of pointers. New rows are expected behind the last row
// of old, as UIDs ascend.
func Compare(old, new *Snapshot) Changes { return CompareUnknown(old, new, nil) }

// Known reports whether somebody knows already that a row has new flags or a new
// mod-sequence. was are its flags in the old snapshot, is those in the new one.
type Known func(uid imap.UID, modseq imap.ModSeq, was, is FlagsID) bool

// CompareUnknown is [Compare] without the changed rows that known says yes to.
// nil says no.
func CompareUnknown(old, new *Snapshot, known Known) Changes {
	if old == new {
		return Changes{Added: new.n}
	}
	var c Changes
	walk(old, new, &comparison{old: old, new: new, c: &c, known: known, sameFlags: old.table == new.table})
	c.Added, _ = new.Find(old.LastUID() + 1)
	if old.LastUID() == 1<<32-1 {
		c.Added = new.n
	}
	return c
}

// visitor is told of rows while two snapshots are walked side by side.
type visitor interface {
	// onlyOld: rows from to to-1 of old's page k are not in new.
	onlyOld(k, from, to int)
	// both: the row at (k, i) of old is the row at (l, j) of new.
	both(k, i, l, j int)
	// sharedRows: old's page k and new's page l have the same rows, though
	// perhaps other flags.
	sharedRows(k, l int)
}

// walk goes through both snapshots in the order of UIDs and skips pages that
// are the same in both.
func walk(old, new *Snapshot, v visitor) {
	var k, i, l, j int
	for k < len(old.pages) {
		p := old.pages[k]
		if l == len(new.pages) {
			v.onlyOld(k, i, p.n)
			k, i = k+1, 0
			continue
		}
		q := new.pages[l]
		if i == 0 && j == 0 {
			if p == q || p.rows == q.rows && p.marks == q.marks && p.n == q.n {
				k, l = k+1, l+1
				continue
			}
			if p.rows == q.rows && p.n <= q.n && sharedPrefix(old, new, k, l) {
				v.sharedRows(k, l)
				k, l = k+1, l+1
				continue
			}
		}
		uids := p.rows.get().uid
		switch a, b := uids[i], q.rows.get().uid[j]; {
		case a == b:
			v.both(k, i, l, j)
			i, j = i+1, j+1
		case a < b:
			from := i
			for i < p.n && uids[i] < b {
				i++
			}
			v.onlyOld(k, from, i)
		default:
			j++
		}
		if i == p.n {
			k, i = k+1, 0
		}
		if j == q.n {
			l, j = l+1, 0
		}
	}
}

// sharedPrefix reports whether pages that share columns can be skipped as a
// whole: all of new's page belongs to old's, or what is more lies behind old.
func sharedPrefix(old, new *Snapshot, k, l int) bool {
	return old.pages[k].n == new.pages[l].n || k == len(old.pages)-1
}

type comparison struct {
	old, new  *Snapshot
	c         *Changes
	known     Known
	sameFlags bool
}

func (v *comparison) onlyOld(k, from, to int) {
	start := int(v.old.starts[k])
	v.c.Vanished = slices.Grow(v.c.Vanished, to-from)
	for i := from; i < to; i++ {
		v.c.Vanished = append(v.c.Vanished, start+i)
		v.c.VanishedUIDs.Add(v.old.pages[k].rows.get().uid[i])
	}
}

func (v *comparison) both(k, i, l, j int) {
	a, b := v.old.pages[k].marks.get(), v.new.pages[l].marks.get()
	if a.modseq[i] != b.modseq[j] || v.sameFlags && a.flags[i] != b.flags[j] {
		v.changed(l, j, a.flags[i])
	}
}

// changed notes that row j of new's page l has changed.
func (v *comparison) changed(l, j int, was FlagsID) {
	if v.known != nil {
		p := v.new.pages[l]
		marks := p.marks.get()
		if v.known(p.rows.get().uid[j], marks.modseq[j], was, marks.flags[j]) {
			return
		}
	}
	v.c.Changed = append(v.c.Changed, int(v.new.starts[l])+j)
}

func (v *comparison) sharedRows(k, l int) {
	if v.old.pages[k].marks == v.new.pages[l].marks {
		return
	}
	a, b := v.old.pages[k].marks.get(), v.new.pages[l].marks.get()
	n := v.old.pages[k].n
	for from := 0; from < n; from += blockRows {
		if from+blockRows <= n && sameMarks(a, b, from) {
			continue
		}
		for i := from; i < min(from+blockRows, n); i++ {
			v.both(k, i, l, i)
		}
	}
}

// blockRows is how many rows are compared at a time: mostly one of a page has
// changed, and arrays are compared much faster than one row after the other.
const blockRows = 32

// sameMarks reports whether a block of rows has the same flags, by number, and
// mod-sequences.
func sameMarks(a, b *markSlices, from int) bool {
	return *(*[blockRows]imap.ModSeq)(a.modseq[from:]) == *(*[blockRows]imap.ModSeq)(b.modseq[from:]) &&
		*(*[blockRows]FlagsID)(a.flags[from:]) == *(*[blockRows]FlagsID)(b.flags[from:])
}

// WithGhosts returns latest with the rows of view that latest lacks put back
// in the order of UIDs, as they are in view: what a session shows while it may
// not tell its client of expunges. Rows that are new in latest are included.
// Where nothing is gone it returns latest itself. Its counters include the
// ghosts, its Meta is that of latest.
func WithGhosts(view, latest *Snapshot) *Snapshot {
	if view == latest {
		return latest
	}
	var g ghosts
	walk(view, latest, &g)
	if len(g.runs) == 0 {
		return latest
	}
	e := latest.Edit()
	pages := make([]*page, 0, len(latest.pages)+len(g.runs))
	for l, q := range latest.pages {
		// The ghosts before the next page's first row go into this one.
		n := len(g.runs)
		if l+1 < len(latest.pages) {
			n = 0
			for n < len(g.runs) && view.pages[g.runs[n].k].rows.get().uid[g.runs[n].from] < latest.firsts[l+1] {
				n++
			}
		}
		if n == 0 {
			pages = append(pages, q)
			continue
		}
		pages = e.mergePage(pages, q, view, g.runs[:n])
		g.runs = g.runs[n:]
	}
	if len(latest.pages) == 0 {
		pages = e.mergePage(pages, &page{}, view, g.runs)
	}
	e.pages = pages
	e.starts, e.firsts, e.n = directory(pages)
	return e.Commit()
}

// ghosts collects the rows that are gone. A run lies between two rows of new,
// so it never spans one of them.
type ghosts struct{ runs []ghostRun }

type ghostRun struct{ k, from, to int }

func (g *ghosts) onlyOld(k, from, to int) { g.runs = append(g.runs, ghostRun{k, from, to}) }
func (g *ghosts) both(_, _, _, _ int)     {}
func (g *ghosts) sharedRows(_, _ int)     {}

// mergePage appends to pages the rows of q and of the runs of view, in order.
func (e *Editor) mergePage(pages []*page, q *page, view *Snapshot, runs []ghostRun) []*page {
	total := q.n
	for _, r := range runs {
		total += r.to - r.from
	}
	m := merger{pages: pages, left: total}
	j := 0
	for _, r := range runs {
		src := view.pages[r.k]
		for j < q.n && q.rows.get().uid[j] < src.rows.get().uid[r.from] {
			row := q.row(j)
			m.push(&row, e.sets[row.Flags].bits)
			j++
		}
		for i := r.from; i < r.to; i++ {
			row := src.row(i)
			row.Flags = e.internFrom(view, row.Flags)
			bits := e.sets[row.Flags].bits
			m.push(&row, bits)
			e.sum.add(bits, row.Size, 1)
			e.tally.add(row.Flags, 1)
		}
	}
	for ; j < q.n; j++ {
		row := q.row(j)
		m.push(&row, e.sets[row.Flags].bits)
	}
	return m.pages
}

// merger fills pages of its own.
type merger struct {
	pages []*page
	cur   *page
	left  int // rows that are still to come
}

func (m *merger) push(r *Row, bits FlagBits) {
	if m.cur == nil || m.cur.n == PageRows {
		m.cur = newPage(pageCap(m.left))
		m.pages = append(m.pages, m.cur)
	}
	m.cur.push(r, bits)
	m.left--
}
