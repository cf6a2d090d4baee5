package mailstore_test

import (
	"slices"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

// Scattered messages in more ranges than one transaction has room for are
// expunged and moved all the same.
func TestScatteredMessagesGo(t *testing.T) {
	b := newBench(t, mailstore.Options{TxnRows: 3})
	mailstore.SetExpungeRanges(b.store, 4)
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
