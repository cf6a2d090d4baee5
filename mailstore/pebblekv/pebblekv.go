// Package pebblekv keeps mailstore's index in an embedded Pebble database: one
// log for all accounts, group commit, no cgo. It implements driver.KV and
// nothing more; the bytes of messages belong into package bloblog.
//
// Start with [Open]. docs/design/020-embedded-engine.md says why it is built
// as it is.
//
// # What a View sees
//
// Pebble shows a batch to readers before the batch is on disk. This package
// does not: a View takes its snapshot at once and then waits until every commit
// of its account that the snapshot may contain is on disk. It never waits for
// commits that begin later, and mostly there is none to wait for. Transactions
// of one account follow each other without waiting for the disk, since the log
// keeps their order; each returns when it is durable.
//
// # Failure
//
// After a failed write of the log nobody knows what is on disk. The store then
// refuses everything with kind Unavailable (the commits under way also carry
// driver.ErrUnknown), and [KV.Failed] tells the owner, who calls [KV.Reopen]
// when the cause may be gone; [KV.Keep] does that by itself.
package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// KV is a driver.KV in a folder. Its methods are safe for concurrent use.
type KV struct {
	dir  string
	opts Options

	reopening sync.Mutex     // outside of mu
	retiring  sync.WaitGroup // instances that were replaced and are being closed
	journal   *journal       // nil where there is none
	stopSaver func()         // ends the goroutine that saves states
	late      lateReleases   // of blobs, in a relaxed store
	marks     marks
	opening   atomic.Pointer[opening] // names it, once the log may ride
	naming    sync.Mutex              // held by who writes that to the disk

	looking           sync.Mutex // held by Look
	seen, seenJournal durable.Observer
	unsaved           bool // Look has found what it could not save

	mu       sync.Mutex
	in       *instance
	closed   bool
	watchers map[int]func()
	watched  int // the key of the newest watcher
}

var _ driver.KV = (*KV)(nil)

// An account exists while somebody is in it, and then as one of keptAccounts.
type account struct {
	in    *instance
	users int // guarded by KV.mu
	turn  chan struct{}

	// What the newest transaction has left under the key that it looked up first,
	// which the next one mostly does, too. It belongs to who has the turn.
	first      []byte // nil where that is not known
	firstValue []byte

	mu   sync.Mutex
	last *commit // the newest that has begun; older ones are durable before it
}

// A commit is on its way to the disk until done is closed; err is set before.
type commit struct {
	done chan struct{}
	err  error
}

// Open opens the store in the folder dir, which it makes when it is not there.
// The caller makes sure that no other process has it open: package datadir.
func Open(dir string, opts Options) (*KV, error) {
	if opts = opts.withDefaults(); dir != "" {
		dir = opts.FS.PathDir(opts.FS.PathJoin(dir, "x")) // as PathDir writes it
	}
	kv := &KV{dir: dir, opts: opts, watchers: make(map[int]func()), stopSaver: func() {}}
	if err := kv.layIn(); err != nil {
		return nil, err
	}
	if opts.Journal != "" {
		// Before the store is opened, since a journal that is begun names itself in the store.
		if err := kv.refuseLost(); err != nil {
			return nil, err
		}
		if err := kv.beginJournal(); err != nil {
			kind := imap.Unavailable
			if imap.KindOf(err) == imap.Corruption {
				kind = imap.Corruption
			}
			return nil, imap.E("index open", kind, fmt.Errorf("%s: %w", opts.Journal, err))
		}
	}
	there, err := pebble.Peek(dir, kv.opts.FS)
	isNew := err != nil || !there.Exists
	in, err := kv.openInstance(opts.Existing)
	if err == nil && isNew {
		// Pebble begins the first log before it has brought the store to the format
		// in which logs say up to where they are on disk: see marks.
		if err = in.close(); err == nil {
			in, err = kv.openInstance(true)
		}
	}
	if err == nil {
		if err = kv.refuseBehind(in); err != nil {
			err = errors.Join(err, in.close())
		}
	}
	if err != nil {
		return nil, err
	}
	kv.in = in
	if kv.journal != nil {
		kv.startJournal()
	}
	kv.settled()
	kv.letRide()
	return kv, nil
}

func (kv *KV) beginJournal() (err error) {
	if kv.opts.Existing {
		// Nothing is made beside a store that is not there.
		if there, err := pebble.Peek(kv.dir, kv.opts.FS); err != nil || !there.Exists {
			return nil
		}
	}
	kv.journal, err = openJournal(kv.dir, kv.opts)
	return err
}

// refuseLost is an error where the store has lost what its journal may have.
func (kv *KV) refuseLost() error {
	if kv.opts.Journal == "" {
		return nil
	}
	lost, err := LostLogs(kv.opts.FS, kv.dir, kv.opts.Journal)
	if err != nil || len(lost) == 0 {
		return err
	}
	return imap.E("index open", imap.Corruption, fmt.Errorf("%s: changes that were acknowledged are missing: %s", kv.dir, strings.Join(lost, "; ")))
}

