package mailstore

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Expunge removes the messages that have \Deleted and, unless uids is nil, are
// in it, and returns when that is durable and published.
func (m *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) error {
	if uids == nil {
		if st := m.box.state.Load(); st != nil && st.c.deleted == 0 {
			return nil
		}
	}
	err := m.a.submit(ctx, &op{weight: 10_000, run: func(t *opTx) error {
		e, err := t.edit(m.box.num, true)
		if err != nil {
			return err
		}
		positions := deletedRows(e.base, uids)
		if len(positions) == 0 {
			return nil
		}
		if err := e.expunge(positions); err != nil {
			return err
		}
		e.touch()
		e.done()
		return nil
	}})
	if err != nil {
		return imap.E("mailstore: expunge "+m.name, imap.Other, err)
	}
	m.a.reap()
	return nil
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
