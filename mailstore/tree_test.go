package mailstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

func names(a *mailstore.Account) string {
	var list []string
	for _, m := range a.Mailboxes() {
		s := m.Name
		if m.NoSelect {
			s += "(noselect)"
		}
		if m.Missing {
			s += "(missing)"
		}
		if m.Subscribed {
			s += "+"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func TestTree(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	expect := func(want string) {
		t.Helper()
		if got := names(a); got != want {
			t.Errorf("mailboxes are %q, want %q", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string) imap.ObjectID {
		t.Helper()
		id, err := a.Create(ctx, name, nil)
		must(err)
		return id
	}
	id := create("a/b/c")
	expect("INBOX a a/b a/b/c")
	_, err := a.Create(ctx, "a/b", nil)
	kindIs(t, err, imap.Exists)
	validity := func(name string) imap.UIDValidity {
		t.Helper()
		s, err := a.Status(name)
		must(err)
		return s.UIDValidity
	}
	old := validity("a/b")
	appendMail(t, a, "a/b", mail("x"))
	must(a.Delete(ctx, "a/b"))
	expect("INBOX a a/b(noselect) a/b/c")
	kindIs(t, a.Delete(ctx, "a/b"), imap.HasChildren)
	_, err = a.Mailbox(ctx, "a/b")
	kindIs(t, err, imap.Cannot)
	b.restart(t)
	a = b.account(t, "ann")
	create("a/b")
	if now := validity("a/b"); now <= old {
		t.Errorf("UIDVALIDITY went from %d to %d", old, now)
	}
	must(a.Rename(ctx, "a", "x/y"))
	expect("INBOX x x/y x/y/b x/y/b/c")
	m := open(t, a, "x/y/b/c")
	if m.ID() != id {
		t.Errorf("the renamed mailbox has the ID %s, not %s", m.ID(), id)
	}
	kindIs(t, a.Rename(ctx, "x", "x/y/z"), imap.Cannot)
	kindIs(t, a.Rename(ctx, "nope", "z"), imap.NotFound)
	kindIs(t, a.Rename(ctx, "x", imap.Inbox), imap.Exists)
	kindIs(t, a.Delete(ctx, imap.Inbox), imap.Cannot)
	kindIs(t, a.Delete(ctx, "nope"), imap.NotFound)
	must(a.Subscribe(ctx, "x", true))
	must(a.Subscribe(ctx, "gone", true))
	expect("INBOX gone(missing)+ x+ x/y x/y/b x/y/b/c")
	must(a.Subscribe(ctx, "gone", false))
	must(a.Delete(ctx, "x/y/b/c"))
	if _, err := m.Snapshot(ctx); imap.KindOf(err) != imap.NotFound {
		t.Errorf("Snapshot of a deleted mailbox: %v", err)
	}
	m.Close()
	b.restart(t)
	a = b.account(t, "ann")
	expect("INBOX x+ x/y x/y/b")
	check(t, b.store)
}

// A parent stands before its children, and nothing between them.
func TestMailboxesAreSorted(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	for _, name := range []string{"a-b", "a/z", "a b", "a/b/c", "Z"} {
		if _, err := a.Create(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := names(a), "INBOX Z a a/b a/b/c a/z a b a-b"; got != want {
		t.Errorf("mailboxes are %q, want %q", got, want)
	}
}

func TestSpecialUse(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "Sent", []imap.MailboxAttr{`\sent`}); err != nil {
		t.Fatal(err)
	}
	_, err := a.Create(ctx, "Sent2", []imap.MailboxAttr{imap.AttrSent})
	kindIs(t, err, imap.UseAttr)
	_, err = a.Create(ctx, "All", []imap.MailboxAttr{imap.AttrAll})
	kindIs(t, err, imap.UseAttr)
	b.restart(t)
	a = b.account(t, "ann")
	if got := a.Mailboxes()[1].SpecialUse; !slices.Equal(got, []imap.MailboxAttr{imap.AttrSent}) {
		t.Errorf("special use %v", got)
	}
}

func TestRenameInbox(t *testing.T) {
	for _, txnRows := range []int{0, 2} {
		b := newBench(t, mailstore.Options{TxnRows: txnRows})
		a := b.account(t, "ann")
		for _, s := range []string{"one", "two", "three", "four", "five"} {
			appendMail(t, a, imap.Inbox, mail(s), imap.Flag("kw-"+s))
		}
		if _, err := a.Create(ctx, "INBOX/child", nil); err != nil {
			t.Fatal(err)
		}
		kindIs(t, a.Rename(ctx, imap.Inbox, "INBOX/child"), imap.Exists)
		if err := a.Rename(ctx, imap.Inbox, "old/mail"); err != nil {
			t.Fatal(err)
		}
		if got, want := names(a), "INBOX INBOX/child old old/mail"; got != want {
			t.Errorf("mailboxes are %q, want %q", got, want)
		}
		if s, _ := a.Status(imap.Inbox); s.Messages != 0 {
			t.Errorf("INBOX has %d messages", s.Messages)
		}
		for range 2 {
			m := open(t, a, "old/mail")
			s := snapshot(t, m)
			if s.Len() != 5 {
				t.Fatalf("the new mailbox has %d messages", s.Len())
			}
			if got := bodies(t, m, allRows(s)); got[4] != mail("five") {
				t.Errorf("the last message is %q", got[4])
			}
			if got := string(s.Flags(s.FlagsID(3)).Wire()); got != "(kw-four)" {
				t.Errorf("flags %s", got)
			}
			m.Close()
			b.restart(t)
			a = b.account(t, "ann")
		}
		check(t, b.store)
	}
}

// Renaming INBOX to a name that is there fails, also where that is only a
// parent, and however many messages there are.
func TestRenameInboxToParent(t *testing.T) {
	for _, messages := range []int{1, 5} {
		b := newBench(t, mailstore.Options{TxnRows: 2})
		a := b.account(t, "ann")
		for i := range messages {
			appendMail(t, a, imap.Inbox, mail(fmt.Sprint("m", i)))
		}
		if _, err := a.Create(ctx, "a/b", nil); err != nil {
			t.Fatal(err)
		}
		must(t, a.Delete(ctx, "a"))
		if err := a.Rename(ctx, imap.Inbox, "a"); imap.KindOf(err) != imap.Exists {
			t.Errorf("%d messages: %v", messages, err)
		}
		must(t, a.Rename(ctx, imap.Inbox, "a/c"))
		if st, err := a.Status("a/c"); err != nil || int(st.Messages) != messages || st.HighestModSeq != 2 {
			t.Errorf("%d messages: %+v, %v", messages, st, err)
		}
	}
}
