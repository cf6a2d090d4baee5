// Package memkv is an engine for mailstore that keeps everything in memory and
// forgets it at the end of the process. It is for tests and examples; "durable"
// means nothing here. It is the plainest reading of the contract in package
// driver, so compare another engine with it when they disagree.
//
// Start with [NewKV] and [NewBlobs].
package memkv

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// KV is a driver.KV in memory.
type KV struct {
	rerun bool

	mu       sync.Mutex
	accounts map[driver.Account]*account
	closed   bool
	running  sync.WaitGroup
}

var _ driver.KV = (*KV)(nil)

// An account's root is replaced by each commit; turn is held by the one
// transaction that may run.
type account struct {
	turn chan struct{}
	mu   sync.Mutex
	root *tree
}

func (a *account) snapshot() *tree {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.root
}

// An Option changes how a KV behaves.
type Option func(*KV)

// RunTwice makes Update run each transaction twice and keep only what the
// second run did, as an engine does that meets a conflict. It finds callers
// that keep something from a run that failed.
func RunTwice() Option { return func(kv *KV) { kv.rerun = true } }

// NewKV returns an empty store.
func NewKV(opts ...Option) *KV {
	kv := &KV{accounts: make(map[driver.Account]*account)}
	for _, o := range opts {
		o(kv)
	}
	return kv
}

// enter finds the account and counts the caller as running until leave.
func (kv *KV) enter(op string, a driver.Account) (acct *account, leave func(), err error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.closed {
		return nil, nil, imap.E(op, imap.Closed, nil)
	}
	acct = kv.accounts[a]
	if acct == nil {
		acct = &account{turn: make(chan struct{}, 1)}
		kv.accounts[a] = acct
	}
	kv.running.Add(1)
	return acct, kv.running.Done, nil
}

// View implements driver.KV.
func (kv *KV) View(ctx context.Context, a driver.Account, fn func(driver.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	acct, leave, err := kv.enter("memkv view", a)
	if err != nil {
		return err
	}
	defer leave()
	return fn(&txn{root: acct.snapshot()})
}

// Update implements driver.KV.
func (kv *KV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	acct, leave, err := kv.enter("memkv update", a)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case acct.turn <- struct{}{}:
		defer func() { <-acct.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}

	if kv.rerun {
		if err := fn(&txn{root: acct.snapshot()}); err != nil {
			return err
		}
	}
	tx := &txn{root: acct.snapshot()}
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if tx.written > driver.MaxTxnBytes {
		return imap.E("memkv update", imap.Limit, errTxnTooLarge)
	}
	acct.mu.Lock()
	acct.root = tx.root
	acct.mu.Unlock()
	return nil
}

var errTxnTooLarge = errors.New("the transaction writes more than driver.MaxTxnBytes; split it")

// Watch implements driver.KV. One process owns the store, so wake is never called.
func (kv *KV) Watch(driver.Account, func()) (stop func()) { return func() {} }

// Close implements driver.KV.
func (kv *KV) Close() error {
	kv.mu.Lock()
	kv.closed = true
	kv.mu.Unlock()
	kv.running.Wait()
	return nil
}

// txn is both kinds of transaction: a root, and for an Update the edits to it.
type txn struct {
	root    *tree
	written int
}

func (tx *txn) Get(key []byte) ([]byte, bool, error) {
	v, ok := tx.root.get(key)
	return v, ok, nil
}

func (tx *txn) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	tx.root.scan(from, to, fn)
	return nil
}

func (tx *txn) Set(key, value []byte) error {
	tx.written += len(key) + len(value)
	tx.root = tx.root.set(bytes.Clone(key), append([]byte{}, value...))
	return nil
}

func (tx *txn) Delete(key []byte) error {
	tx.written += len(key)
	tx.root = tx.root.deleteRange(key, after(key))
	return nil
}

func (tx *txn) DeleteRange(from, to []byte) error {
	tx.written += len(from) + len(to)
	tx.root = tx.root.deleteRange(from, to)
	return nil
}
