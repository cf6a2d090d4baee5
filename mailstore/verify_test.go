package mailstore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// rotten is a store of blobs some of which are damaged: by what is in them.
type rotten struct{ driver.Blobs }

func (r rotten) Open(ctx context.Context, a driver.Account, ref driver.Ref) (driver.Blob, error) {
	b, err := r.Blobs.Open(ctx, a, ref)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return nil, err
	}
	switch {
	case strings.Contains(string(text), "Subject: lost"):
		return nil, imap.E("open", imap.NotFound, b.Close())
	case strings.Contains(string(text), "Subject: rot in the middle"):
		return rotBlob{b}, nil
	case strings.Contains(string(text), "Subject: torn"):
		return tornBlob{b}, nil
	case strings.Contains(string(text), "Subject: short"):
		return shortBlob{b}, nil
	}
	return b, nil
}

type tornBlob struct{ driver.Blob }

func (tornBlob) ReadAt([]byte, int64) (int, error) {
	return 0, imap.E("read", imap.Corruption, errors.New("checksum"))
}

// rotBlob is damaged at 200,000.
type rotBlob struct{ driver.Blob }

func (b rotBlob) ReadAt(p []byte, off int64) (int, error) {
	if off <= 200_000 && off+int64(len(p)) > 200_000 {
		return 0, imap.E("read", imap.Corruption, errors.New("checksum"))
	}
	return b.Blob.ReadAt(p, off)
}

type shortBlob struct{ driver.Blob }

func (b shortBlob) Size() int64 { return b.Blob.Size() - 1 }

func TestVerify(t *testing.T) {
	ctx := context.Background()
	b := newBench(t, mailstore.Options{})
	a := b.account(t, "ann")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.Create(ctx, "Work", nil)
	must(err)
	for _, subject := range []string{"fine", "lost", "torn", "short", "fine too"} {
		appendMail(t, a, "INBOX", mail(subject))
	}
	inbox := open(t, a, "INBOX")
	_, err = inbox.Copy(ctx, imap.UIDSetOf(3, 5), "Work")
	must(err)
	appendMail(t, b.account(t, "bob"), "INBOX", mail("torn again"))

	res, err := b.store.Verify(ctx, mailstore.VerifyOptions{})
	must(err)
	if len(res.Defects) > 0 || res.Accounts != 2 || res.Mailboxes != 3 || res.Messages != 6 || res.Bytes == 0 {
		t.Errorf("a store without defects: %+v", res)
	}

	b.blobs = rotten{b.blobs}
	b.restart(t)
	var got []string
	read := int64(0)
	res, err = b.store.Verify(ctx, mailstore.VerifyOptions{
		Progress: func(n int64) { read = n },
		Found:    func(d mailstore.Defect) { got = append(got, d.String()) },
	})
	must(err)
	want := []string{
		"ann INBOX UID 2: message 2 is lost: its content is nowhere in the store",
		"ann INBOX UID 3: message 3 cannot be read: read: data is damaged: checksum",
		"ann Work UID 1: message 3 cannot be read: read: data is damaged: checksum",
		"ann INBOX UID 4: message 4 cannot be read: mailstore: check: data is damaged: it has 70 bytes, and 71 are expected",
		"bob INBOX UID 1: message 1 cannot be read: read: data is damaged: checksum",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defects (-want +got):\n%s", diff)
	}
	if read != res.Bytes || read == 0 {
		t.Errorf("progress said %d bytes, the result %d", read, res.Bytes)
	}
}
