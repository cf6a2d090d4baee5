package mailstore_test

import (
	"context"
	"testing"

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
