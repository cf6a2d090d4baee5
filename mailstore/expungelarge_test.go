package mailstore_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// Scattered messages in more ranges than one transaction has room for are
// expunged and moved all the same.
func TestScatteredMessagesGo(t *testing.T) {
	b := newBench(t, mailstore.Options{TxnRows: 3, ExpungeRanges: 4})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "other", nil); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		appendMail(t, a, imap.Inbox, mail("text"))
	}
	var odd, fours imap.UIDSet
	for uid := imap.UID(1); uid <= 40; uid += 2 {
		odd.Add(uid)
	}
	for uid := imap.UID(4); uid <= 40; uid += 4 {
		fours.Add(uid)
	}
	m := open(t, a, imap.Inbox)
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: odd, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, m).HighestModSeq()
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	gone, complete, err := m.Expunged(ctx, before)
	if err != nil || !complete || gone.String() != odd.String() {
		t.Errorf("expunged: %v, %v, %v", gone, complete, err)
	}
	res, err := m.Move(ctx, fours, "other")
	if err != nil || len(res.Source) != 10 || len(res.Dest) != 10 || !slices.IsSorted(res.Dest) {
		t.Errorf("moved: %+v, %v", res, err)
	}
	m.Close()
	b.restart(t)
	check(t, b.store)
	for name, want := range map[string]int{imap.Inbox: 10, "other": 10} {
		m := open(t, b.account(t, "ann"), name)
		if s := snapshot(t, m); s.Len() != want {
			t.Errorf("%s has %d messages, want %d", name, s.Len(), want)
		}
		m.Close()
	}
}

// gravesWritten counts the octets of graves that are written.
type gravesWritten struct {
	driver.KV
	octets atomic.Int64
}

func (g *gravesWritten) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	return g.KV.Update(ctx, a, func(tx driver.Txn) error { return fn(graveTxn{tx, g}) })
}

type graveTxn struct {
	driver.Txn
	g *gravesWritten
}

func (t graveTxn) Set(key, value []byte) error {
	if len(key) == 13 && key[0] == 'g' {
		t.g.octets.Add(int64(len(value)))
	}
	return t.Txn.Set(key, value)
}

// Taking back the space of many scattered messages costs in proportion to their
// number: what is left of them is not written again and again.
func TestReapingIsLinear(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	kv := &gravesWritten{KV: memkv.NewKV()}
	b.kv = kv
	b.restart(t)
	a := b.account(t, "ann")
	const first, doublings = 50, 9
	var items []mailstore.AppendItem
	for range first {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, mail("text"))})
	}
	if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
		t.Fatal(err)
	}
	m := open(t, a, imap.Inbox)
	n := imap.UID(first)
	for range doublings {
		if _, err := m.Copy(ctx, imap.UIDSetOfRange(1, n), imap.Inbox); err != nil {
			t.Fatal(err)
		}
		n *= 2
	}
	var odd imap.UIDSet
	for uid := imap.UID(1); uid <= n; uid += 2 {
		odd.Add(uid)
	}
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: odd, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	dug := kv.octets.Swap(0)
	if dug == 0 {
		t.Fatal("no grave was dug")
	}
	m.Close()
	eventually(t, "taking the rows away", func() bool {
		graves := 0
		if err := kv.View(ctx, 1, func(r driver.Reader) error {
			return r.Scan([]byte("g"), []byte("h"), func(_, _ []byte) bool { graves++; return true })
		}); err != nil {
			t.Fatal(err)
		}
		return graves == 0
	})
	if again := kv.octets.Load(); again > dug {
		t.Errorf("graves of %d octets were dug, and %d octets of them written again", dug, again)
	}
	check(t, b.store)
}
