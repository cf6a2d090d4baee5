package mailstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// fault fails the n-th call of the engines.
type fault struct {
	calls, n atomic.Int64
	err      error
	happens  bool // the commit is done all the same, as ErrUnknown allows
}

func (f *fault) hit() bool {
	n := f.n.Load() // 0 while nothing is to fail, and nothing is counted
	return n > 0 && f.calls.Add(1) == n
}

type faultyKV struct {
	driver.KV
	f *fault
}

func (k faultyKV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	if !k.f.hit() {
		return k.KV.Update(ctx, a, fn)
	}
	if k.f.happens {
		if err := k.KV.Update(ctx, a, fn); err != nil {
			return err
		}
	}
	return k.f.err
}

func (k faultyKV) View(ctx context.Context, a driver.Account, fn func(driver.Reader) error) error {
	if k.f.hit() {
		return imap.E("view", imap.Unavailable, nil)
	}
	return k.KV.View(ctx, a, fn)
}

type faultyBlobs struct {
	driver.Blobs
	f *fault
}

func (b faultyBlobs) Create(ctx context.Context, a driver.Account, size int64) (driver.Writer, error) {
	if b.f.hit() {
		return nil, imap.E("create", imap.Unavailable, nil)
	}
	return b.Blobs.Create(ctx, a, size)
}

func (b faultyBlobs) Sync(ctx context.Context) error {
	if b.f.hit() {
		return imap.E("sync", imap.Unavailable, nil)
	}
	return b.Blobs.Sync(ctx)
}

func (b faultyBlobs) Delete(ctx context.Context, a driver.Account, refs []driver.Ref) error {
	if b.f.hit() {
		return imap.E("delete", imap.Unavailable, nil)
	}
	return b.Blobs.Delete(ctx, a, refs)
}

// When an engine fails a call, the command that needed it has happened as a
// whole or not at all, everybody sees which, the store goes on, and a restart
// finds the same.
func TestEngineFailsAtEveryCall(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	opts := mailstore.Options{TxnRows: 2, TxnBytes: 1000, PageRows: 3, FoldRows: 2, ExpungeRanges: 1, Now: func() time.Time { return now }}
	faults := map[string]func() *fault{
		"refused":           func() *fault { return &fault{err: imap.E("update", imap.Unavailable, nil)} },
		"unknown, done":     func() *fault { return &fault{err: fmt.Errorf("update: %w", driver.ErrUnknown), happens: true} },
		"unknown, not done": func() *fault { return &fault{err: fmt.Errorf("update: %w", driver.ErrUnknown)} },
	}
	for name, make := range faults {
		t.Run(name, func(t *testing.T) {
			for n := int64(1); ; n++ {
				f := make()
				f.n.Store(n)
				if !faultyLife(t, f, opts) || t.Failed() {
					break
				}
			}
		})
	}
}

// faultyLife runs all steps with one fault and reports whether it was hit.
func faultyLife(t *testing.T, f *fault, opts mailstore.Options) bool {
	b := newBench(t, opts)
	b.account(t, "ann")
	b.store.Close(ctx)
	clean := cleanDumps(t, opts)
	b.kv, b.blobs = faultyKV{b.kv, f}, faultyBlobs{b.blobs, f}
	n := f.n.Swap(0) // opening is not what fails here
	b.open(t)
	a := b.account(t, "ann")
	f.calls.Store(0)
	f.n.Store(n)
	for i, s := range crashSteps() {
		err := s.do(t, a)
		hit := f.calls.Load() >= n
		f.n.CompareAndSwap(n, 0) // looking is not what fails here
		got := dump(t, a)
		if err == nil && got != clean[i+1] || err != nil && got != clean[i] && got != clean[i+1] {
			t.Errorf("fault at call %d: after step %d (%s: %v) the store has\n%s\nwant\n%s", n, i, s.name, err, got, clean[i+1])
		}
		if err != nil {
			appendMail(t, a, imap.Inbox, mail("the store goes on"))
			got = dump(t, a)
		}
		if err != nil || hit {
			b.restart(t)
			a = b.account(t, "ann")
			if now := dump(t, a); now != got {
				t.Errorf("fault at call %d: step %d (%s: %v), a restart makes\n%s\nof\n%s", n, i, s.name, err, now, got)
			}
			check(t, b.store)
			return true
		}
		f.n.Store(n)
	}
	return false
}

// cleanDumps is what users see after each step when nothing fails.
func cleanDumps(t *testing.T, opts mailstore.Options) []string {
	b := newBench(t, opts)
	a := b.account(t, "ann")
	dumps := []string{dump(t, a)}
	for _, s := range crashSteps() {
		must(t, s.do(t, a))
		dumps = append(dumps, dump(t, a))
	}
	return dumps
}
