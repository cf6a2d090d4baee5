package mailstore_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// disk is a store on the embedded engines over a file system for tests.
type disk struct {
	kv    *pebblekv.KV
	blobs *bloblog.Store
	store *mailstore.Store
}

// openDisk opens a store whose log waits for the messages, as the daemon's does, or,
// with apart, one whose engines know nothing of each other.
func openDisk(t *testing.T, fs *crashfs.FS, opts mailstore.Options, messages bloblog.Options, apart bool) *disk {
	t.Helper()
	messages.FS, messages.Manual, messages.RideShare = fs, true, 100 // even short ones are ridden with
	return openEmbedded(t, opts, messages, pebblekv.Options{FS: fs}, apart)
}

func openEmbedded(t *testing.T, opts mailstore.Options, messages bloblog.Options, index pebblekv.Options, apart bool) *disk {
	t.Helper()
	opts = quiet(opts)
	messages.Logger, index.Logger = opts.Logger, opts.Logger
	blobs, err := bloblog.Open("blobs", messages)
	if err != nil {
		t.Fatal(err)
	}
	if !apart {
		index.Blobs = blobs
	}
	kv, err := pebblekv.Open("kv", index)
	if err != nil {
		t.Fatal(err)
	}
	var messagesOf driver.Blobs = blobs
	if !apart {
		messagesOf = kv.Blobs()
	}
	store, err := mailstore.Open(ctx, kv, messagesOf, opts)
	if err != nil {
		t.Fatal(err)
	}
	return &disk{kv, blobs, store}
}

func (d *disk) close(t *testing.T) {
	t.Helper()
	if err := d.store.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := d.kv.Close(); err != nil {
		t.Error(err)
	}
	if err := d.blobs.Close(); err != nil {
		t.Error(err)
	}
}

func (d *disk) account(t *testing.T) *mailstore.Account {
	t.Helper()
	a, err := d.store.Account(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// dump writes down all that a user can see of an account.
func dump(t *testing.T, a *mailstore.Account) string {
	t.Helper()
	var b strings.Builder
	for _, info := range a.Mailboxes() {
		fmt.Fprintf(&b, "%s noselect=%v missing=%v subscribed=%v %s\n", info.Name, info.NoSelect, info.Missing, info.Subscribed, info.ID)
		if info.NoSelect || info.Missing {
			continue
		}
		m := open(t, a, info.Name)
		s := snapshot(t, m)
		fmt.Fprintf(&b, " UIDVALIDITY %d\n", s.UIDValidity())
		text := bodies(t, m, allRows(s))
		for i, r := range allRows(s) {
			fmt.Fprintf(&b, " %d %s %q\n", r.UID, s.Flags(r.Flags).Wire(), text[i])
		}
		m.Close()
	}
	return b.String()
}

// A step is a command that is acknowledged as a whole.
type step struct {
	name string
	do   func(t *testing.T, a *mailstore.Account) error
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func appendStep(box string, subjects ...string) step {
	return step{"append", func(t *testing.T, a *mailstore.Account) error {
		var items []mailstore.AppendItem
		for _, s := range subjects {
			u, err := a.Upload(ctx, -1)
			if err != nil {
				return err
			}
			_, _ = io.WriteString(u, mail(s)+strings.Repeat("what is said again and again\r\n", 20)) // Append reports its error
			items = append(items, mailstore.AppendItem{Upload: u, Flags: []imap.Flag{imap.Flag("kw-" + s)}, ImportKey: s})
		}
		_, err := a.Append(ctx, box, items)
		return err
	}}
}

func mailboxStep(name, box string, do func(m *mailstore.Mailbox) error) step {
	return step{name, func(_ *testing.T, a *mailstore.Account) error {
		m, err := a.Mailbox(ctx, box)
		if err != nil {
			return err
		}
		defer m.Close()
		return do(m)
	}}
}

func storeStep(op mailstore.FlagOp, uids imap.UIDSet, flags ...imap.Flag) step {
	return mailboxStep("store", imap.Inbox, func(m *mailstore.Mailbox) error {
		_, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: op, Flags: flags})
		return err
	})
}

func crashSteps() []step {
	all := imap.UIDSetOfRange(1, 100)
	return []step{
		appendStep(imap.Inbox, "one"),
		appendStep(imap.Inbox, "two", "three", "four", "five", "six"),
		{"create", func(_ *testing.T, a *mailstore.Account) error {
			_, err := a.Create(ctx, "work/old", nil)
			return err
		}},
		appendStep(imap.Inbox, "loose one"),
		appendStep(imap.Inbox, "loose two"),
		storeStep(mailstore.FlagsAdd, imap.UIDSetOf(2), imap.FlagFlagged),
		storeStep(mailstore.FlagsAdd, imap.UIDSetOf(4), imap.FlagFlagged),
		storeStep(mailstore.FlagsAdd, all, imap.FlagSeen, "label"),
		mailboxStep("copy", imap.Inbox, func(m *mailstore.Mailbox) error {
			_, err := m.Copy(ctx, all, "work/old")
			return err
		}),
		storeStep(mailstore.FlagsAdd, imap.UIDSetOf(1, 3, 5), imap.FlagDeleted),
		mailboxStep("expunge", imap.Inbox, func(m *mailstore.Mailbox) error { return m.Expunge(ctx, nil) }),
		mailboxStep("move", "work/old", func(m *mailstore.Mailbox) error {
			_, err := m.Move(ctx, imap.UIDSetOf(2, 4, 5, 7), imap.Inbox)
			return err
		}),
		{"rename", func(_ *testing.T, a *mailstore.Account) error { return a.Rename(ctx, "work", "job/past") }},
		{"rename INBOX", func(_ *testing.T, a *mailstore.Account) error { return a.Rename(ctx, imap.Inbox, "archive/2020") }},
		{"subscribe", func(_ *testing.T, a *mailstore.Account) error { return a.Subscribe(ctx, "archive", true) }},
		{"delete", func(_ *testing.T, a *mailstore.Account) error { return a.Delete(ctx, "archive/2020") }},
		{"delete", func(_ *testing.T, a *mailstore.Account) error { return a.Delete(ctx, "job/past") }},
		appendStep(imap.Inbox, "seven"),
	}
}

// After a power cut at any operation the store opens, its references are
// right, what was acknowledged is there, and the command that was under way
// has happened as a whole or not at all.
func TestCutAtEveryOperation(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, opts := range map[string]mailstore.Options{
		"one transaction each": {},
		"many transactions":    {TxnRows: 2, TxnBytes: 1000},
		"many expunges":        {TxnRows: 2, ExpungeRanges: 1},
		"small pages":          {TxnRows: 4, PageRows: 2, FoldRows: 2},
		"small indexes":        {TextBatch: 1, ColumnRows: 2},
		"indexes in pieces":    {TextBatch: 2, TxnBytes: 1000},
	} {
		opts.Now = func() time.Time { return now }
		for _, apart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/apart=%v", name, apart), func(t *testing.T) {
				cuts := crashfs.EveryCut(t, 1, func() crashfs.Scenario { return crashScenario(opts, bloblog.Options{}, apart) })
				if cuts < 10 {
					t.Errorf("only %d cuts", cuts)
				}
			})
		}
	}
}

