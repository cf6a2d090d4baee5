package mailstore_test

import (
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

// Many who open a new account at once all get one that has an INBOX.
func TestFirstUseByMany(t *testing.T) {
	for range 200 {
		b := newBench(t, mailstore.Options{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				a, err := b.store.Account(ctx, "ann")
				if err != nil {
					t.Error(err)
					return
				}
				for _, m := range a.Mailboxes() {
					if m.Name == imap.Inbox {
						return
					}
				}
				t.Error("the account has no INBOX")
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}
