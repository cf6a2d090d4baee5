package mailstore_test

import (
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

// TestNamesAreNotRememberedTooLong: what is remembered of names is forgotten when
// this process changes them.
func TestNamesAreNotRememberedTooLong(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	b.account(t, "ann")
	first := b.account(t, "ann")
	appendMail(t, first, imap.Inbox, mail("of the first"))
	must(t, b.store.RenameAccount(ctx, "ann", "eve"))
	if _, err := b.store.Lookup(ctx, "ann"); imap.KindOf(err) != imap.NotFound {
		t.Fatalf("after the renaming: %v", err)
	}
	second := b.account(t, "ann")
	if st, err := second.Status(imap.Inbox); err != nil || st.Messages != 0 {
		t.Fatalf("the account that has the name now has %+v, %v", st, err)
	}
	must(t, b.store.RemoveAccount(ctx, "eve"))
	if _, err := b.store.Lookup(ctx, "eve"); imap.KindOf(err) != imap.NotFound {
		t.Fatalf("after the removal: %v", err)
	}

	users := b.store.Users()
	for range 2 {
		if _, err := users.Get(ctx, "bob"); imap.KindOf(err) != imap.NotFound {
			t.Fatalf("nobody: %v", err)
		}
	}
	must(t, users.Set(ctx, "bob", "a hash"))
	if hash, err := b.store.Users().Get(ctx, "bob"); err != nil || hash != "a hash" {
		t.Fatalf("the new user: %q, %v", hash, err)
	}
	must(t, users.Set(ctx, "bob", "another"))
	if hash, err := users.Get(ctx, "bob"); err != nil || hash != "another" {
		t.Fatalf("changed: %q, %v", hash, err)
	}
	must(t, users.Delete(ctx, "bob"))
	if _, err := users.Get(ctx, "bob"); imap.KindOf(err) != imap.NotFound {
		t.Fatalf("deleted: %v", err)
	}
}

// TestOtherProcessesNames: what another process changes is noticed, in a while.
func TestOtherProcessesNames(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	b.account(t, "ann")
	other, err := mailstore.Open(ctx, b.kv, b.blobs, quiet(mailstore.Options{}))
	must(t, err)
	defer other.Close(ctx)
	must(t, other.RenameAccount(ctx, "ann", "eve"))
	eventually(t, "the renaming is noticed", func() bool {
		_, err := b.store.Lookup(ctx, "ann")
		return imap.KindOf(err) == imap.NotFound
	})
}
