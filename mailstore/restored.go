package mailstore

import (
	"context"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// How many numbers of messages and mailboxes are passed over when a store has
// been set back: more than it can have given out since its backup.
const (
	idleMessages  = 1 << 24
	idleMailboxes = 1 << 16
)

// idleValidities is the same for values of UIDVALIDITY, half a year of seconds:
// where the clock is right it is above all of them anyway, but it may have been
// set back, and the values were not. There are few, so where less than 16 times
// as many are left, only a sixteenth of them is passed over.
const idleValidities = 1 << 24

func afterRestore(validity uint64) uint64 {
	if validity >= latestClock {
		return validity
	}
	return validity + min(idleValidities, (latestClock-validity)/16)
}

// MarkRestored tells a store that it has been set back to an earlier state,
// after which it gives out UIDs, and numbers in object identifiers, once more
// that clients have seen on other messages. So every mailbox gets a UIDVALIDITY
// that it never had (RFC 9051 section 2.3.1.1), and what comes next gets object
// identifiers that nothing else had (RFC 8474 sections 4 and 5). It is for a store that nobody uses
// yet: mailboxes that are open keep the former value.
func (s *Store) MarkRestored(ctx context.Context) error {
	list, err := s.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		a, err := s.Account(ctx, info.Name)
		if err != nil {
			return err
		}
		err = a.submit(ctx, &op{weight: 1 << 20, run: func(t *opTx) error {
			t.rec.uidValidity = afterRestore(t.rec.uidValidity)
			tree := t.tree.clone()
			for _, num := range slices.Sorted(maps.Keys(t.tree.byNum)) {
				n := *t.tree.byNum[num]
				if n.noSelect {
					continue
				}
				n.uidValidity = t.rec.newUIDValidity(s.now())
				tree.put(&n)
				t.set(boxKey(keyBox, num), n.encode())
			}
			t.tree = tree
			t.rec.nextMsg += idleMessages
			t.rec.nextBox += idleMailboxes
			return nil
		}})
		if err != nil {
			return imap.E("mailstore: renew UIDVALIDITY in account "+info.Name, imap.Other, err)
		}
	}
	return nil
}