// startJournal saves a first state where there is none: a store without one is
// as safe as it was before there were journals, so this fails no opening.
func (kv *KV) startJournal() {
	ctx, cancel := context.WithCancel(context.Background())
	lacks, err := kv.journal.lacks()
	if err == nil && lacks {
		err = kv.SaveState(ctx)
	}
	if err != nil {
		kv.opts.Logger.Warn("the journal of the index cannot be begun; it is tried again later", "dir", kv.opts.Journal, "err", err)
		kv.journal.broken()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		kv.keepJournal(ctx)
	}()
	kv.stopSaver = func() {
		cancel()
		<-done
		if kv.journal.isBroken() {
			_ = kv.SaveState(context.Background()) // the next opening tries again
		}
	}
}

// Failed returns a channel that is closed when the store cannot write any more.
// After a Reopen there is a new one.
func (kv *KV) Failed() <-chan struct{} {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return kv.in.failed
}

// enter finds the account and keeps the store open until leave is called.
func (kv *KV) enter(op string, a driver.Account) (*account, *instance, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.closed {
		return nil, nil, imap.E(op, imap.Closed, nil)
	}
	if err := kv.in.failure(); err != nil {
		return nil, nil, imap.E(op, imap.Unavailable, err)
	}
	in := kv.in
	acct := in.accounts[a]
	if acct == nil {
		acct = &account{in: in, turn: make(chan struct{}, 1)}
		in.accounts[a] = acct
	}
	acct.users++
	in.running++
	return acct, in, nil
}

func (kv *KV) leave(a driver.Account, acct *account) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	in := acct.in
	if acct.users--; acct.users == 0 {
		in.forgetOther(a) // everyone has waited for acct.last
	}
	if in.running--; in.running > 0 {
		return
	}
	if in.idle != nil {
		close(in.idle)
		in.idle = nil
	}
	if in.retired {
		kv.retire(in)
	}
}

// View implements driver.KV.
func (kv *KV) View(ctx context.Context, a driver.Account, fn func(driver.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	acct, in, err := kv.enter("index view", a)
	if err != nil {
		return err
	}
	defer kv.leave(a, acct)
	// First the view, then the wait: a commit names itself in acct.last before
	// the database shows it.
	v, err := newView(in.db, a)
	if err != nil {
		return err
	}
	// The iterator says once more at its end what fn has been told of damage, and
	// has perhaps gone around.
	defer func() { _ = v.close() }()
	if err := acct.wait(ctx); err != nil {
		return err
	}
	return fn(v)
}

// wait waits for the newest commit of the account. An account without one does
// not wait.
func (acct *account) wait(ctx context.Context) error {
	acct.mu.Lock()
	last := acct.last
	acct.mu.Unlock()
	if last == nil {
		return nil
	}
	select {
	case <-last.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if last.err != nil {
		return imap.E("index view", imap.Unavailable, last.err)
	}
	return nil
}

// Update implements driver.KV.
func (kv *KV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	acct, in, err := kv.enter("index update", a)
	if err != nil {
		return err
	}
	defer kv.leave(a, acct)

	select {
	case acct.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	batch, c, err := kv.run(ctx, in, acct, a, fn)
	if c == nil {
		// fn may have read what is not durable yet; its answer must not get
		// out before that is.
		if waitErr := acct.wait(ctx); waitErr != nil {
			return waitErr
		}
		return err
	}
	if err == nil {
		err = in.wait(batch)
	}
	if err != nil {
		in.fail(err)
		err = imap.E("index commit", imap.Unavailable, fmt.Errorf("%w: %w", driver.ErrUnknown, err))
	} else {
		err = batch.Close()
		kv.marks.commit(kv)
	}
	c.err = err
	close(c.done)
	return err
}

// run runs fn in the account's turn and applies its batch. Without a commit
// nothing was applied.
func (kv *KV) run(ctx context.Context, in *instance, acct *account, a driver.Account, fn func(driver.Txn) error) (*pebble.Batch, *commit, error) {
	defer func() { <-acct.turn }()
	tx := &txn{reader: reader{in.db, a}, acct: acct, batch: in.db.NewBatch()}
	err := fn(tx)
	if closeErr := tx.done(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && tx.written > driver.MaxTxnBytes {
		err = imap.E("index write", imap.Limit, errTooLarge)
	}
	if err != nil || tx.batch.Empty() {
		_ = tx.batch.Close() // of an uncommitted batch: frees memory only
		return nil, nil, err
	}
	c := &commit{done: make(chan struct{})}
	acct.mu.Lock()
	acct.last = c
	acct.mu.Unlock()
	if err = in.apply(tx.batch); err == nil {
		tx.noteFirst()
	}
	return tx.batch, c, err
}

// Watch implements driver.KV. One process owns the store; but after a Reopen a
// commit may be there whose outcome was not known, and then all are woken.
func (kv *KV) Watch(_ driver.Account, wake func()) (stop func()) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	kv.watched++
	key := kv.watched
	kv.watchers[key] = wake
	return func() {
		kv.mu.Lock()
		defer kv.mu.Unlock()
		delete(kv.watchers, key)
	}
}
