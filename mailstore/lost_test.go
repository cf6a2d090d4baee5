package mailstore_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// kinds fetches rows and tells of each with what it was read: "ok", or the kind
// of its error.
func kinds(t *testing.T, m *mailstore.Mailbox, rows []mailindex.Row, need mailstore.Need) []string {
	t.Helper()
	list := make([]string, len(rows))
	err := m.Fetch(ctx, rows, need, func(i int, msg *mailstore.Message) error {
		if list[i] = "ok"; msg.Err != nil {
			list[i] = imap.KindOf(msg.Err).Error()
			return nil
		}
		if msg.Body != nil {
			if _, err := io.Copy(io.Discard, io.NewSectionReader(msg.Body, 0, msg.Size)); err != nil {
				list[i] = "broke off"
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFetchLost: content that the index names and the blobs do not have is
// damage; only a message that was expunged is gone. Clients drop their own copy
// of what they are told was expunged.
func TestFetchLost(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	for _, subject := range []string{"fine", "lost", "short", "lost and expunged", "fine too"} {
		appendMail(t, a, imap.Inbox, mail(subject))
	}
	b.blobs = rotten{b.blobs}
	b.restart(t)
	a = b.account(t, "ann")
	m := open(t, a, imap.Inbox)
	defer m.Close()
	rows := allRows(snapshot(t, m))
	want := "ok, data is damaged, data is damaged, data is damaged, ok"
	for _, need := range []mailstore.Need{mailstore.NeedBody, mailstore.NeedHeader} {
		if got := strings.Join(kinds(t, m, rows, need), ", "); got != want {
			t.Errorf("need %d: %s, want %s", need, got, want)
		}
	}
	if n := b.store.Stats().Lost; n != 3 {
		t.Errorf("%d messages are counted as lost, want 3", n)
	}

	if _, err := m.Store(ctx, &mailstore.StoreRequest{Op: mailstore.FlagsAdd, UIDs: imap.UIDSetOf(4), Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	m.Release(1 << 40)
	appendMail(t, a, imap.Inbox, mail("behind what is taken away"))
	eventually(t, "taking the message away", func() bool {
		return kinds(t, m, rows, mailstore.NeedBody)[3] == "does not exist"
	})
}

// TestFetchSound: damage in the middle of a large message is found before any of
// the message is delivered, each time that it is asked for, and others of the
// set are delivered.
func TestFetchSound(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	long := strings.Repeat("A line of a long message, one of many.\r\n", 10_000)
	for _, subject := range []string{"fine", "rot in the middle", "fine too"} {
		appendMail(t, a, imap.Inbox, mail(subject)+long)
	}
	m := open(t, a, imap.Inbox)
	rows := allRows(snapshot(t, m))
	const need = mailstore.NeedBody | mailstore.NeedSound
	if got := strings.Join(kinds(t, m, rows, need), ", "); got != "ok, ok, ok" {
		t.Errorf("before the damage: %s", got)
	}
	m.Close()
	b.blobs = rotten{b.blobs}
	b.restart(t)
	m = open(t, b.account(t, "ann"), imap.Inbox)
	defer m.Close()
	for range 2 {
		if got := strings.Join(kinds(t, m, rows, need), ", "); got != "ok, data is damaged, ok" {
			t.Errorf("with NeedSound: %s", got)
		}
	}
	if got := strings.Join(kinds(t, m, rows, mailstore.NeedBody), ", "); got != "ok, broke off, ok" {
		t.Errorf("without NeedSound: %s", got)
	}
}

// TestFetchRotsLater: a message that was whole, and breaks off later, is found
// damaged when it is asked for again.
func TestFetchRotsLater(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	b.blobs = &rotsLater{Blobs: b.blobs}
	b.restart(t)
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, mail("rot in the middle")+strings.Repeat("A line of a long message, one of many.\r\n", 10_000))
	m := open(t, a, imap.Inbox)
	defer m.Close()
	rows := allRows(snapshot(t, m))
	const need = mailstore.NeedBody | mailstore.NeedSound
	if got := kinds(t, m, rows, need)[0]; got != "ok" {
		t.Errorf("before the damage: %s", got)
	}
	b.blobs.(*rotsLater).rotten.Store(true)
	for _, want := range []string{"broke off", "data is damaged"} {
		if got := kinds(t, m, rows, need)[0]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// rotsLater is rotten from some time on.
type rotsLater struct {
	driver.Blobs
	rotten atomic.Bool
}

func (r *rotsLater) Open(ctx context.Context, a driver.Account, ref driver.Ref) (driver.Blob, error) {
	if r.rotten.Load() {
		return rotten{r.Blobs}.Open(ctx, a, ref)
	}
	return r.Blobs.Open(ctx, a, ref)
}
