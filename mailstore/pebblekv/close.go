package pebblekv

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// Close implements driver.KV.
func (kv *KV) Close() error {
	kv.reopening.Lock()
	defer kv.reopening.Unlock()
	kv.mu.Lock()
	if kv.closed {
		kv.mu.Unlock()
		return nil
	}
	kv.mu.Unlock()
	kv.stopSaver()
	kv.marks.stop()
	kv.mu.Lock()
	kv.closed = true
	in := kv.in
	for in.running > 0 {
		if in.idle == nil {
			in.idle = make(chan struct{})
		}
		idle := in.idle
		kv.mu.Unlock()
		<-idle
		kv.mu.Lock()
	}
	kv.mu.Unlock()
	err := in.close()
	kv.late.releaseAll()
	kv.retiring.Wait()
	if err == nil && kv.journal != nil {
		if err := kv.journal.closed(); err != nil {
			kv.opts.Logger.Warn("the end of the journal is not noted", "dir", kv.opts.Journal, "err", err)
		}
	}
	return err
}

// diskPatience is how long a write that has begun may take to end after the
// store has failed.
const diskPatience = 10 * time.Second

var errDiskHangs = errors.New("the disk has not answered for a while")

// Reopen opens a store that has failed once more. Everything that was
// acknowledged is there; what ended with driver.ErrUnknown may or may not be,
// and whoever watches an account is woken. Transactions that still run on the
// failed one end with errors of kind Unavailable. A store that has not failed
// is left alone, once the writes that have begun are over.
//
// The error is of kind Unavailable when the cause is not gone: call it again
// later. Where it is of another kind, trying again will not help.
func (kv *KV) Reopen() error {
	kv.reopening.Lock()
	defer kv.reopening.Unlock()
	kv.mu.Lock()
	old, closed := kv.in, kv.closed
	kv.mu.Unlock()
	if closed {
		return imap.E("index reopen", imap.Closed, nil)
	}
	if old.failure() == nil {
		old.disk.quiet() // what is failing now has not said so yet
		if old.failure() == nil {
			return nil
		}
	}
	if !old.disk.settled(diskPatience) {
		return imap.E("index reopen", imap.Unavailable, errDiskHangs)
	}
	kv.late.releaseAll() // what they wait for is not written any more
	if err := kv.layIn(); err != nil {
		return err
	}
	kv.settled()
	if err := kv.refuseLost(); err != nil {
		return err
	}
	// What has failed to ride may be found later, and is of logs that others follow. So
	// the next logs ride under another name.
	named := kv.opening.Swap(nil)
	in, err := kv.openInstance(true)
	if err != nil {
		kv.opening.Store(named)
		return err
	}
	kv.letRide()
	kv.mu.Lock()
	kv.in, old.retired = in, true
	if old.running == 0 {
		kv.retire(old)
	}
	if kv.journal != nil {
		kv.journal.broken()
	}
	wakes := slices.Collect(maps.Values(kv.watchers))
	kv.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
	return nil
}

// retire closes an instance that was replaced and that nobody uses any more.
// kv.mu is held.
func (kv *KV) retire(in *instance) {
	kv.retiring.Go(func() { _ = in.close() }) // says again what in.err says
}

// Keep calls Reopen whenever the store fails, and again until that works, with
// pauses of up to 10 s. It returns nil when ctx ends, and otherwise why the
// store cannot be opened any more: then the process should end, and say so.
func (kv *KV) Keep(ctx context.Context) error {
	const least, most, quick = 100 * time.Millisecond, 10 * time.Second, 5 * time.Second
	pause := time.Duration(0)
	works, opened := true, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-kv.Failed():
		}
		if works && time.Since(opened) > quick {
			pause = 0 // otherwise it fails again and again
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		err := kv.Reopen()
		works = err == nil
		switch kind := imap.KindOf(err); {
		case err == nil:
			opened = time.Now()
			kv.opts.Logger.Info("the index has been opened again, and can be changed", "dir", kv.dir)
		case kind == imap.Closed:
			return nil
		case kind != imap.Unavailable:
			return err
		}
		pause = min(max(2*pause, least), most)
		if err != nil {
			kv.opts.Logger.Error("the index cannot be opened again yet; it is tried again", "dir", kv.dir, "pause", pause, "err", err)
		}
	}
}
