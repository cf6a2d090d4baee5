package pebblekv

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
)

// An instance is one opened Pebble database, from its opening to its close or
// failure.
type instance struct {
	db     *pebble.DB
	dir    string
	log    *slog.Logger
	mode   *pebble.WriteOptions
	failed chan struct{} // closed when the database cannot go on
	stop   func()        // stops the syncer of a relaxed store

	once sync.Once
	err  error // why it failed; set before failed is closed
}

func openInstance(dir string, opts Options) (*instance, error) {
	in := &instance{dir: dir, log: opts.Logger, failed: make(chan struct{}), mode: pebble.Sync, stop: func() {}}
	log := &logFS{FS: opts.FS, fail: in.fail}
	opts.FS = log
	db, err := pebble.Open(dir, opts.pebble(&listener{log: opts.Logger, fail: in.fail}))
	if failure := in.failure(); err == nil && failure != nil {
		in.db, err = db, failure
		_ = in.close() // its failure is known
	}
	if err != nil {
		kind := imap.Unavailable
		if pebble.IsCorruptionError(err) {
			kind = imap.Corruption
		}
		return nil, imap.E("index open", kind, fmt.Errorf("%s: %w", dir, err))
	}
	in.db = db
	log.opened.Store(true)
	if opts.Relaxed > 0 {
		in.mode = pebble.NoSync
		in.stop = in.startSyncer(opts.Relaxed)
	}
	return in, nil
}

// fail is called by whoever sees that the database cannot go on, possibly under
// locks of Pebble's.
func (in *instance) fail(err error) {
	in.once.Do(func() {
		in.err = err
		close(in.failed)
		in.log.Error("the index cannot write any more: nothing is acknowledged until it is opened again", "dir", in.dir, "err", err)
	})
}

// failure is nil while the database works.
func (in *instance) failure() error {
	select {
	case <-in.failed:
		return in.err
	default:
		return nil
	}
}

// apply hands the batch to Pebble, which shows it to readers and begins to
// write it.
func (in *instance) apply(batch *pebble.Batch) error {
	var err error
	if in.mode == pebble.NoSync {
		err = in.db.Apply(batch, pebble.NoSync)
	} else {
		err = in.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	return errors.Join(err, in.failure())
}

// wait waits until an applied batch is as durable as the store promises. A
// failure that came before Pebble spoke of success counts: see logFS.
func (in *instance) wait(batch *pebble.Batch) error {
	if in.mode == pebble.NoSync {
		return nil
	}
	return errors.Join(batch.SyncWait(), in.failure())
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

var errStuck = errors.New("the index does not close after its failure; restart the server")

// closePatience is how long a database that has failed may take to close.
const closePatience = 10 * time.Second

// close closes the database. One that has failed may never come to an end, and
// may panic.
func (in *instance) close() error {
	if in.failure() == nil {
		in.stop()
		if err := in.db.Close(); err != nil {
			return imap.E("index close", imap.Unavailable, err)
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("%w (%v)", errStuck, p)
			}
		}()
		in.stop()
		_ = in.db.Close() // says again what in.err says
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(closePatience):
		return errStuck
	}
}
