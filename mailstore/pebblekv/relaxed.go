package pebblekv

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A store with Options.Relaxed acknowledges before the disk has anything. What a
// crash takes must be whole transactions from the end, and the index must not
// name a blob that the crash has taken. So the log is held back until the blobs
// are durable that it may name (heldLog); and blobs are deleted only when the log
// says, durably, that nobody names them.

// startSyncer makes what a relaxed store has acknowledged durable within the
// window: a tick and a sync are shorter than it.
func (in *instance) startSyncer(window time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(max(window/2, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-in.failed:
				return
			case <-tick.C:
				if err := in.db.LogData(nil, pebble.Sync); err != nil {
					in.fail(err)
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// Sync returns when everything is durable that an Update had returned for
// before. Only a relaxed store has anything to do.
func (kv *KV) Sync(ctx context.Context) error {
	const op = "index sync"
	if err := ctx.Err(); err != nil || kv.opts.Relaxed <= 0 {
		return err
	}
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return err
	}
	defer kv.leave(0, acct)
	err = in.db.LogData(nil, pebble.Sync)
	if failure := in.failure(); failure != nil {
		err = failure
	}
	if err != nil {
		return imap.E(op, imap.Unavailable, err)
	}
	return nil
}

type relaxedBlobs struct {
	heldBlobs
	kv *KV
}

// Delete implements driver.Blobs.
func (b relaxedBlobs) Delete(ctx context.Context, a driver.Account, refs []driver.Ref) error {
	if err := b.kv.Sync(ctx); err != nil {
		return err
	}
	return b.Blobs.Delete(ctx, a, refs)
}

// Sweep implements driver.Blobs.
func (b relaxedBlobs) Sweep(ctx context.Context, a driver.Account, named func(driver.Ref) bool) error {
	if err := b.kv.Sync(ctx); err != nil {
		return err
	}
	return b.Blobs.Sweep(ctx, a, named)
}
