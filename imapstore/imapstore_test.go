package imapstore_test

import (
	"context"
	"io"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// One message goes through every method of the seam.
func TestSeam(t *testing.T) {
	ctx := context.Background()
	store, err := mailstore.Open(ctx, memkv.NewKV(), memkv.NewBlobs(), mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(ctx)
	a, err := imapstore.New(store).Open(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Create(ctx, "Work/Old", imapserver.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const text = "Subject: hello\r\n\r\nworld\r\n"
	u, err := a.Upload(ctx, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, text); err != nil {
		t.Fatal(err)
	}
	res, err := a.Append(ctx, imap.Inbox, []imapserver.AppendMessage{{Upload: u, Flags: []imap.Flag{imap.FlagSeen}}})
	if err != nil || len(res.UIDs) != 1 || res.UIDs[0] != 1 {
		t.Fatalf("Append: %+v, %v", res, err)
	}
	m, err := a.Mailbox(ctx, imap.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if first, last, err := m.ClaimRecent(ctx); err != nil || first != 1 || last != 1 {
		t.Errorf("ClaimRecent = %d, %d, %v", first, last, err)
	}
	s, err := m.Snapshot(ctx)
	if err != nil || s.Len() != 1 {
		t.Fatalf("Snapshot: %v", err)
	}
	all := imapserver.NeedDigest | imapserver.NeedHeader | imapserver.NeedBody | imapserver.NeedText | imapserver.NeedIDs
	err = m.Fetch(ctx, []mailindex.Row{s.Row(0)}, all, func(_ int, msg *imapserver.Message) error {
		body, err := io.ReadAll(io.NewSectionReader(msg.Body, 0, msg.RawSize))
		if err != nil || string(body) != text || msg.Err != nil {
			t.Errorf("body %q, %v, %v", body, err, msg.Err)
		}
		if msg.Digest == nil || msg.Text == nil || msg.EmailID == "" || msg.ThreadID == "" {
			t.Errorf("parts are missing: %+v", msg)
		}
		if string(msg.Header) != "Subject: hello\r\n\r\n" {
			t.Errorf("header %q", msg.Header)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := m.Store(ctx, &imapserver.StoreRequest{UIDs: imap.UIDSetOf(1, 9), Op: imapserver.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	if err != nil || st.ModSeq == 0 || st.Missing.String() != "9" {
		t.Errorf("Store: %+v, %v", st, err)
	}
	if c, err := m.Copy(ctx, imap.UIDSetOf(1), "Work/Old", true); err != nil || len(c.Dest) != 1 {
		t.Errorf("Copy: %+v, %v", c, err)
	}
	if uids, complete, err := m.Expunged(ctx, 1); err != nil || !complete || uids.String() != "1" {
		t.Errorf("Expunged: %v, %v, %v", uids, complete, err)
	}
	if s, err := a.Status(ctx, "Work/Old"); err != nil || s.Messages != 1 || s.Deleted != 1 || s.Size != int64(len(text)) {
		t.Errorf("Status: %+v, %v", s, err)
	}
	m.Release(imap.MaxModSeq)
	list, err := a.Mailboxes(ctx)
	if err != nil || len(list) != 3 {
		t.Errorf("Mailboxes: %+v, %v", list, err)
	}
}
