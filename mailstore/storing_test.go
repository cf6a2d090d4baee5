package mailstore_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

const storingKind = 'f'

// rows has UIDs, mod-sequences and flags of a mailbox.
func rows(t *testing.T, a *mailstore.Account) string {
	t.Helper()
	m := open(t, a, imap.Inbox)
	defer m.Close()
	s := snapshot(t, m)
	var b bytes.Buffer
	for _, r := range allRows(s) {
		fmt.Fprintf(&b, "%d %d %s\n", r.UID, r.ModSeq, s.Flags(r.Flags).Wire())
	}
	return b.String()
}

// A STORE of many messages is one record; a restart finds what it did, and so does
// who expunges or stores in between. When there are several of them they go into
// the rows, and nobody notices.
func TestStoringGoesIntoRows(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 8, FoldRows: 1000})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 40)
	for i := range 3 {
		appendMail(t, a, imap.Inbox, mail(fmt.Sprint("loose ", i)))
	}
	all := imap.UIDSetOfRange(1, 43)
	m := open(t, a, imap.Inbox)
	defer m.Close()
	change := func(uids imap.UIDSet, op mailstore.FlagOp, flags ...imap.Flag) {
		t.Helper()
		if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: op, Flags: flags}); err != nil {
			t.Fatal(err)
		}
	}
	change(all, mailstore.FlagsAdd, "kw", imap.FlagSeen)
	change(imap.UIDSetOf(5, 41), mailstore.FlagsReplace, imap.FlagDeleted, "other")
	if err := m.Expunge(ctx, ptr(imap.UIDSetOf(41))); err != nil {
		t.Fatal(err)
	}
	m.Release(snapshot(t, m).HighestModSeq())
	eventually(t, "reaping", func() bool { return records(t, b.kv, 'g') == 0 })
	change(imap.UIDSetOfRange(3, 30), mailstore.FlagsRemove, "KW", "unknown")
	change(all, mailstore.FlagsAdd, "other", imap.FlagFlagged)
	change(imap.UIDSetOfRange(10, 42), mailstore.FlagsReplace, "kw", imap.FlagAnswered)
	for _, op := range []mailstore.FlagOp{mailstore.FlagsAdd, mailstore.FlagsRemove, mailstore.FlagsAdd} {
		change(all, op, imap.FlagDraft)
	}
	if n := records(t, b.kv, storingKind); n != 7 {
		t.Errorf("7 large changes are %d records", n)
	}
	check(t, b.store)
	before := rows(t, a)
	m.Close()
	b.restart(t)
	a = b.account(t, "ann")
	if after := rows(t, a); after != before {
		t.Errorf("a restart makes\n%s\nof\n%s", after, before)
	}
	check(t, b.store)

	m = open(t, a, imap.Inbox)
	defer m.Close()
	change(all, mailstore.FlagsRemove, imap.FlagFlagged)
	eventually(t, "writing rows", func() bool { return records(t, b.kv, storingKind) == 0 })
	check(t, b.store)
	before = rows(t, a)
	b.restart(t)
	if after := rows(t, b.account(t, "ann")); after != before {
		t.Errorf("with all in the rows a restart makes\n%s\nof\n%s", after, before)
	}
}

func ptr[T any](v T) *T { return &v }

// A keyword that a large STORE has taken from all rows may lose its number to
// another one before the rows are written: they must not get that one.
func TestStoringKnowsKeywordsByNumber(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 4, FoldRows: 1000, MaxKeywords: 2})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 8)
	m := open(t, a, imap.Inbox)
	defer m.Close()
	for range 8 {
		store(t, m, imap.UIDSetOfRange(1, 8), "gone")
		if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOfRange(1, 8), Op: mailstore.FlagsRemove, Flags: []imap.Flag{"gone"}}); err != nil {
			t.Fatal(err)
		}
		store(t, m, imap.UIDSetOfRange(1, 8), "gone")
	}
	eventually(t, "writing rows", func() bool { return records(t, b.kv, storingKind) < 8 })
	store(t, m, imap.UIDSetOf(2), "stays")
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOfRange(1, 8), Op: mailstore.FlagsRemove, Flags: []imap.Flag{"gone"}}); err != nil {
		t.Fatal(err)
	}
	store(t, m, imap.UIDSetOf(3), "new")
	before := rows(t, a)
	b.restart(t)
	if after := rows(t, b.account(t, "ann")); after != before {
		t.Errorf("a restart makes\n%s\nof\n%s", after, before)
	}
	check(t, b.store)
}

// Records of former versions have the names of flags only.
func TestStoringWithoutNumbers(t *testing.T) {
	b := newBench(t, mailstore.Options{PageRows: 4, FoldRows: 1000})
	a := b.account(t, "ann")
	appendMany(t, a, imap.Inbox, 8)
	m := open(t, a, imap.Inbox)
	store(t, m, imap.UIDSetOf(1), "first")
	store(t, m, imap.UIDSetOfRange(1, 8), "kw", imap.FlagSeen)
	m.Close()
	before := rows(t, a)
	err := b.kv.Update(ctx, 1, func(tx driver.Txn) error {
		var key, value []byte
		err := tx.Scan([]byte{storingKind}, []byte{storingKind + 1}, func(k, v []byte) bool {
			key, value = bytes.Clone(k), bytes.Clone(v)
			return false
		})
		if err != nil {
			return err
		}
		cut, ok := bytes.CutSuffix(value, []byte{1, 1}) // \Seen, and the second keyword
		if !ok {
			t.Errorf("the record ends with %v", value[len(value)-2:])
		}
		return tx.Set(key, cut)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.restart(t)
	if after := rows(t, b.account(t, "ann")); after != before {
		t.Errorf("a restart makes\n%s\nof\n%s", after, before)
	}
	check(t, b.store)
}
