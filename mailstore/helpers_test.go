package mailstore_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// bench is a store over engines that outlive it, as a disk does.
type bench struct {
	kv    driver.KV
	blobs driver.Blobs
	opts  mailstore.Options
	store *mailstore.Store
}

func quiet(opts mailstore.Options) mailstore.Options {
	opts.Logger = slog.New(slog.DiscardHandler)
	if opts.DeriveDelay == 0 {
		opts.DeriveDelay = time.Nanosecond
	}
	return opts
}

func newBench(tb testing.TB, opts mailstore.Options) *bench {
	tb.Helper()
	b := &bench{kv: memkv.NewKV(memkv.RunTwice()), blobs: memkv.NewBlobs(), opts: quiet(opts)}
	b.open(tb)
	tb.Cleanup(func() { b.store.Close(context.Background()) })
	return b
}

// fataler is what testing.TB and rapid.T share.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func (b *bench) open(t fataler) {
	t.Helper()
	var err error
	if b.store, err = mailstore.Open(context.Background(), b.kv, b.blobs, b.opts); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) restart(t fataler) {
	t.Helper()
	if err := b.store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.open(t)
}

func (b *bench) account(t fataler, user string) *mailstore.Account {
	t.Helper()
	a, err := b.store.Account(context.Background(), user)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// check fails where the cross-references of the store are wrong.
func check(t fataler, s *mailstore.Store) {
	t.Helper()
	defects, err := s.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range defects {
		t.Fatalf("check: %s", d)
	}
}

func mail(subject string) string {
	return fmt.Sprintf("Message-ID: <%s@example.org>\r\nSubject: %s\r\n\r\nThe body of %s.\r\n", subject, subject, subject)
}

func upload(t fataler, a *mailstore.Account, text string) *mailstore.Upload {
	t.Helper()
	u, err := a.Upload(context.Background(), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, text); err != nil {
		t.Fatal(err)
	}
	return u
}

func appendMail(t fataler, a *mailstore.Account, box, text string, flags ...imap.Flag) imap.UID {
	t.Helper()
	res, err := a.Append(context.Background(), box, []mailstore.AppendItem{{Upload: upload(t, a, text), Flags: flags, Date: imap.MakeTime(1e9, 60)}})
	if err != nil {
		t.Fatal(err)
	}
	return res.UIDs[0]
}

func open(t fataler, a *mailstore.Account, box string) *mailstore.Mailbox {
	t.Helper()
	m, err := a.Mailbox(context.Background(), box)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func snapshot(t fataler, m *mailstore.Mailbox) *mailindex.Snapshot {
	t.Helper()
	s, err := m.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func allRows(s *mailindex.Snapshot) []mailindex.Row {
	rows := make([]mailindex.Row, 0, s.Len())
	for _, r := range s.Rows() {
		rows = append(rows, r)
	}
	return rows
}

// bodies reads the messages of rows; what cannot be read is "!" and its error.
func bodies(t fataler, m *mailstore.Mailbox, rows []mailindex.Row) []string {
	t.Helper()
	list := make([]string, len(rows))
	err := m.Fetch(context.Background(), rows, mailstore.NeedBody, func(i int, msg *mailstore.Message) error {
		if msg.Err != nil {
			list[i] = "!" + msg.Err.Error()
			return nil
		}
		data, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, msg.RawSize))
		list[i] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// patience is how long a test waits before it says that nothing happens: longer
// than a slow machine with much else to do takes.
const patience = time.Minute

// eventually waits until cond holds.
func eventually(t fataler, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("%s did not happen", what)
}

func blobCount(t fataler, b *bench, account uint64) int {
	t.Helper()
	n := 0
	err := b.blobs.List(context.Background(), driver.Account(account), func(driver.Ref, driver.BlobInfo) error {
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newKV() driver.KV { return memkv.NewKV(memkv.RunTwice()) }

func newBlobs() driver.Blobs { return memkv.NewBlobs() }
