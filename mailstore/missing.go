package mailstore

import (
	"context"
	"time"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Files of messages may be gone while the index names what was in them: a disk that
// broke, a folder that was copied in part. Clients are told so of each message when
// they ask for it. The operator is told soon after the start.

// CountMissing counts the messages whose files are gone, without reading any: what is
// damaged is found by Verify. It may run beside anything. Stats has the outcome, and
// accounts names up to ten of the accounts that are hit. Without Options.Holds it finds
// nothing.
func (s *Store) CountMissing(ctx context.Context) (messages int64, accounts []string, err error) {
	if s.opts.Holds == nil {
		return 0, nil, nil
	}
	list, err := s.Accounts(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, info := range list {
		n, err := s.missingIn(ctx, driver.Account(info.Number))
		if err != nil && !isDamage(err) { // of which others tell
			return 0, nil, err
		}
		if messages += n; n > 0 && len(accounts) < 10 {
			accounts = append(accounts, info.Name)
		}
	}
	s.missing.Store(messages)
	return messages, accounts, nil
}

// missingIn counts those of one account.
func (s *Store) missingIn(ctx context.Context, a driver.Account) (n int64, err error) {
	var suspects [][]byte
	look := func(value []byte) (gone bool, err error) {
		rec, err := decodeMessage(value)
		return err == nil && !s.opts.Holds(rec.ref), err
	}
	err = s.kv.View(ctx, a, func(r driver.Reader) error {
		suspects = nil
		return scanPrefix(r, []byte{keyMessage}, func(key, value []byte) error {
			gone, err := look(value)
			if gone {
				suspects = append(suspects, append([]byte(nil), key...))
			}
			return err
		})
	})
	if err != nil || len(suspects) == 0 {
		return 0, err
	}
	// What was expunged meanwhile has no record now.
	err = s.kv.View(ctx, a, func(r driver.Reader) error {
		n = 0
		for _, key := range suspects {
			value, ok, err := r.Get(key)
			if err != nil {
				return err
			}
			if gone, _ := look(value); ok && gone {
				n++
			}
		}
		return nil
	})
	return n, err
}

// missingDelay is when after the start files are looked for: first come the clients
// that have waited for the server.
const missingDelay = 2 * time.Second

// tellMissing says soon after the start what is gone.
func (s *Store) tellMissing() {
	select {
	case <-time.After(missingDelay):
	case <-s.ctx.Done():
		return
	}
	n, accounts, err := s.CountMissing(s.ctx)
	switch {
	case s.ctx.Err() != nil:
	case err != nil:
		s.opts.Logger.Warn("nobody knows whether files of messages are gone", "err", err)
	case n > 0:
		s.opts.Logger.Error("files of messages are gone, and the index names messages that were in them; all others are served. "+
			"Put the files back (stop the server first), or restore a backup; `rookery check` names each message", "messages", n, "accounts", accounts)
	}
}
