package daemon

import (
	"context"
	"io"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/lmtp"
	"github.com/rookery-mail/rookery/mailstore"
)

// delivery takes the mail of LMTP to the INBOX of its recipients.
type delivery struct {
	*directory
	mail *mailstore.Store
}

var _ lmtp.Deliverer = (*delivery)(nil)

// Deliver implements lmtp.Deliverer.
func (d *delivery) Deliver(ctx context.Context, user string, r io.Reader, size int64) error {
	a, err := d.mail.Account(ctx, user)
	if err != nil {
		return err
	}
	u, err := uploadFrom(ctx, a, r, size)
	if err != nil {
		return err
	}
	_, err = a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: u}})
	return err
}
