package mailstore

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// TestRules breaks one rule of the index at a time, as a wrong program might,
// and wants it found. It looks inside because nothing outside can do that.
func TestRules(t *testing.T) {
	count := func(tx *opTx, num boxNum, change func(c *counters)) {
		c := tx.state(num).c
		change(&c)
		tx.set(boxKey(keyCounters, num), c.encode())
	}
	edit := func(tx *opTx, name string, change func(n *node)) {
		n := *tx.tree.byName[name]
		n.uses = slices.Clone(n.uses)
		change(&n)
		tx.set(boxKey(keyBox, n.num), n.encode())
	}
	for name, c := range map[string]struct {
		spoil func(tx *opTx, work boxNum)
		want  string
	}{
		"count": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.messages++ })
		}, "ann Work: counters are"},
		"unseen": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.unseen-- })
		}, "ann Work: counters are"},
		"UIDNEXT": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.uidNext = 3 })
		}, "ann Work UID 3: has a UID beyond UIDNEXT 3"},
		"mod-sequence": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.highest = 2 })
		}, "is beyond the mailbox's 2"},
		"first recent": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.firstRecent = 99 })
		}, "ann Work: has UIDNEXT 4 and first recent UID 99"},
		"floor": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.floor = c.highest + 1 })
		}, "ann Work: has mod-sequence"},
		"history of what is there": {func(tx *opTx, work boxNum) {
			tx.set(modseqKey(keyHistory, work, 2), mailindex.AppendUIDSet(nil, imap.UIDSetOf(3)))
		}, "ann Work UID 3: is remembered as expunged, but is there"},
		"history of the future": {func(tx *opTx, work boxNum) {
			tx.set(modseqKey(keyHistory, work, 1000), mailindex.AppendUIDSet(nil, imap.UIDSetOf(77)))
		}, "ann Work: remembers an expunge at mod-sequence 1000"},
		"history beyond UIDNEXT": {func(tx *opTx, work boxNum) {
			tx.set(modseqKey(keyHistory, work, 1000), mailindex.AppendUIDSet(nil, imap.UIDSetOf(77)))
		}, "ann Work UID 77: is remembered as expunged and is beyond UIDNEXT 4"},
		"history count": {func(tx *opTx, work boxNum) {
			count(tx, work, func(c *counters) { c.historyRanges = 7 })
		}, "ann Work: remembers 1 ranges of expunged UIDs, and has counted 7"},
		"UIDVALIDITY twice": {func(tx *opTx, _ boxNum) {
			edit(tx, "Work", func(n *node) { n.uidValidity = tx.tree.byName["INBOX"].uidValidity })
		}, "has the same UIDVALIDITY as"},
		"UIDVALIDITY of the future": {func(tx *opTx, _ boxNum) {
			edit(tx, "Work", func(n *node) { n.uidValidity = 1<<32 - 1 })
		}, "ann Work: has a UIDVALIDITY that has not been given out"},
		"name twice": {func(tx *opTx, _ boxNum) {
			edit(tx, "Work", func(n *node) { n.name = "INBOX" })
		}, "is the name of two mailboxes"},
		"no parent": {func(tx *opTx, _ boxNum) {
			edit(tx, "Work", func(n *node) { n.name = "Gone/Work" })
		}, "ann Gone/Work: has no parent Gone"},
		"special use twice": {func(tx *opTx, _ boxNum) {
			edit(tx, "Work", func(n *node) { n.uses = []imap.MailboxAttr{imap.AttrSent} })
			edit(tx, "INBOX", func(n *node) { n.uses = []imap.MailboxAttr{imap.AttrSent} })
		}, "has the special use \\Sent, and so has"},
		"no counters": {func(tx *opTx, work boxNum) {
			tx.delete(boxKey(keyCounters, work))
		}, "ann Work: has no counters"},
		"counters of nothing": {func(tx *opTx, work boxNum) {
			tx.delete(boxKey(keyBox, work))
		}, "does not exist"},
		"damaged counters": {func(tx *opTx, work boxNum) {
			tx.set(boxKey(keyCounters, work), []byte{0xff})
		}, "cannot be read"},
		"damaged mailbox": {func(tx *opTx, work boxNum) {
			tx.set(boxKey(keyBox, work), []byte{0xff})
		}, "ann: the list of mailboxes cannot be read"},
		"number of a message": {func(tx *opTx, _ boxNum) {
			tx.rec.nextMsg = 0
			tx.set(nameKey(keySub, "x"), nil)
		}, "has a number that has not been given out"},
		"no message": {func(tx *opTx, _ boxNum) {
			tx.delete(numKey(keyMessage, 2))
		}, "ann Work UID 3: message 2 is in a row, but has no record"},
		"damaged message": {func(tx *opTx, _ boxNum) {
			tx.set(numKey(keyMessage, 2), []byte{0xff})
		}, "ann Work UID 3: message 2 has a record that cannot be read"},
		"no digest": {func(tx *opTx, _ boxNum) {
			tx.delete(numKey(keyDigest, 2))
		}, "ann Work UID 3: message 2 lacks its digest"},
		"reference count": {func(tx *opTx, _ boxNum) {
			tx.set(numKey(keyRefs, 2), appendUints(nil, 5))
		}, "ann Work UID 3: message 2 is in 1 rows and counted in 5"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			kv, blobs := memkv.NewKV(), memkv.NewBlobs()
			opts := Options{Logger: slog.New(slog.DiscardHandler)}
			s, err := Open(ctx, kv, blobs, opts)
			if err != nil {
				t.Fatal(err)
			}
			a, work := workAccount(t, s)
			if res, err := s.Verify(ctx, VerifyOptions{}); err != nil || len(res.Defects) > 0 {
				t.Fatalf("before: %+v, %v", res, err)
			}
			if err := a.submit(ctx, &op{run: func(tx *opTx) error { c.spoil(tx, work); return nil }}); err != nil {
				t.Fatal(err)
			}
			res, err := s.Verify(ctx, VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, d := range res.Defects {
				lines = append(lines, d.String())
			}
			if all := strings.Join(lines, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("want %q, found\n%s", c.want, all)
			}
		})
	}
}

// workAccount makes an account with the mailboxes INBOX and Work; in Work are
// the UIDs 1 and 3, the messages 1 (in INBOX as well) and 2. UID 2 is expunged.
func workAccount(t *testing.T, s *Store) (*Account, boxNum) {
	t.Helper()
	ctx := context.Background()
	a, err := s.Account(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(ctx, "Work", nil); err != nil {
		t.Fatal(err)
	}
	add := func(text string) {
		t.Helper()
		u, err := a.Upload(ctx, int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(u, text); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Append(ctx, "Work", []AppendItem{{Upload: u}}); err != nil {
			t.Fatal(err)
		}
	}
	add("Subject: one\r\n\r\n")
	m, err := a.Mailbox(ctx, "Work")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, dest := range []string{"INBOX", "Work"} {
		if _, err := m.Copy(ctx, imap.UIDSetOf(1), dest); err != nil {
			t.Fatal(err)
		}
	}
	add("Subject: two\r\n\r\n")
	gone := imap.UIDSetOf(2)
	if _, err := m.Store(ctx, &StoreRequest{UIDs: gone, Op: FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(ctx, &gone); err != nil {
		t.Fatal(err)
	}
	return a, a.tree.Load().byName["Work"].num
}
