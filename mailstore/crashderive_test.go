package mailstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
)

// tidyingSteps are commands with what the background makes of them in between:
// columns and the text index are built, tidied and built anew, rows and messages
// of what was expunged go, and segments are emptied and removed.
func tidyingSteps(d *disk) []step {
	quietly := func(name string, do func(t *testing.T, a *mailstore.Account)) step {
		return step{name, func(t *testing.T, a *mailstore.Account) error {
			do(t, a)
			return nil
		}}
	}
	derive := quietly("derive", func(_ *testing.T, a *mailstore.Account) { mailstore.Derived(a) })
	tidy := quietly("tidy", func(t *testing.T, a *mailstore.Account) {
		eventually(t, "reaping", func() bool { return !mailstore.Reaping(a) })
		must(t, d.blobs.Tidy(ctx))
		mailstore.Gone(a)
		mailstore.Derived(a)
	})
	return []step{
		appendStep(imap.Inbox, "one", "two", "three"),
		derive,
		appendStep(imap.Inbox, "four"),
		appendStep(imap.Inbox, "five", "six"),
		storeStep(mailstore.FlagsAdd, imap.UIDSetOf(2, 3, 5), imap.FlagDeleted),
		mailboxStep("expunge", imap.Inbox, func(m *mailstore.Mailbox) error { return m.Expunge(ctx, nil) }),
		derive,
		tidy,
		appendStep(imap.Inbox, "seven"),
		quietly("rebuild", func(_ *testing.T, a *mailstore.Account) {
			a.RebuildIndex()
			mailstore.Derived(a)
		}),
		storeStep(mailstore.FlagsAdd, imap.UIDSetOf(1, 4), imap.FlagDeleted),
		mailboxStep("expunge", imap.Inbox, func(m *mailstore.Mailbox) error { return m.Expunge(ctx, nil) }),
		tidy,
	}
}

// After a power cut at any operation of the background the store opens, nothing
// that was acknowledged is missing, and what was derived is right as far as it
// is there; it is built to its end then.
func TestCutWhileTidying(t *testing.T) {
	t.Parallel() // it waits more than it works
	step := 4
	if full() {
		step = 1
	}
	now := time.Unix(1_700_000_000, 0)
	for name, opts := range map[string]mailstore.Options{
		"small indexes":    {TextBatch: 1, ColumnRows: 2},
		"indexes in steps": {TextBatch: 2, ColumnRows: 2, TxnBytes: 1000, TxnRows: 2},
	} {
		opts.Now = func() time.Time { return now }
		t.Run(name, func(t *testing.T) {
			cuts := crashfs.EveryCut(t, step, func() crashfs.Scenario { return tidyingScenario(opts) })
			if t.Logf("%d cuts", cuts); cuts < 10 {
				t.Error("too few cuts")
			}
		})
	}
}

func tidyingScenario(opts mailstore.Options) crashfs.Scenario {
	messages := bloblog.Options{SegmentBytes: 1000, MaxWaste: 0.1}
	var dumps []string // after each step, the first before all
	acknowledged := -1
	return crashfs.Scenario{
		Run: func(t *testing.T, fs *crashfs.FS) {
			d := openDisk(t, fs, opts, messages, false)
			a := d.account(t)
			for i := -1; i < len(tidyingSteps(d)); i++ {
				if i >= 0 {
					must(t, tidyingSteps(d)[i].do(t, a))
				}
				alive := fs.Alive()
				dumps = append(dumps, dump(t, a))
				if alive {
					acknowledged = i + 1
				}
			}
			if st := d.blobs.Stats(); fs.Alive() && st.Moved == 0 {
				t.Errorf("no message was moved: %+v", st)
			}
			d.close(t)
		},
		Check: func(t *testing.T, fs *crashfs.FS) {
			d := openDisk(t, fs, opts, messages, false)
			a := d.account(t)
			got := dump(t, a)
			if next := acknowledged + 1; (acknowledged < 0 || got != dumps[acknowledged]) && (next >= len(dumps) || got != dumps[next]) {
				t.Errorf("after step %d the store has\n%s", acknowledged, got)
			}
			verify(t, d.store)
			appendMail(t, a, imap.Inbox, mail("after the cut"))
			if up, want := mailstore.Derived(a), lastMessage(t, a); up != want {
				t.Errorf("derived up to message %d of %d", up, want)
			}
			must(t, d.store.Sweep(ctx))
			must(t, d.blobs.Tidy(ctx))
			if again := dump(t, a); len(again) <= len(got) {
				t.Errorf("after all was tidied up the store has\n%s", again)
			}
			verify(t, d.store)
			d.close(t)
		},
	}
}

// verify fails where anything in the store is wrong, messages and what is derived
// from them included.
func verify(t *testing.T, s *mailstore.Store) {
	t.Helper()
	res, err := s.Verify(ctx, mailstore.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range res.Defects {
		t.Errorf("verify: %s", d)
	}
}

// lastMessage returns the greatest number of a message in the account.
func lastMessage(t *testing.T, a *mailstore.Account) uint64 {
	t.Helper()
	st, err := a.IndexState(ctx)
	if err != nil {
		t.Fatal(fmt.Errorf("index state: %w", err))
	}
	return st.Messages
}
