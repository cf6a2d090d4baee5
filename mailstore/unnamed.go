package mailstore

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Messages that no mailbox names are what a crash leaves of deliveries that it broke
// off, and of expunges whose space was not taken back yet. The next start takes them
// away. They would also be all that is left of messages that the index has lost
// without a trace, so they are counted before.

// CountUnnamed counts the messages of some accounts that no mailbox names and that
// journal, as far as it remembers messages, has never seen named. Nobody else uses the
// store.
func (s *Store) CountUnnamed(ctx context.Context, journal *JournalWitness, accounts []driver.Account) (messages int, err error) {
	for _, a := range accounts {
		known, err := s.namedRefs(ctx, a)
		if err != nil {
			return 0, err
		}
		if acct := journal.accounts[a]; acct != nil {
			for ref := range acct.named {
				known[ref] = struct{}{}
			}
		}
		n, err := s.countOthers(ctx, a, known)
		if err != nil {
			return 0, err
		}
		messages += n
	}
	return messages, nil
}

// namedRefs returns the blobs that an account names.
func (s *Store) namedRefs(ctx context.Context, a driver.Account) (known map[driver.Ref]struct{}, err error) {
	err = s.kv.View(ctx, a, func(r driver.Reader) error {
		known = make(map[driver.Ref]struct{})
		return scanPrefix(r, []byte{keyMessage}, func(_, value []byte) error {
			rec, err := decodeMessage(value)
			known[rec.ref] = struct{}{}
			return err
		})
	})
	return known, err
}

// countOthers counts the blobs of an account that are not among some.
func (s *Store) countOthers(ctx context.Context, a driver.Account, known map[driver.Ref]struct{}) (n int, err error) {
	err = s.blobs.Sweep(ctx, a, func(ref driver.Ref) bool {
		if _, ok := known[ref]; !ok {
			n++
		}
		return true // nothing is taken away
	})
	return n, err
}

// tellUnnamed warns of messages that the sweep after a crash will take away.
func (s *Store) tellUnnamed(ctx context.Context) error {
	list, err := s.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		a := driver.Account(info.Number)
		known, err := s.namedRefs(ctx, a)
		if err != nil {
			return imap.E("mailstore: messages of account "+info.Name, imap.Other, err)
		}
		n, err := s.countOthers(ctx, a, known)
		if err != nil {
			return err
		}
		if n > 0 {
			s.opts.Logger.Warn("the store was not closed in order, and has messages that no mailbox names: deliveries that were broken off before they were acknowledged, and expunged messages; they are taken away now", "account", info.Name, "messages", n)
		}
	}
	return nil
}
