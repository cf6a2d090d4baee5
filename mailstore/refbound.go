package mailstore

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// The newest blobs may get lost while the index that names them is not: a disk
// breaks, or somebody puts back an older copy of the messages. If the engine then
// gave out their Refs again, old rows would show new messages, perhaps those of
// others. So the index knows a bound of all Refs that it names, and a store that
// is opened tells the engine to go on above it.
//
// The bound is raised before the first row that names a Ref above it, and by
// much, so that few commits wait for it.

// refStep is how far the bound is above the Ref that has raised it: 16 segments
// of bloblog.
const refStep = 16 << 32

// refBound is what is known of the bound on disk, which is never less.
type refBound struct {
	known atomic.Uint64
	mu    sync.Mutex // held by the one who raises it
}

func readRefBound(r driver.Reader) (driver.Ref, error) {
	data, ok, err := r.Get([]byte{keyRefBound})
	if err != nil || !ok {
		return 0, err
	}
	d := decoder{data: data}
	return driver.Ref(d.uint()), d.err("bound of the references to messages")
}

// skipRefs has the engine go on above the bound.
func (s *Store) skipRefs(ctx context.Context, bound driver.Ref) error {
	s.refs.known.Store(uint64(bound))
	if bound == 0 {
		return nil
	}
	return s.blobs.Skip(ctx, bound)
}

// firstBound gives a bound to a store that an earlier release wrote, from all that it
// names. A store in which that cannot be read has none until its first APPEND.
func (s *Store) firstBound(ctx context.Context) (bound driver.Ref, err error) {
	list, err := s.Accounts(ctx)
	for i := 0; i < len(list) && err == nil; i++ {
		err = s.kv.View(ctx, driver.Account(list[i].Number), func(r driver.Reader) error {
			return scanPrefix(r, []byte{keyMessage}, func(_, value []byte) error {
				rec, err := decodeMessage(value)
				bound = max(bound, rec.ref)
				return err
			})
		})
	}
	if isDamage(err) {
		s.opts.Logger.Error("the index is damaged: run `rookery check`", "err", err)
		return 0, ctx.Err()
	}
	if err != nil || bound == 0 {
		return 0, err
	}
	return s.raiseBound(ctx, bound)
}

// raiseBound raises the bound on disk above a Ref, if it is not, and returns it.
func (s *Store) raiseBound(ctx context.Context, top driver.Ref) (bound driver.Ref, err error) {
	err = s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) (err error) {
		if bound, err = readRefBound(tx); err != nil || top <= bound {
			return err
		}
		bound = max(top, top+refStep) // an engine may have Refs near the end
		return tx.Set([]byte{keyRefBound}, binary.AppendUvarint(nil, uint64(bound)))
	})
	return bound, err
}

// boundRefs sees to it that the bound covers the blobs of items. They may be
// named when it has returned.
func (s *Store) boundRefs(ctx context.Context, items []AppendItem) error {
	top := driver.Ref(0)
	for i := range items {
		top = max(top, items[i].Upload.rec.ref)
	}
	if uint64(top) <= s.refs.known.Load() {
		return nil
	}
	s.refs.mu.Lock()
	defer s.refs.mu.Unlock()
	if uint64(top) <= s.refs.known.Load() {
		return nil // another has raised it meanwhile
	}
	bound, err := s.raiseBound(ctx, top)
	switch {
	case err == nil:
		s.refs.known.Store(uint64(bound))
	case errors.Is(err, driver.ErrUnknown): // the next one tries again
		return imap.E("mailstore: raise the bound of references", imap.Unavailable, err)
	}
	return err
}
