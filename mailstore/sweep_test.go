package mailstore_test

import (
	"context"
	"testing"

	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// meanwhile calls then once, after a view of the store's own records.
type meanwhile struct {
	driver.KV
	then func()
}

func (m *meanwhile) View(ctx context.Context, a driver.Account, fn func(driver.Reader) error) error {
	err := m.KV.View(ctx, a, fn)
	if then := m.then; a == 0 && then != nil {
		m.then = nil
		then()
	}
	return err
}

// A sweep does not make an account again that is renamed while it runs.
func TestSweepBesideRename(t *testing.T) {
	b := newBench(t, mailstore.Options{AsItIs: true}) // nothing else looks at the store's own records
	kv := &meanwhile{KV: b.kv}
	b.kv = kv
	b.restart(t)
	b.account(t, "ann")
	kv.then = func() { must(t, b.store.RenameAccount(ctx, "ann", "eve")) }
	must(t, b.store.Sweep(ctx))
	list, err := b.store.Accounts(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "eve" {
		t.Errorf("accounts %v, %v", list, err)
	}
}
