package mailstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

func TestMarkRestored(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "Work/Old", []imap.MailboxAttr{imap.AttrArchive}); err != nil {
		t.Fatal(err)
	}
	appendMail(t, a, "INBOX", mail("one"), imap.FlagSeen)
	used := make(map[imap.UIDValidity]bool)
	names := []string{"INBOX", "Work", "Work/Old"}
	for round := range 3 {
		for _, name := range names {
			st, err := b.account(t, "ann").Status(name)
			if err != nil {
				t.Fatal(err)
			}
			if used[st.UIDValidity] {
				t.Errorf("round %d: %s has a UIDVALIDITY that was used before: %d", round, name, st.UIDValidity)
			}
			used[st.UIDValidity] = true
		}
		if err := b.store.MarkRestored(ctx); err != nil {
			t.Fatal(err)
		}
		b.restart(t)
		check(t, b.store)
	}
	a = b.account(t, "ann")
	if id, err := a.Create(ctx, "New", nil); err != nil || id == "F4" {
		t.Errorf("a new mailbox has the identifier %s, which one made after the backup may have had: %v", id, err)
	}
	appendMail(t, a, "INBOX", mail("two"))
	m := open(t, a, "INBOX")
	rows := allRows(snapshot(t, m))
	if got := bodies(t, m, rows); len(got) != 2 || got[0] != mail("one") || got[1] != mail("two") || rows[1].UID != 2 {
		t.Errorf("afterwards there is %q in %+v", got, rows)
	}
}

// What a store that stood still in time gave out between a backup and its
// restore is not given out again, whatever the clock says.
func TestRestoredWithTheClockSetBack(t *testing.T) {
	ctx := context.Background()
	clock := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	backup := func() *mailstore.Account { // twice the same
		b := newBench(t, mailstore.Options{Now: func() time.Time { return clock }})
		return b.account(t, "ann")
	}
	create := func(a *mailstore.Account) imap.UIDValidity {
		t.Helper()
		if _, err := a.Create(ctx, "Empty", nil); err != nil {
			t.Fatal(err)
		}
		st, err := a.Status("Empty")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Delete(ctx, "Empty"); err != nil {
			t.Fatal(err)
		}
		return st.UIDValidity
	}
	live := backup()
	clock = clock.AddDate(0, 0, 100)
	var last imap.UIDValidity
	for range 100 {
		last = create(live)
	}
	clock = clock.AddDate(-1, 0, 0)
	last = max(last, create(live))
	clock = clock.AddDate(0, 0, 265)
	b := newBench(t, mailstore.Options{Now: func() time.Time { return clock }})
	b.account(t, "ann")
	clock = clock.AddDate(-1, 0, 0)
	for round := range 300 { // far more than will ever be restored in a row
		if err := b.store.MarkRestored(ctx); err != nil {
			t.Fatal(err)
		}
		b.account(t, "ann")
		inbox, err := b.account(t, "ann").Status("INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if next := create(b.account(t, "ann")); inbox.UIDValidity <= last || next <= inbox.UIDValidity {
			t.Fatalf("restore %d: up to %d was given out, then INBOX gets %d and a new mailbox %d", round+1, last, inbox.UIDValidity, next)
		} else {
			last = next
		}
	}
}

// TestAsItIs: what a store that was only looked at has left undone, the next
// start does.
func TestAsItIs(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, "INBOX", mail("one"))
	w, err := b.blobs.Create(ctx, 1, -1) // of an append that a crash cut off
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(nil); err != nil {
		t.Fatal(err)
	}
	w.Release()
	b.opts.AsItIs = true
	b.open(t) // without a Close before
	if err := b.store.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := blobCount(t, b, 1); n != 2 {
		t.Errorf("a store that was only looked at has %d blobs, not 2", n)
	}
	b.opts.AsItIs = false
	b.open(t)
	eventually(t, "the sweep", func() bool { return blobCount(t, b, 1) == 1 })
}
