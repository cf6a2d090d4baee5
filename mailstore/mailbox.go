package mailstore

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// Mailbox is a mailbox that one session has open. All methods are safe for
// concurrent use.
type Mailbox struct {
	a        *account
	box      *box
	name     string
	released atomic.Uint64 // mod-sequence up to which expunged messages are not needed
	close    sync.Once
}

// Object identifiers (RFC 8474) are unique within the account and never used
// again, since the numbers in them are not.

func mailboxID(num boxNum) imap.ObjectID {
	return imap.ObjectID("F" + strconv.FormatUint(uint64(num), 10))
}

func emailID(msg uint64) imap.ObjectID { return imap.ObjectID("M" + strconv.FormatUint(msg, 10)) }

func threadID(thread uint64) imap.ObjectID {
	return imap.ObjectID("T" + strconv.FormatUint(thread, 10))
}

// Mailbox opens a mailbox. Kind NotFound where there is none, Cannot where it
// is only a parent.
func (a *Account) Mailbox(ctx context.Context, name string) (*Mailbox, error) {
	opName := "mailstore: open " + name
	n := a.tree.Load().byName[name]
	if n == nil {
		return nil, imap.E(opName, imap.NotFound, nil)
	}
	if n.noSelect {
		return nil, &imap.Error{Op: opName, Kind: imap.Cannot, Text: "the mailbox is only a parent and cannot be selected"}
	}
	m := &Mailbox{a: a.account, name: name}
	a.mu.Lock()
	m.box = a.box(n.num)
	st := m.box.state.Load()
	if st == nil {
		a.mu.Unlock()
		return nil, imap.E(opName, imap.NotFound, nil)
	}
	m.released.Store(uint64(st.c.highest))
	m.box.handles[m] = struct{}{}
	m.box.lastUse = a.store.clock.Add(1)
	a.keep()
	a.visited()
	a.mu.Unlock()
	return m, nil
}

// ID returns the mailbox's object identifier.
func (m *Mailbox) ID() imap.ObjectID { return mailboxID(m.box.num) }

// Snapshot returns the latest published state, the same pointer while nothing
// changes. Kind NotFound when the mailbox has been deleted.
func (m *Mailbox) Snapshot(ctx context.Context) (*mailindex.Snapshot, error) {
	for {
		st := m.box.state.Load()
		if st == nil {
			return nil, imap.E("mailstore: read "+m.name, imap.NotFound, nil)
		}
		if st.snap != nil {
			return st.snap, nil
		}
		err := m.a.submit(ctx, &op{alone: func() error {
			if err := m.a.loadIndex(m.box.num); err != nil {
				return err
			}
			m.a.publish(changed{m.box.num: m.a.working.boxes[m.box.num]})
			return nil
		}})
		if err != nil {
			return nil, imap.E("mailstore: read "+m.name, imap.Other, err)
		}
		m.a.store.evict()
	}
}

// Watch calls wake after each change of the mailbox has been published, and
// when it is deleted. wake must not block. stop ends it.
func (m *Mailbox) Watch(wake func()) (stop func()) {
	w := &watcher{wake}
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	m.box.watchers[w] = struct{}{}
	return func() {
		m.a.mu.Lock()
		defer m.a.mu.Unlock()
		delete(m.box.watchers, w)
	}
}

// ClaimRecent gives \Recent of all messages that no session has claimed yet to
// the caller: those with UIDs from first to last; first > last where there are
// none. It is durable, so no message is claimed twice.
func (m *Mailbox) ClaimRecent(ctx context.Context) (first, last imap.UID, err error) {
	if st := m.box.state.Load(); st != nil && st.c.firstRecent == st.c.uidNext {
		return st.c.uidNext, st.c.uidNext - 1, nil
	}
	err = m.a.submit(ctx, &op{weight: 200, run: func(t *opTx) error {
		e, err := t.edit(m.box.num, false)
		if err != nil {
			return err
		}
		first, last = e.c.firstRecent, e.c.uidNext-1
		if first > last {
			return nil
		}
		e.c.firstRecent, e.c.recent = e.c.uidNext, 0
		e.done()
		return nil
	}})
	if err != nil {
		return 1, 0, imap.E("mailstore: claim recent messages of "+m.name, imap.Other, err)
	}
	return first, last, nil
}

// Release says that this session will not read messages that had been expunged
// by the given mod-sequence.
func (m *Mailbox) Release(upTo imap.ModSeq) {
	for {
		old := m.released.Load()
		if uint64(upTo) <= old {
			return
		}
		if m.released.CompareAndSwap(old, uint64(upTo)) {
			break
		}
	}
	m.a.reap()
}

// Close ends the session's use of the mailbox. It may be called twice.
func (m *Mailbox) Close() error {
	m.close.Do(func() {
		m.a.mu.Lock()
		delete(m.box.handles, m)
		m.box.lastUse = m.a.store.clock.Add(1)
		m.a.keep()
		m.a.mu.Unlock()
		m.a.reap()
		m.a.store.evict()
	})
	return nil
}

// Status has the counters of a mailbox.
type Status struct {
	Messages, Recent, Unseen, Deleted uint32
	UIDNext                           imap.UID
	UIDValidity                       imap.UIDValidity
	HighestModSeq                     imap.ModSeq
	Size                              int64 // sum of RFC822.SIZE
	DeletedSize                       int64 // the same of messages with \Deleted
	ID                                imap.ObjectID
}

// Status returns the counters of a mailbox, from memory. Kind NotFound where
// there is none, or it cannot be selected.
func (a *Account) Status(name string) (*Status, error) {
	n := a.tree.Load().byName[name]
	if n == nil || n.noSelect {
		return nil, imap.E("mailstore: status of "+name, imap.NotFound, nil)
	}
	a.mu.Lock()
	st := a.box(n.num).state.Load()
	a.mu.Unlock()
	if st == nil {
		return nil, imap.E("mailstore: status of "+name, imap.NotFound, nil)
	}
	c := &st.c
	return &Status{
		Messages: uint32(c.messages), Recent: uint32(c.recent), Unseen: uint32(c.unseen), Deleted: uint32(c.deleted),
		UIDNext: c.uidNext, UIDValidity: n.uidValidity, HighestModSeq: c.highest,
		Size: c.size, DeletedSize: c.delSize, ID: mailboxID(n.num),
	}, nil
}