// The same, where messages are compressed: at every operation, or some of them.
func TestCutAtEveryOperationCompressed(t *testing.T) {
	step := 2
	if full() {
		step = 1
	}
	now := time.Unix(1_700_000_000, 0)
	opts := mailstore.Options{TxnRows: 4, TxnBytes: 2000, Now: func() time.Time { return now }}
	for name, messages := range map[string]bloblog.Options{
		"one segment":    {Compress: bloblog.Zstd},
		"small segments": {Compress: bloblog.Zstd, SegmentBytes: 500, MaxWaste: 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			cuts := crashfs.EveryCut(t, step, func() crashfs.Scenario { return crashScenario(opts, messages, false) })
			if cuts < 10 {
				t.Errorf("only %d cuts", cuts)
			}
		})
	}
}

func crashScenario(opts mailstore.Options, messages bloblog.Options, apart bool) crashfs.Scenario {
	var dumps []string // after each step, the first before all
	acknowledged := -1 // index in dumps
	note := func(t *testing.T, fs *crashfs.FS, a *mailstore.Account) {
		alive := fs.Alive()
		dumps = append(dumps, dump(t, a))
		if alive {
			acknowledged = len(dumps) - 1
		}
	}
	return crashfs.Scenario{
		Run: func(t *testing.T, fs *crashfs.FS) {
			d := openDisk(t, fs, opts, messages, apart)
			a := d.account(t)
			note(t, fs, a)
			for _, s := range crashSteps() {
				must(t, s.do(t, a))
				note(t, fs, a)
			}
			if st := d.blobs.Stats(); messages.Compress != bloblog.Uncompressed && st.StoredBytes >= st.Content {
				t.Errorf("nothing was compressed: %+v", st)
			}
			if st := d.blobs.Stats(); !apart && messages.SegmentBytes == 0 && fs.Alive() && st.Rides < 3 {
				t.Errorf("the log has not ridden with the messages: %+v", st)
			}
			d.close(t)
		},
		Check: func(t *testing.T, fs *crashfs.FS) {
			d := openDisk(t, fs, opts, messages, apart)
			a := d.account(t)
			got := dump(t, a)
			if next := acknowledged + 1; (acknowledged < 0 || got != dumps[acknowledged]) && (next >= len(dumps) || got != dumps[next]) {
				was := ""
				if acknowledged >= 0 {
					was = dumps[acknowledged]
				}
				t.Errorf("after step %d the store has\n%s\nacknowledged was\n%s", acknowledged, got, was)
			}
			check(t, d.store)
			// It goes on working, and comes to rest with nothing left over.
			uid := appendMail(t, a, imap.Inbox, mail("after the cut"))
			if st, err := a.Status(imap.Inbox); err != nil || st.UIDNext != uid+1 {
				t.Errorf("status %+v, %v", st, err)
			}
			must(t, d.store.Sweep(ctx))
			check(t, d.store)
			d.close(t)
		},
	}
}
