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

// Whatever the clock says, and however it jumps: UIDVALIDITY ascends from one
// mailbox of a name to the next and never comes again, object identifiers and
// UIDs are new, and dates are what the clock has said.
func TestClockJumps(t *testing.T) {
	var clock atomic.Int64
	b := newBench(t, mailstore.Options{Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	validities := map[imap.UIDValidity]bool{}
	ids := map[string]bool{}
	last := imap.UIDValidity(0)
	unique := func(id imap.ObjectID) {
		t.Helper()
		if id == "" || ids[string(id)] {
			t.Errorf("the object identifier %q is used twice", id)
		}
		ids[string(id)] = true
	}
	year := int64(365 * 86400)
	for i, now := range []int64{1_700_000_000, 1_700_000_000, 1_600_000_000, 0, -5 * year, 80 * year, 1_700_000_000, 200 * year, 1 << 40, 1_700_000_001} {
		clock.Store(now)
		if i%3 == 2 {
			b.restart(t)
		}
		a := b.account(t, "ann")
		id, err := a.Create(ctx, "work", nil)
		if err != nil {
			t.Fatal(err)
		}
		unique(id)
		res, err := a.Append(ctx, "work", []mailstore.AppendItem{{Upload: upload(t, a, mail(fmt.Sprint("m", i)))}})
		if err != nil {
			t.Fatal(err)
		}
		if validities[res.UIDValidity] || res.UIDValidity <= last || res.UIDs[0] != 1 {
			t.Errorf("at %d: UIDVALIDITY %d after %d, UID %d", now, res.UIDValidity, last, res.UIDs[0])
		}
		last = res.UIDValidity
		validities[last] = true
		m := open(t, a, "work")
		row := allRows(snapshot(t, m))[0]
		if got := row.Date.Unix(); got != now {
			t.Errorf("at %d: the internal date is %d", now, got)
		}
		if want := min(max(now, 1), 1<<32-1); row.SaveDate != want {
			t.Errorf("at %d: the save date is %d, want %d", now, row.SaveDate, want)
		}
		unique(imap.ObjectID(fmt.Sprint("M", row.Msg)))
		m.Close()
		if err := a.Delete(ctx, "work"); err != nil {
			t.Fatal(err)
		}
		check(t, b.store)
	}
}

// unknowingKV does not say what came of an update, while it is on.
type unknowingKV struct {
	driver.KV
	on atomic.Bool
}

func (k *unknowingKV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	if k.on.Load() {
		return fmt.Errorf("update: %w", driver.ErrUnknown)
	}
	return k.KV.Update(ctx, a, fn)
}

// What an append with an unknown outcome has left is swept at the next start,
// even though the store was closed in order.
func TestUnknownOutcomeIsSwept(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	b.account(t, "ann")
	b.store.Close(ctx)
	kv := &unknowingKV{KV: b.kv}
	b.kv = kv
	b.open(t)
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("there"))
	kv.on.Store(true)
	if _, err := a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: upload(t, a, mail("x"))}}); imap.KindOf(err) != imap.Unavailable {
		t.Errorf("an unknown outcome gave %v", err)
	}
	kv.on.Store(false)
	list, err := b.store.Accounts(ctx)
	if err != nil || blobCount(t, b, list[0].Number) != 2 {
		t.Fatalf("the blob is not there: %v", err)
	}
	b.restart(t)
	eventually(t, "the sweep", func() bool { return blobCount(t, b, list[0].Number) == 1 })
}
