package mailstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

func TestKeywordLimit(t *testing.T) {
	b := newBench(t, mailstore.Options{MaxKeywords: 3})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), "a", "b")
	_, err := a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: upload(t, a, mail("two")), Flags: []imap.Flag{"c", "d"}}})
	kindIs(t, err, imap.Limit)
	appendMail(t, a, imap.Inbox, mail("one"), "A", "c")
	check(t, b.store)
}

// At the limit, keywords that no message has give room to others, however a
// change is divided, and none that a message has is lost.
func TestDeadKeywords(t *testing.T) {
	for name, rows := range map[string]int{"small": 0, "divided": 1} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, mailstore.Options{MaxKeywords: 4, TxnRows: rows})
			a := b.account(t, "ann")
			appendMail(t, a, imap.Inbox, mail("one"), "keep", "b")
			appendMail(t, a, imap.Inbox, mail("two"), "keep", "c")
			m := open(t, a, imap.Inbox)
			defer m.Close()
			store := func(op mailstore.FlagOp, flags ...imap.Flag) error {
				_, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOfRange(1, 2), Op: op, Flags: flags})
				return err
			}
			for i := range 20 {
				kind := imap.Flag(fmt.Sprint("round", i))
				if err := errors.Join(store(mailstore.FlagsAdd, kind), store(mailstore.FlagsRemove, kind, "b")); err != nil {
					t.Fatal(i, err)
				}
			}
			if err := store(mailstore.FlagsAdd, "d"); err != nil {
				t.Fatal(err)
			}
			if err := store(mailstore.FlagsReplace, "keep", "c", "d", "e"); err != nil {
				t.Fatal(err)
			}
			kindIs(t, store(mailstore.FlagsAdd, "f"), imap.Limit)
			m.Close()
			b.restart(t)
			check(t, b.store)
			m = open(t, b.account(t, "ann"), imap.Inbox)
			defer m.Close()
			s := snapshot(t, m)
			for i := range s.Len() {
				set := s.Flags(s.FlagsID(i))
				if len(set.Keywords()) != 4 || !set.Has("keep") || !set.Has("c") || !set.Has("d") || !set.Has("e") {
					t.Errorf("message %d: %s", i+1, set.Wire())
				}
			}
		})
	}
}

// A keyword that comes back within a change keeps its number from the others in it.
func TestDeadKeywordComesBack(t *testing.T) {
	b := newBench(t, mailstore.Options{MaxKeywords: 3})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), "a", "b", "c")
	m := open(t, a, imap.Inbox)
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOf(1), Op: mailstore.FlagsReplace}); err != nil {
		t.Fatal(err)
	}
	m.Close()
	var items []mailstore.AppendItem
	for _, flag := range []imap.Flag{"d", "b", "e"} {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, mail(string(flag))), Flags: []imap.Flag{flag}})
	}
	if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
		t.Fatal(err)
	}
	b.restart(t)
	check(t, b.store)
	m = open(t, b.account(t, "ann"), imap.Inbox)
	defer m.Close()
	s := snapshot(t, m)
	for i, want := range []string{"()", "(d)", "(b)", "(e)"} {
		if got := string(s.Flags(s.FlagsID(i)).Wire()); got != want {
			t.Errorf("message %d: %s, want %s", i+1, got, want)
		}
	}
}

// What a large STORE takes away that nobody has is none of the mailbox's keywords.
func TestKeywordsTakenAway(t *testing.T) {
	b := newBench(t, mailstore.Options{MaxKeywords: 3, TxnRows: 1})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("one"), "a", "b")
	appendMail(t, a, imap.Inbox, mail("two"), "a", "b")
	m := open(t, a, imap.Inbox)
	defer m.Close()
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOfRange(1, 2), Op: mailstore.FlagsRemove, Flags: []imap.Flag{"a", "x", "y"}}); err != nil {
		t.Fatal(err)
	}
	appendMail(t, a, imap.Inbox, mail("three"), "c")
	check(t, b.store)
}
