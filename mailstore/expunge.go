package mailstore

import (
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// expungeRanges is how many ranges of UIDs one transaction takes out of a mailbox.
// They are written twice, with up to six octets each.
const expungeRanges = 400_000

// Expunge removes the messages that have \Deleted and, unless uids is nil, are
// in it, and returns when that is durable and published. Messages in more than
// 400,000 ranges of UIDs are removed in several steps, each of them as a whole;
// after an error some steps may have been done.
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
	m    *Mailbox
	uids *imap.UIDSet
	step bool // as much as fits
	more bool // is left to be done
}

func (x *expunging) run(t *opTx) error {
	e, err := t.edit(x.m.box.num, true)
	if err != nil {
		return err
	}
	positions := deletedRows(e.base, x.uids)
	if len(positions) == 0 {
		x.more = false
		return nil
	}
	n := withinRanges(e.base, positions, t.a.store.expungeRanges)
	if x.more = n < len(positions); x.more && !x.step {
		return errLarge
	}
	if err := e.expunge(positions[:n]); err != nil {
		return err
	}
	e.touch()
	e.done()
	return nil
}

// large expunges in several transactions. It is called by the committer, so
// nothing comes in between.
func (x *expunging) large() error {
	x.step = true
	for x.more = true; x.more; {
		o := &op{run: x.run}
		if err := errors.Join(x.m.a.transact([]*op{o}, true), o.err); err != nil {
			return err
		}
	}
	return nil
}

// withinRanges returns how many of some positions, which ascend, are within a
// number of ranges of UIDs.
func withinRanges(s *mailindex.Snapshot, positions []int, ranges int) int {
	last := imap.UID(0)
	for n, i := range positions {
		uid := s.UID(i)
		if n == 0 || uid != last+1 {
			if ranges--; ranges < 0 {
				return n
			}
		}
		last = uid
	}
	return len(positions)
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
