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
// name a blob that the crash has taken. So the log is held back in memory until
// the blobs are durable that it may name, which happens at each of its syncs; and
// blobs are deleted only when the log says, durably, that nobody names them.

// maxHeld is how much of the log is held back at most, in bytes.
const maxHeld = 4 << 20

// A heldLog is a file of a relaxed store's log. Pebble writes, syncs and closes
// it from one goroutine.
type heldLog struct {
	*logFile
	sync func(context.Context) error // of the blobs
	held []byte
}

func (h *heldLog) Write(p []byte) (int, error) {
	h.held = append(h.held, p...)
	if len(h.held) < maxHeld {
		return len(p), nil
	}
	return len(p), h.let()
}

// let writes what was held back, once it may be written.
func (h *heldLog) let() error {
	if len(h.held) == 0 {
		return nil
	}
	blobs := func() error { return h.sync(context.Background()) }
	if err := h.fs.must("sync the messages before", blobs, nothing); err != nil {
		return err
	}
	_, err := h.logFile.Write(h.held)
	h.held = h.held[:0]
	return err
}

func (h *heldLog) Sync() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.Sync()
}

func (h *heldLog) SyncData() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.SyncData()
}

// SyncTo need not sync.
func (h *heldLog) SyncTo(int64) (full bool, err error) { return false, nil }

func (h *heldLog) Close() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.Close()
}

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

// Blobs returns Options.Blobs as they are to be used beside this store. In a
// relaxed one Sync has nothing to do, and what is deleted stays until nobody
// can name it any more.
func (kv *KV) Blobs() driver.Blobs {
	if kv.opts.Relaxed <= 0 {
		return kv.opts.Blobs
	}
	return relaxedBlobs{kv.opts.Blobs, kv}
}

type relaxedBlobs struct {
	driver.Blobs
	kv *KV
}

// Sync implements driver.Blobs, within the window.
func (b relaxedBlobs) Sync(ctx context.Context) error { return ctx.Err() }

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
