package pebblekv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// An instance is one opened Pebble database, from its opening to its close or
// failure.
type instance struct {
	db     *pebble.DB
	dir    string
	log    *slog.Logger
	mode   *pebble.WriteOptions
	disk   *freezeFS
	failed chan struct{} // closed when the database cannot go on
	stop   func()        // stops the syncer of a relaxed store

	// Guarded by KV.mu.
	accounts map[driver.Account]*account // those in use, and others
	running  int
	idle     chan struct{} // made by who waits, closed when running becomes 0
	retired  bool          // another is in its place: the last to leave closes it

	once sync.Once
	err  error // why it failed; set before failed is closed
}

// wrongSize is what Pebble says, in an error of no kind, of a table that is longer
// or shorter than it was written.
const wrongSize = "object size mismatch"

// openInstance opens the database; again says that it must be there already,
// so that a disk that is gone is not taken for a new store.
func (kv *KV) openInstance(again bool) (*instance, error) {
	dir, opts := kv.dir, kv.opts
	in := &instance{
		dir: dir, log: opts.Logger, mode: pebble.Sync, stop: func() {},
		failed: make(chan struct{}), accounts: make(map[driver.Account]*account),
	}
	in.disk = newFreezeFS(opts.FS, dir, in)
	in.disk.journal = kv.journal
	in.disk.bad.suspect.Store(opts.Still)
	if opts.Blobs != nil {
		in.disk.blobs = opts.Blobs.Sync
	}
	in.disk.opening = &kv.opening
	if rider, ok := opts.Blobs.(Rider); ok && opts.Relaxed <= 0 {
		in.disk.rider = rider
	}
	opts.FS = in.disk
	p := opts.pebble(&listener{log: opts.Logger, in: in})
	p.ErrorIfNotExists = again
	db, err := pebble.Open(dir, p)
	in.db = db
	if failure := in.failure(); err == nil && failure != nil {
		err = failure
		_ = in.close() // its failure is known
	}
	if err != nil {
		kind := imap.Unavailable
		switch {
		case pebble.IsCorruptionError(err), errors.Is(err, pebble.ErrDBNotPristine), strings.Contains(err.Error(), wrongSize):
			kind = imap.Corruption
		case errors.Is(err, pebble.ErrDBDoesNotExist), errors.Is(err, fs.ErrNotExist):
			kind = imap.ContactAdmin
		}
		return nil, imap.E("index open", kind, fmt.Errorf("%s: %w", dir, err))
	}
	if opts.Relaxed > 0 {
		in.mode = pebble.NoSync
		in.stop = in.startSyncer(opts.Relaxed, &kv.late)
	}
	return in, nil
}

// keptAccounts is how many accounts are kept, in use or not: of some 500 bytes.
const keptAccounts = 1024

// forgetOther lets go of an account that nobody uses, but not of a, where there are
// many. KV.mu is held.
func (in *instance) forgetOther(a driver.Account) {
	if len(in.accounts) <= keptAccounts {
		return
	}
	for other, acct := range in.accounts {
		if acct.users == 0 && other != a {
			delete(in.accounts, other)
			return
		}
	}
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

// close closes the database. One that has failed has nothing more to say.
func (in *instance) close() (err error) {
	in.stop()
	in.disk.hurry()
	failed := in.failure() != nil
	defer func() {
		// Pebble counts on what it could not write, and says so by a panic.
		if p := recover(); p != nil && in.failure() == nil {
			panic(p)
		} else if p != nil {
			in.log.Warn("the failed index has not closed in order; nothing is lost by that", "dir", in.dir, "err", p)
		}
	}()
	err = in.db.Close()
	if failure := in.failure(); failure != nil {
		err = failure
	}
	if err != nil && !failed {
		return imap.E("index close", imap.Unavailable, err)
	}
	return nil
}
