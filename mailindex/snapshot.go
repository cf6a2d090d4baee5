// Package mailindex holds the index of one mailbox in memory: packed columns
// of UIDs, flags, mod-sequences, sizes and dates, as immutable snapshots that
// share all pages which no change has touched.
//
// A [Snapshot] is what a session looks at; positions in it (from 0) are
// message sequence numbers less one. An [Editor] makes the next snapshot,
// [Compare] finds what to tell a client, and [WithGhosts] keeps expunged
// messages in a view until the client may be told. [History] remembers
// expunges for QRESYNC (RFC 7162).
//
// The package knows no disk, no message contents and no mail rules: whoever
// uses it gives out UIDs and mod-sequences. Start with [New] and
// [Snapshot.Edit].
package mailindex

import (
	"iter"
	"sort"

	"github.com/rookery-mail/rookery/imap"
)

// Meta are the values of a mailbox that are not about one message.
type Meta struct {
	UIDValidity   imap.UIDValidity
	UIDNext       imap.UID    // greater than every UID given out so far
	HighestModSeq imap.ModSeq // of the last change, expunges included
	FirstRecent   imap.UID    // nobody has claimed \Recent of this UID and above
}

// Snapshot is the state of a mailbox at one moment. It is immutable and safe
// for concurrent use; it stays valid for as long as it is held.
type Snapshot struct {
	meta     Meta
	pages    []*page
	starts   []int32    // position of each page's first row
	firsts   []imap.UID // UID of each page's first row
	n        int
	sum      sums
	table    *flagTable
	sets     []*FlagSet // the table as of this snapshot
	keywords []imap.Flag
	tally    tally
}

// New returns the snapshot of an empty mailbox. keywords are known from the
// start, in this order.
func New(meta Meta, keywords []imap.Flag) *Snapshot {
	if meta.UIDNext == 0 {
		meta.UIDNext = 1
	}
	s := &Snapshot{meta: meta, table: newFlagTable(keywords)}
	s.sets, s.keywords = s.table.view()
	return s
}

// Len returns the number of messages.
func (s *Snapshot) Len() int { return s.n }

// Meta returns all values that are not about one message.
func (s *Snapshot) Meta() Meta { return s.meta }

// UIDValidity returns the mailbox's UIDVALIDITY.
func (s *Snapshot) UIDValidity() imap.UIDValidity { return s.meta.UIDValidity }

// UIDNext returns the predicted next UID.
func (s *Snapshot) UIDNext() imap.UID { return s.meta.UIDNext }

// HighestModSeq returns the mod-sequence of the last change.
func (s *Snapshot) HighestModSeq() imap.ModSeq { return s.meta.HighestModSeq }

// FirstRecent returns the UID from which on messages have \Recent that no
// session has claimed.
func (s *Snapshot) FirstRecent() imap.UID { return s.meta.FirstRecent }

// Recent returns the number of messages whose \Recent nobody has claimed.
func (s *Snapshot) Recent() int {
	i, _ := s.Find(s.meta.FirstRecent)
	return s.n - i
}

// Unseen returns the number of messages without \Seen.
func (s *Snapshot) Unseen() int { return s.sum.unseen }

// Deleted returns the number of messages with \Deleted.
func (s *Snapshot) Deleted() int { return s.sum.deleted }

// Size returns the sum of all sizes, in octets.
func (s *Snapshot) Size() int64 { return s.sum.size }

// DeletedSize returns the sum of the sizes of messages with \Deleted.
func (s *Snapshot) DeletedSize() int64 { return s.sum.delSize }

// FirstUnseen returns the position of the first message without \Seen, and
// false where there is none.
func (s *Snapshot) FirstUnseen() (i int, ok bool) {
	if s.sum.unseen == 0 {
		return 0, false
	}
	for k, p := range s.pages {
		if p.sum.unseen == 0 {
			continue
		}
		for j, id := range p.marks.get().flags[:p.n] {
			if s.sets[id].bits&BitSeen == 0 {
				return int(s.starts[k]) + j, true
			}
		}
	}
	return 0, false
}

// Flags returns the combination with a number that is in one of the rows.
func (s *Snapshot) Flags(id FlagsID) *FlagSet { return s.sets[id] }

// FlagSets returns the number of combinations in the table; ids are below it.
// Some may be in no row.
func (s *Snapshot) FlagSets() int { return len(s.sets) }

// FlagCount returns the number of rows with a combination.
func (s *Snapshot) FlagCount(id FlagsID) int { return int(s.tally.count(id)) }

// SameFlags reports whether flag ids mean the same in both snapshots.
func (s *Snapshot) SameFlags(other *Snapshot) bool { return s.table == other.table }

// Keywords returns the keywords that the mailbox has had, first spelling of
// each, oldest first. The slice must not be changed. It only grows from one
// snapshot to the next.
func (s *Snapshot) Keywords() []imap.Flag { return s.keywords }

// locate finds the page and the offset of a position in [0, Len()).
func (s *Snapshot) locate(i int) (k, off int) {
	if len(s.pages) == 1 {
		return 0, i
	}
	k = searchStarts(s.starts, i)
	return k, i - int(s.starts[k])
}

