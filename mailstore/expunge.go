package mailstore

import (
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Expunge removes the messages that have \Deleted and, unless uids is nil, are
// in it, and returns when that is durable and published: all of them, or none.
func (m *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) error {
	if uids == nil {
		if st := m.box.state.Load(); st != nil && st.c.deleted == 0 {
			return nil
		}
	}
	x := &expunging{m: m, uids: uids}
	if err := m.a.submit(ctx, &op{weight: 10_000, run: x.run, large: x.large}); err != nil {
		return imap.E("mailstore: expunge "+m.name, imap.Other, err)
	}
	m.a.reap()
	return nil
}

// expunging is an Expunge on its way.
type expunging struct {
	m      *Mailbox
	uids   *imap.UIDSet
	graves *largeExpunge // what is on disk of it, where it is large
}

func (x *expunging) run(t *opTx) error {
	e, err := t.edit(x.m.box.num, true)
	if err != nil {
		return err
	}
	positions := deletedRows(e.base, x.uids)
	if len(positions) == 0 {
		return nil
	}
	if x.graves != nil {
		err = e.expungeDug(positions, x.graves)
	} else if countRanges(e.base, positions) > t.a.store.opts.ExpungeRanges {
		return errLarge
	} else {
		err = e.expunge(positions)
	}
	if err != nil {
		return err
	}
	e.touch()
	e.done()
	return nil
}

// large expunges in several transactions. It is called by the committer, so
// nothing comes in between.
func (x *expunging) large() error {
	a, num := x.m.a, x.m.box.num
	if err := a.loadIndex(num); err != nil {
		return err
	}
	st := a.working.boxes[num]
	if st == nil {
		return imap.NotFound
	}
	graves, err := a.digLarge(num, st, deletedRows(st.snap, x.uids))
	if err != nil {
		return err
	}
	x.graves = graves
	return a.finishLarge(graves, x.run)
}

// A largeExpunge is an expunge that is too large for one transaction. Its graves
// are written first, in several, under mod-sequences that the mailbox does not
// have yet: such graves are void, and a crash leaves nothing else. Then one
// transaction gives the mailbox the last of those mod-sequences, and so makes all
// of them count at once.
type largeExpunge struct {
	box   boxNum
	uids  imap.UIDSet
	parts []imap.UIDSet // of uids, one for each grave
	first imap.ModSeq   // of the first grave; each has one more than that before
}

// errChanged says that rows are not those that a large change began with: another
// process has changed the mailbox.
var errChanged = imap.E("mailstore: commit", imap.Unavailable, errors.New("the mailbox was changed by another process meanwhile"))

// digLarge writes the graves of a large expunge of the rows at positions of a
// mailbox. Where that fails they are void, and go before the next change. Only
// the committer calls it.
func (a *account) digLarge(num boxNum, st *boxState, positions []int) (*largeExpunge, error) {
	x := &largeExpunge{box: num, first: st.c.highest + 1}
	for _, i := range positions {
		x.uids.Add(st.snap.UID(i))
	}
	x.parts = a.store.graveParts(x.uids)
	for from := 0; from < len(x.parts); {
		to, ranges := from, 0
		for to < len(x.parts) && (to == from || ranges+len(x.parts[to].Ranges()) <= a.store.opts.ExpungeRanges) {
			ranges += len(x.parts[to].Ranges())
			to++
		}
		err := a.finishLarge(x, func(t *opTx) error {
			for i := from; i < to; i++ {
				t.set(modseqKey(keyGrave, num, x.first+imap.ModSeq(i)), mailindex.AppendUIDSet(nil, x.parts[i]))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		from = to
	}
	return x, nil
}

// finishLarge runs one transaction of a large expunge, the last one of which makes
// its graves count. Only the committer calls it.
func (a *account) finishLarge(x *largeExpunge, run func(t *opTx) error) error {
	o := &op{run: run}
	err := errors.Join(a.transact([]*op{o}, true), o.err)
	if err != nil {
		a.voids[x.box] = struct{}{}
	}
	return err
}

// dropVoid takes away the graves of expunges that were not finished: their
// mod-sequences are the next to be given out. Only the committer calls it.
func (a *account) dropVoid() error {
	for num := range a.voids {
		o := &op{run: func(t *opTx) error {
			if st := t.state(num); st != nil {
				t.deleteRange(modseqKey(keyGrave, num, st.c.highest+1), modseqKey(keyGrave, num, imap.MaxModSeq))
			}
			return nil
		}}
		_, err := a.update(&round{ops: []*op{o}})
		if err = errors.Join(err, o.err); err != nil {
			return err
		}
		delete(a.voids, num)
	}
	return nil
}

// countRanges returns in how many ranges of UIDs some positions are, which ascend.
func countRanges(s *mailindex.Snapshot, positions []int) (ranges int) {
	last := imap.UID(0)
	for n, i := range positions {
		uid := s.UID(i)
		if n == 0 || uid != last+1 {
			ranges++
		}
		last = uid
	}
	return ranges
}

// deletedRows returns the positions of rows with \Deleted, of uids or of all.
func deletedRows(s *mailindex.Snapshot, uids *imap.UIDSet) []int {
	var positions []int
	for p := range s.DeletedPages() {
		for i, id := range p.Flags {
			if s.Flags(id).Bits()&mailindex.BitDeleted != 0 && (uids == nil || uids.Contains(p.UIDs[i])) {
				positions = append(positions, p.First+i)
			}
		}
	}
	return positions
}

// Expunged returns the UIDs that were expunged after a mod-sequence. complete
// is false where the history does not reach back so far.
func (m *Mailbox) Expunged(ctx context.Context, since imap.ModSeq) (uids imap.UIDSet, complete bool, err error) {
	if st := m.box.state.Load(); st != nil && st.c.highest <= since {
		return uids, true, nil
	}
	err = m.a.store.kv.View(ctx, m.a.num, func(r driver.Reader) error {
		data, ok, err := r.Get(boxKey(keyCounters, m.box.num))
		if err != nil {
			return err
		}
		if !ok {
			return imap.NotFound
		}
		c, err := decodeCounters(data)
		if err != nil {
			return err
		}
		complete = since >= c.floor
		if since >= imap.MaxModSeq {
			return nil
		}
		var sets []imap.UIDSet
		from := modseqKey(keyHistory, m.box.num, since+1)
		err = scanRange(r, from, prefixEnd(boxKey(keyHistory, m.box.num)), func(_, value []byte) error {
			set, _, err := mailindex.ReadUIDSet(value)
			sets = append(sets, set)
			return err
		})
		uids = mailindex.UnionAll(sets)
		return err
	})
	if err != nil {
		return imap.UIDSet{}, false, imap.E("mailstore: history of "+m.name, imap.Other, err)
	}
	return uids, complete, nil
}
