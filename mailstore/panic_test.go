package mailstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// panickyKV panics in the n-th transaction of an account, before or after it is
// committed.
type panickyKV struct {
	driver.KV
	left  atomic.Int64 // until it panics; 0 for never
	after bool
}

func (k *panickyKV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	panics := a != 0 && k.left.Load() > 0 && k.left.Add(-1) == 0
	if panics && !k.after {
		panic("before the commit")
	}
	err := k.KV.Update(ctx, a, fn)
	if panics {
		panic("after the commit")
	}
	return err
}

// When an APPEND panics, nobody knows whether its messages are there. If they are,
// they are whole, at once, after a restart and after what nobody names was swept
// away.
func TestPanicInACommit(t *testing.T) {
	for name, opts := range map[string]mailstore.Options{
		"one transaction": {}, "many transactions": {TxnBytes: 1000},
	} {
		for _, after := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", before", true: ", after"}[after], func(t *testing.T) {
				n := int64(1)
				for panicsInAppend(t, opts, after, n) && !t.Failed() {
					n++
				}
				if n == 1 {
					t.Error("there was no panic")
				}
			})
		}
	}
}

// panicsInAppend reports whether the n-th transaction was reached.
func panicsInAppend(t *testing.T, opts mailstore.Options, after bool, n int64) bool {
	t.Helper()
	opts.DeriveDelay = time.Hour // the background shall not meet it
	b := newBench(t, opts)
	kv := &panickyKV{KV: b.kv, after: after}
	b.kv = kv
	b.restart(t)
	a := b.account(t, "ann")
	texts := []string{mail("one"), mail("two"), mail("three"), mail("four")}
	var items []mailstore.AppendItem
	for _, text := range texts {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, text)})
	}
	kv.left.Store(n)
	_, err := a.Append(ctx, imap.Inbox, items)
	hit := kv.left.Swap(0) == 0
	if hit && (imap.KindOf(err) != imap.ServerBug || !errors.Is(err, driver.ErrUnknown)) {
		t.Errorf("panic in transaction %d: the APPEND ended with %v", n, err)
	}
	look := func(when string) (there int) {
		t.Helper()
		m := open(t, a, imap.Inbox)
		defer m.Close()
		for i, text := range bodies(t, m, allRows(snapshot(t, m))) {
			if there++; text != texts[i] {
				t.Errorf("panic in transaction %d: %s message %d is %q", n, when, i+1, text)
			}
		}
		check(t, b.store)
		return there
	}
	there := look("then")
	if there != 0 && there != len(texts) || !hit && there == 0 {
		t.Errorf("panic in transaction %d: %d messages are there", n, there)
	}
	b.restart(t)
	a = b.account(t, "ann")
	must(t, b.store.Sweep(ctx))
	if got := look("after a restart"); got != there {
		t.Errorf("panic in transaction %d: %d messages were there, and %d are after a restart", n, there, got)
	}
	return hit
}
