package mailstore_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// The fields of a header come from their record; a store that has none for a
// message, or an older one, makes it.
func TestFetchFields(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	appendMail(t, a, imap.Inbox, "Subject: one\r\nTo: x\r\n\r\nbody\r\n")
	m := open(t, a, imap.Inbox)
	defer m.Close()
	row := snapshot(t, m).Row(0)
	set, _ := message.FieldSetOf([]string{"Subject"})
	check := func(when string) {
		t.Helper()
		err := m.Fetch(ctx, []mailindex.Row{row}, mailstore.NeedFields, func(_ int, msg *mailstore.Message) error {
			if got := string(msg.Fields.Append(nil, set)); msg.Err != nil || got != "Subject: one\r\n\r\n" || msg.Body != nil {
				t.Errorf("%s: fields %q, %v", when, got, msg.Err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	check("at first")
	key := binary.BigEndian.AppendUint64([]byte{'a'}, row.Msg)
	for when, value := range map[string][]byte{"without a record": nil, "of an older version": {0, 1, 1, 'x', 0}} {
		err := b.kv.Update(ctx, 1, func(tx driver.Txn) error {
			if value == nil {
				return tx.Delete(key)
			}
			return tx.Set(key, value)
		})
		if err != nil {
			t.Fatal(err)
		}
		check(when)
		// The change that the Fetch has begun comes before this one.
		appendMail(t, a, imap.Inbox, "Subject: next\r\n\r\n")
		err = b.kv.View(ctx, 1, func(r driver.Reader) error {
			if data, ok, err := r.Get(key); err != nil || !ok || string(data) == string(value) {
				t.Errorf("%s: the record is %q afterwards, %v", when, data, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A header too long for its fields to be kept is read from the message.
func TestFetchLongHeader(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	header := "Subject: " + strings.Repeat("x", 20_000) + "\r\n\r\n"
	appendMail(t, a, imap.Inbox, header+"body\r\n")
	m := open(t, a, imap.Inbox)
	defer m.Close()
	err := m.Fetch(ctx, []mailindex.Row{snapshot(t, m).Row(0)}, mailstore.NeedFields, func(_ int, msg *mailstore.Message) error {
		if msg.Err != nil || len(msg.Fields) != 0 || string(msg.Header) != header {
			t.Errorf("%d bytes of fields, header of %d bytes, %v", len(msg.Fields), len(msg.Header), msg.Err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
