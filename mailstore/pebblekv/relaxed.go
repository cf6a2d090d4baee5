package pebblekv

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A store with Options.Relaxed acknowledges before the disk has anything. What a
// crash takes must be whole transactions from the end, and the index must not
// name a blob that the crash has taken. So the log is held back until the blobs
// are durable that it may name (heldLog); until then they stay pinned, so that
// one that the disk loses meanwhile fails the log (lateWriter); and blobs are
// deleted only when the log says, durably, that nobody names them.

// startSyncer makes what a relaxed store has acknowledged durable within the
// window: a tick and a sync are shorter than it.
func (in *instance) startSyncer(window time.Duration, late *lateReleases) (stop func()) {
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
				if err := in.syncLog(late); err != nil {
					in.fail(err)
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// syncLog makes durable what has been committed. The blobs that it names need no
// pin from then on.
func (in *instance) syncLog(late *lateReleases) error {
	until := late.end()
	err := in.db.LogData(nil, pebble.Sync)
	if failure := in.failure(); failure != nil {
		return failure
	}
	if err == nil {
		late.release(until)
	}
	return err
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
	if err := in.syncLog(&kv.late); err != nil {
		return imap.E(op, imap.Unavailable, err)
	}
	return nil
}

type relaxedBlobs struct {
	heldBlobs
	kv *KV
}

// Create implements driver.Blobs.
func (b relaxedBlobs) Create(ctx context.Context, a driver.Account, size int64) (driver.Writer, error) {
	w, err := b.Blobs.Create(ctx, a, size)
	if err != nil {
		return nil, err
	}
	return &lateWriter{Writer: w, late: &b.kv.late}, nil
}

// A lateWriter pins its blob beyond its own Release, as long as what may name the
// blob is not durable. A blob that was finished and then given up is pinned as
// well: that nobody has named it is not known here.
type lateWriter struct {
	driver.Writer
	late               *lateReleases
	finished, released bool
}

// Finish implements driver.Writer.
func (w *lateWriter) Finish(meta []byte) (driver.Ref, error) {
	ref, err := w.Writer.Finish(meta)
	w.finished = w.finished || err == nil
	return ref, err
}

// Release implements driver.Writer.
func (w *lateWriter) Release() {
	if w.released {
		return
	}
	w.released = true
	if !w.finished {
		w.Writer.Release()
		return
	}
	if f, ok := w.Writer.(interface{ Free() }); ok {
		f.Free() // its memory, before its pin
	}
	w.late.add(w.Writer)
}

// lateReleases are Writers that wait for the log, in the order of their Releases.
type lateReleases struct {
	mu      sync.Mutex
	first   uint64 // the number of waiting[0]
	waiting []driver.Writer
}

func (l *lateReleases) add(w driver.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, w)
}

// end is behind the Writers that wait now.
func (l *lateReleases) end() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first + uint64(len(l.waiting))
}

// release releases the Writers before until.
func (l *lateReleases) release(until uint64) {
	l.mu.Lock()
	n := max(until, l.first) - l.first // another may have been here
	list := l.waiting[:n]
	l.waiting, l.first = slices.Clone(l.waiting[n:]), l.first+n
	l.mu.Unlock()
	for _, w := range list {
		w.Release()
	}
}

// releaseAll releases all that wait for a log to which nothing is written any more.
func (l *lateReleases) releaseAll() { l.release(l.end()) }

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
