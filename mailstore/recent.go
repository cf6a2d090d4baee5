package mailstore

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// A Recent names a mailbox whose index was in memory.
type Recent struct {
	User    string `json:"user"`
	Mailbox string `json:"mailbox"`
}

// Recent lists the mailboxes whose indexes are in memory, n at most, the one that was
// used last first. [Store.Warm] brings them back after a restart.
func (s *Store) Recent(n int) []Recent {
	type used struct {
		Recent
		at uint64
	}
	var list []used
	for _, a := range s.live() {
		names := a.tree.Load()
		if names == nil {
			continue // is being read
		}
		a.mu.Lock()
		for _, b := range a.boxes {
			if node := names.byNum[b.num]; node != nil && b.indexed > 0 {
				list = append(list, used{Recent{a.user, node.name}, b.lastUse})
			}
		}
		a.mu.Unlock()
	}
	slices.SortFunc(list, func(x, y used) int { return cmp.Compare(y.at, x.at) })
	recent := make([]Recent, min(n, len(list)))
	for i := range recent {
		recent[i] = list[i].Recent
	}
	return recent
}

// warmShare is the part of Options.IndexMemory that Warm fills.
const warmShare = 4

// Warm reads the indexes of mailboxes, so that who selects one does not wait for the
// disk. It ends when a quarter of Options.IndexMemory is taken, by whomever, or with
// ctx. Mailboxes and accounts that are gone are left out; the others that cannot be
// read are in the error.
func (s *Store) Warm(ctx context.Context, list []Recent) error {
	var errs []error
	for _, r := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.indexed.Load() > s.opts.IndexMemory/warmShare {
			break
		}
		err := s.warm(ctx, r)
		if kind := imap.KindOf(err); err != nil && kind != imap.NotFound && kind != imap.Cannot {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Store) warm(ctx context.Context, r Recent) error {
	a, err := s.Lookup(ctx, r.User)
	if err != nil {
		return err
	}
	m, err := a.Mailbox(ctx, r.Mailbox)
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Snapshot(ctx)
	return err
}
