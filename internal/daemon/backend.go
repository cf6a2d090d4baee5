package daemon

import (
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
)

// backend is what the protocol engine serves.
func (d *daemon) backend() (imapserver.Backend, error) {
	return imapstore.New(d.storage.store), nil
}
