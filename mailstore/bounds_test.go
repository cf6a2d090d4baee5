package mailstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// bounded is a KV that refuses what the contract lets it refuse.
type bounded struct {
	driver.KV
	t *testing.T
}

func (b *bounded) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	return b.KV.Update(ctx, a, func(tx driver.Txn) error {
		s := &sized{Txn: tx}
		err := fn(s)
		if s.size > driver.MaxTxnBytes {
			b.t.Errorf("a transaction of %d bytes", s.size)
		}
		return err
	})
}

type sized struct {
	driver.Txn
	size int
}

func (s *sized) Set(key, value []byte) error {
	s.size += len(key) + len(value)
	return s.Txn.Set(key, value)
}

func newBounded(t *testing.T) *bench {
	b := newBench(t, mailstore.Options{})
	b.kv = &bounded{b.kv, t}
	b.restart(t)
	return b
}

// Rows with thousands of keywords make transactions large before they have
// many rows.
func TestRowsWithManyKeywords(t *testing.T) {
	b := newBounded(t)
	a := b.account(t, "ann")
	const n = 900
	var items []mailstore.AppendItem
	for i := range n {
		items = append(items, mailstore.AppendItem{Upload: upload(t, a, mail(fmt.Sprint("m", i)))})
	}
	if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
		t.Fatal(err)
	}
	var flags []imap.Flag
	for i := range 4000 {
		flags = append(flags, imap.Flag(fmt.Sprint("keyword-", i)))
	}
	m := open(t, a, imap.Inbox)
	all := imap.UIDSetOfRange(1, n)
	res, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: all, Op: mailstore.FlagsAdd, Flags: flags})
	if err != nil || res.ModSeq == 0 {
		t.Fatalf("Store: %+v, %v", res, err)
	}
	if _, err := a.Create(ctx, "copy", nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 3 {
		go func() {
			_, err := m.Copy(ctx, all, "copy")
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	m.Close()
	b.restart(t)
	m = open(t, b.account(t, "ann"), "copy")
	defer m.Close()
	s := snapshot(t, m)
	if s.Len() != 3*n || len(s.Flags(s.FlagsID(3*n-1)).Keywords()) != 4000 {
		t.Errorf("%d messages, the last with %d keywords", s.Len(), len(s.Flags(s.FlagsID(s.Len()-1)).Keywords()))
	}
	check(t, b.store)
}

// A header made to be a burden is stored whole, and indexed as far as a
// transaction goes.
func TestHugeHeader(t *testing.T) {
	b := newBounded(t)
	a := b.account(t, "ann")
	var text strings.Builder
	text.WriteString("Subject: huge\r\n")
	for i := range 60_000 {
		fmt.Fprintf(&text, "To: \"somebody of no consequence\" <user%d@example.org>,\r\n =?utf-8?q?=E2=82=AC=E2=82=AC?= <x@y>\r\n", i)
	}
	text.WriteString("\r\nbody\r\n")
	appendMail(t, a, imap.Inbox, text.String())
	m := open(t, a, imap.Inbox)
	defer m.Close()
	rows := allRows(snapshot(t, m))
	if got := bodies(t, m, rows); got[0] != text.String() {
		t.Error("the message has changed")
	}
	err := m.Fetch(ctx, rows, mailstore.NeedDigest|mailstore.NeedText|mailstore.NeedHeader, func(_ int, msg *mailstore.Message) error {
		if len(msg.Header) != text.Len()-len("body\r\n") {
			t.Errorf("a header of %d bytes", len(msg.Header))
		}
		return msg.Err
	})
	if err != nil {
		t.Error(err)
	}
}