// searchStarts returns the last page that starts at or before i.
func searchStarts(starts []int32, i int) int {
	lo, hi := 0, len(starts)
	for hi-lo > 1 {
		mid := int(uint(lo+hi) >> 1)
		if int(starts[mid]) <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// Row returns the row at a position in [0, Len()).
func (s *Snapshot) Row(i int) Row {
	k, off := s.locate(i)
	return s.pages[k].row(off)
}

// UID returns the UID at a position in [0, Len()).
func (s *Snapshot) UID(i int) imap.UID {
	k, off := s.locate(i)
	return s.pages[k].rows.get().uid[off]
}

// ModSeq returns the mod-sequence at a position in [0, Len()).
func (s *Snapshot) ModSeq(i int) imap.ModSeq {
	k, off := s.locate(i)
	return s.pages[k].marks.get().modseq[off]
}

// FlagsID returns the flags at a position in [0, Len()).
func (s *Snapshot) FlagsID(i int) FlagsID {
	k, off := s.locate(i)
	return s.pages[k].marks.get().flags[off]
}

// Find returns the position of a UID and whether it is there; if not, i is
// where it would be.
func (s *Snapshot) Find(uid imap.UID) (i int, ok bool) {
	k := sort.Search(len(s.firsts), func(k int) bool { return s.firsts[k] > uid }) - 1
	if k < 0 {
		return 0, false
	}
	p := s.pages[k]
	if uid > p.last() {
		return int(s.starts[k]) + p.n, false
	}
	off, ok := findUID(p.rows.get().uid[:p.n], uid)
	return int(s.starts[k]) + off, ok
}

func findUID(uids []imap.UID, uid imap.UID) (int, bool) {
	lo, hi := 0, len(uids)
	// Most pages have no holes: then the first guess is right.
	if guess := int(uid - uids[0]); guess < hi && uids[guess] == uid {
		return guess, true
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if uids[mid] < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(uids) && uids[lo] == uid
}

// LastUID returns the greatest UID in the snapshot, 0 where it is empty.
func (s *Snapshot) LastUID() imap.UID {
	if s.n == 0 {
		return 0
	}
	return s.pages[len(s.pages)-1].last()
}

func (s *Snapshot) page(k int) Page {
	n := s.pages[k].n
	rows, marks := s.pages[k].rows.get(), s.pages[k].marks.get()
	return Page{
		First: int(s.starts[k]), UIDs: rows.uid[:n:n], Flags: marks.flags[:n:n],
		ModSeqs: marks.modseq[:n:n], Sizes: rows.size[:n:n], Dates: rows.date[:n:n],
		Msgs: rows.msg[:n:n], saved: rows.saved[:n:n],
	}
}

// Pages iterates over the rows a page at a time. The *Page is used again for
// the next page; its slices stay valid.
func (s *Snapshot) Pages() iter.Seq[*Page] { return s.PagesFrom(0) }

// PagesFrom is Pages beginning with the page that holds position i.
func (s *Snapshot) PagesFrom(i int) iter.Seq[*Page] {
	return func(yield func(*Page) bool) {
		if i >= s.n {
			return
		}
		k, _ := s.locate(max(i, 0))
		for ; k < len(s.pages); k++ {
			page := s.page(k)
			if !yield(&page) {
				return
			}
		}
	}
}

// ChangedPages iterates over the pages that may hold a row whose mod-sequence
// is greater than since.
func (s *Snapshot) ChangedPages(since imap.ModSeq) iter.Seq[*Page] {
	return func(yield func(*Page) bool) {
		for k, p := range s.pages {
			if p.sum.maxModSeq <= since {
				continue
			}
			page := s.page(k)
			if !yield(&page) {
				return
			}
		}
	}
}

// DeletedPages iterates over the pages that hold a row with \Deleted.
func (s *Snapshot) DeletedPages() iter.Seq[*Page] {
	return func(yield func(*Page) bool) {
		for k, p := range s.pages {
			if p.sum.deleted == 0 {
				continue
			}
			page := s.page(k)
			if !yield(&page) {
				return
			}
		}
	}
}

// Rows iterates over the rows with their positions. [Snapshot.Pages] is
// faster where there are many.
func (s *Snapshot) Rows() iter.Seq2[int, Row] {
	return func(yield func(int, Row) bool) {
		for k, p := range s.pages {
			for j := range p.n {
				if !yield(int(s.starts[k])+j, p.row(j)) {
					return
				}
			}
		}
	}
}

// Memory estimates the bytes that the snapshot keeps in memory; rows count as if
// they were unpacked.
func (s *Snapshot) Memory() int64 {
	const rowBytes = 4 + 4 + 8 + 4 + 8 + 4 + 8
	total := int64(512)
	for _, p := range s.pages {
		rows := p.n
		if !p.rows.pending.Load() {
			rows = len(p.rows.uid)
		}
		total += int64(rows)*rowBytes + 512
	}
	const setBytes = 400 // with a few keywords
	total += int64(len(s.sets)) * setBytes
	return total + int64(len(s.tally.blocks))*tallyRows*4
}
