package mailstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A message that cannot be found has either been expunged and taken away, or the
// store has lost it. The difference is the client's copy of the mail: a program
// that is told of an expunge drops it.

// openBlob opens the content of a message. The error is of kind NotFound only
// where the message has been taken away since its record was read.
func (a *account) openBlob(ctx context.Context, msg uint64, rec *messageRec) (driver.Blob, error) {
	blob, err := a.store.blobs.Open(ctx, a.num, rec.ref)
	switch {
	case err == nil && blob.Size() == rec.rawSize:
		return blob, nil
	case err == nil:
		a.store.lost.add(a.num, msg)
		err = imap.E("mailstore: open a message", imap.Corruption, fmt.Errorf(
			"blob %#x of account %d has %d bytes, and %d are expected", uint64(rec.ref), a.num, blob.Size(), rec.rawSize))
		_ = blob.Close() // it was read only
		return nil, err
	case imap.KindOf(err) != imap.NotFound:
		return nil, err
	}
	// The record goes before the content does, so one that is still there names
	// what should be.
	if _, gone := a.readMessageRec(ctx, msg); gone != nil {
		return nil, gone
	}
	a.store.lost.add(a.num, msg)
	return nil, imap.E("mailstore: open a message", imap.Corruption, fmt.Errorf(
		"the index names blob %#x of account %d, and it is nowhere in the store", uint64(rec.ref), a.num))
}

// lost returns err, or what it is instead: a message without a record is damage
// while its mailbox has it.
func (m *Mailbox) lost(ctx context.Context, row mailindex.Row, err error) error {
	if imap.KindOf(err) != imap.NotFound {
		return err
	}
	snap, serr := m.Snapshot(ctx)
	if serr != nil {
		return err // the mailbox has been deleted
	}
	i, ok := snap.Find(row.UID)
	if !ok || snap.Row(i).Msg != row.Msg {
		return err
	}
	m.a.store.lost.add(m.a.num, row.Msg)
	return imap.E("mailstore: read a message", imap.Corruption, fmt.Errorf("message %d of account %d has no record in the index", row.Msg, m.a.num))
}

// lostMessages counts messages that the store has lost, each once.
type lostMessages struct {
	mu   sync.Mutex
	seen map[storedMessage]struct{} // up to maxLost
}

// maxLost bounds the messages that are told apart: with so many lost, one more
// is no news.
const maxLost = 100_000

func (l *lostMessages) add(a driver.Account, msg uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = make(map[storedMessage]struct{})
	}
	if len(l.seen) < maxLost {
		l.seen[storedMessage{a, msg}] = struct{}{}
	}
}

func (l *lostMessages) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.seen))
}
