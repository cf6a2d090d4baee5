package mailstore_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// Accounts that have been used are given back by budget.
func TestAccountsAreGivenBack(t *testing.T) {
	const budget = 200_000
	b := newBench(t, mailstore.Options{IndexMemory: budget})
	for i := range 500 {
		a := b.account(t, fmt.Sprint("user", i))
		appendMail(t, a, imap.Inbox, mail("one"))
		m := open(t, a, imap.Inbox)
		if s := snapshot(t, m); s.Len() != 1 {
			t.Fatalf("%d messages", s.Len())
		}
		m.Close()
	}
	eventually(t, "giving back", func() bool {
		runtime.GC()
		accounts, kept := mailstore.InMemory(b.store)
		return accounts < 60 && kept <= budget
	})
	for i := range 500 { // and nothing is missing
		m := open(t, b.account(t, fmt.Sprint("user", i)), imap.Inbox)
		if s := snapshot(t, m); s.Len() != 1 {
			t.Fatalf("%d messages", s.Len())
		}
		m.Close()
	}
	check(t, b.store)
}

// An account that somebody holds stays the one that all others get, however
// long it has not been used.
func TestHeldAccountIsShared(t *testing.T) {
	b := newBench(t, mailstore.Options{IndexMemory: 1})
	held := b.account(t, "ann")
	opened := open(t, b.account(t, "bob"), imap.Inbox)
	defer opened.Close()
	snapshot(t, opened)
	news := make(chan struct{}, 100)
	defer opened.Watch(func() { news <- struct{}{} })()
	for i := range 50 {
		b.account(t, fmt.Sprint("user", i))
		runtime.GC()
	}
	if accounts, _ := mailstore.InMemory(b.store); accounts > 10 {
		t.Errorf("%d accounts are in memory", accounts)
	}
	appendMail(t, b.account(t, "ann"), imap.Inbox, mail("one"))
	if st, err := held.Status(imap.Inbox); err != nil || st.Messages != 1 {
		t.Errorf("who holds the account sees %+v, %v", st, err)
	}
	appendMail(t, b.account(t, "bob"), imap.Inbox, mail("one"))
	<-news
	if s := snapshot(t, opened); s.Len() != 1 {
		t.Errorf("who has the mailbox open sees %d messages", s.Len())
	}
	must(t, b.store.RemoveAccount(ctx, "ann"))
	if _, err := held.Create(ctx, "x", nil); imap.KindOf(err) != imap.Closed {
		t.Errorf("an account that has been removed: %v", err)
	}
	runtime.KeepAlive(held)
}

// TestClosedStoreGoes: nothing holds a store that has been closed, nor its
// accounts: programs open one after the other, tests by the thousand.
func TestClosedStoreGoes(t *testing.T) {
	gone := make(chan struct{})
	func() {
		kv, blobs := memkv.NewKV(), memkv.NewBlobs()
		store, err := mailstore.Open(ctx, kv, blobs, quiet(mailstore.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		a, err := store.Account(ctx, "ann")
		if err != nil {
			t.Fatal(err)
		}
		appendMail(t, a, "INBOX", mail("one"))
		if err := store.Close(ctx); err != nil {
			t.Fatal(err)
		}
		runtime.AddCleanup(store, func(struct{}) { close(gone) }, struct{}{})
	}()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		runtime.GC()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the closed store is still in memory after a minute of collections")
}
