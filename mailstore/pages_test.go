package mailstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// records counts the records of a kind in the first account.
func records(t fataler, kv driver.KV, kind byte) (n int) {
	t.Helper()
	err := kv.View(ctx, 1, func(r driver.Reader) error {
		n = 0
		return r.Scan([]byte{kind}, []byte{kind + 1}, func(_, _ []byte) bool {
			n++
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	pageKind  = 'r'
	looseKind = 'q'
)

func store(t fataler, m *mailstore.Mailbox, uids imap.UIDSet, flags ...imap.Flag) {
	t.Helper()
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: mailstore.FlagsAdd, Flags: flags}); err != nil {
		t.Fatal(err)
	}
}

func appendMany(t fataler, a *mailstore.Account, box string, n int) {
	t.Helper()
	var items []mailstore.AppendItem
	for i := range n {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, mail(fmt.Sprint(box, i))), Date: 1})
	}
	if _, err := a.Append(ctx, box, items); err != nil {
		t.Fatal(err)
	}
}

// Single changes write loose rows; when there are many, they go into pages,
// and nobody notices.
func TestFold(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 8, FoldRows: 16})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 40)
	if pages, loose := records(t, b.kv, pageKind), records(t, b.kv, looseKind); pages != 5 || loose != 0 {
		t.Errorf("40 messages at once are %d pages and %d loose rows", pages, loose)
	}
	m := open(t, a, imap.Inbox)
	defer m.Close()
	woken := make(chan struct{}, 1000)
	defer m.Watch(func() { woken <- struct{}{} })()
	snapshot(t, m)
	for len(woken) > 0 {
		<-woken
	}
	for i := range 15 {
		store(t, m, imap.UIDSetOf(imap.UID(2*i+1)), imap.Flag(fmt.Sprint("kw", i)))
	}
	if n := records(t, b.kv, looseKind); n != 15 {
		t.Errorf("15 single changes are %d loose rows", n)
	}
	appendMail(t, a, imap.Inbox, mail("one more"))
	eventually(t, "folding", func() bool { return records(t, b.kv, looseKind) == 1 })
	check(t, b.store)
	if n := len(woken); n != 16 {
		t.Errorf("16 changes woke %d times", n)
	}
	before := dump(t, a)
	b.restart(t)
	a = b.account(t, "ann")
	if after := dump(t, a); after != before {
		t.Errorf("a restart makes\n%s\nof\n%s", after, before)
	}
	if !strings.Contains(before, "kw14") {
		t.Error("flags are missing")
	}
	check(t, b.store)
}

// A message that is expunged alone leaves its page as it is; a page whose rows
// are all gone goes, too.
func TestReapFromPages(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 32, FoldRows: 1000})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 96)
	m := open(t, a, imap.Inbox)
	expunge := func(uids imap.UIDSet) {
		t.Helper()
		store(t, m, uids, imap.FlagDeleted)
		if err := m.Expunge(ctx, nil); err != nil {
			t.Fatal(err)
		}
		m.Release(snapshot(t, m).HighestModSeq())
		eventually(t, "reaping", func() bool { return records(t, b.kv, 'g') == 0 })
		check(t, b.store)
	}
	for _, uid := range []imap.UID{1, 17, 32, 33} {
		expunge(imap.UIDSetOf(uid))
	}
	if pages, loose := records(t, b.kv, pageKind), records(t, b.kv, looseKind); pages != 3 || loose != 4 {
		t.Errorf("four messages less are %d pages and %d loose rows", pages, loose)
	}
	expunge(imap.UIDSetOfRange(1, 48))
	if pages, loose := records(t, b.kv, pageKind), records(t, b.kv, looseKind); pages != 2 || loose != 0 {
		t.Errorf("half the messages are %d pages and %d loose rows", pages, loose)
	}
	m.Close()
	b.restart(t)
	a = b.account(t, "ann")
	m = open(t, a, imap.Inbox)
	if s := snapshot(t, m); s.Len() != 48 || s.UID(0) != 49 || s.Size() == 0 {
		t.Errorf("%d messages from %d on", s.Len(), s.UID(0))
	}
	expunge(imap.UIDSetOfRange(49, 96))
	m.Close()
	if pages, loose := records(t, b.kv, pageKind), records(t, b.kv, looseKind); pages != 0 || loose != 0 {
		t.Errorf("an empty mailbox has %d pages and %d loose rows", pages, loose)
	}
}

// A mailbox that is deleted leaves nothing, whatever its rows lay in.
func TestDeleteLeavesNoRows(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 8, FoldRows: 1000})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "box", nil); err != nil {
		t.Fatal(err)
	}
	appendMany(t, a, "box", 30)
	appendMail(t, a, "box", mail("loose"))
	m := open(t, a, "box")
	store(t, m, imap.UIDSetOf(3), imap.FlagDeleted)
	store(t, m, imap.UIDSetOf(9), imap.FlagSeen)
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := a.Delete(ctx, "box"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reaping", func() bool {
		return records(t, b.kv, pageKind)+records(t, b.kv, looseKind)+records(t, b.kv, 'm')+records(t, b.kv, 'g') == 0
	})
	check(t, b.store)
}

// A check tells of pages that are damaged, lost, or under a key of another.
func TestCheckPages(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 8})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 24)
	change := func(fn func(tx driver.Txn, key, value []byte) error) {
		t.Helper()
		err := b.kv.Update(ctx, 1, func(tx driver.Txn) error {
			var key, value []byte
			err := tx.Scan([]byte{pageKind}, []byte{pageKind + 1}, func(k, v []byte) bool {
				key, value = append(key, k...), append(value, v...)
				return false
			})
			if err != nil {
				return err
			}
			return fn(tx, key, value)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	find := func(what string) {
		t.Helper()
		defects, err := b.store.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(defects); !strings.Contains(text, what) {
			t.Errorf("check found %s", text)
		}
	}
	var first []byte
	change(func(tx driver.Txn, key, value []byte) error {
		first = value
		return tx.Set(key, value[:len(value)-1])
	})
	find("rows up to UID 8")
	change(func(tx driver.Txn, key, _ []byte) error { return tx.Delete(key) })
	find("counters are")
	change(func(tx driver.Txn, key, _ []byte) error {
		// The second page is there; the first under a key that is not its own.
		return tx.Set(binary.BigEndian.AppendUint32(key[:5:5], 7), first)
	})
	find("cannot be read")
}

// Pages that overlap are damage, not a reason to end the process.
func TestOverlap(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 8})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "box", nil); err != nil {
		t.Fatal(err)
	}
	appendMany(t, a, imap.Inbox, 16)
	appendMany(t, a, "box", 3)
	appendMany(t, a, "box", 8) // one page of UIDs 4 to 11
	err := b.kv.Update(ctx, 1, func(tx driver.Txn) error {
		key := []byte{pageKind, 0, 0, 0, 2, 0, 0, 0, 11}
		value, ok, err := tx.Get(key)
		if err != nil || !ok {
			return fmt.Errorf("no page: %w", err)
		}
		key[4] = 1
		return tx.Set(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
	defects, err := b.store.Check(ctx)
	if text := fmt.Sprint(defects, err); !strings.Contains(text, "overlaps the one before") {
		t.Error(text)
	}
	m := open(t, a, imap.Inbox)
	defer m.Close()
	if _, err := m.Snapshot(ctx); imap.KindOf(err) != imap.Corruption {
		t.Errorf("opening it gave %v", err)
	}
}

// A store of the format before is taken as it is, and is of the new one from
// then on: a program that knows only the old one must not take it.
func TestFormatIsRaised(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	format := func(set byte) (now byte) {
		err := b.kv.Update(ctx, 0, func(tx driver.Txn) error {
			v, _, err := tx.Get([]byte{'F'})
			if now = v[0]; err == nil && set != 0 {
				err = tx.Set([]byte{'F'}, []byte{set})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	newest := format(2)
	s, err := mailstore.Open(ctx, b.kv, b.blobs, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	if now := format(0); now != newest || newest < 3 {
		t.Errorf("a store of format 2 has format %d now; a new one has %d", now, newest)
	}
}

// A store of another format is refused, and the error says what to do.
func TestFormats(t *testing.T) {
	for version, want := range map[byte]string{1: "move the folder away", 99: "use a newer rookery"} {
		b := newBench(t, mailstore.Options{})
		err := b.kv.Update(ctx, 0, func(tx driver.Txn) error { return tx.Set([]byte{'F'}, []byte{version}) })
		if err != nil {
			t.Fatal(err)
		}
		_, err = mailstore.Open(context.Background(), b.kv, b.blobs, b.opts)
		if imap.KindOf(err) != imap.ContactAdmin || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("format %d gave %v", version, err)
		}
	}
}
