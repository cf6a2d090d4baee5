package imapserver

import (
	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// Mailbox returns the selected mailbox, and nil where none is.
func (c *Call) Mailbox() Mailbox {
	if c.Conn.sel == nil {
		return nil
	}
	return c.Conn.sel.box
}

// MailboxName returns the name of the selected mailbox in UTF-8, and "" where
// none is.
func (c *Call) MailboxName() string { return c.Conn.selectedName() }

// ReadOnly reports whether the client has selected a mailbox for reading only:
// then a command must not change it.
func (c *Call) ReadOnly() bool { return c.Conn.sel != nil && c.Conn.sel.readOnly }

// View returns the selected mailbox as this client knows it, and nil where none
// is selected: sequence number n is position n-1. It may hold messages that have
// been expunged meanwhile. It changes when the client is told of changes, after
// the command at the latest.
func (c *Call) View() *mailindex.Snapshot {
	if c.Conn.sel == nil {
		return nil
	}
	return c.Conn.sel.view
}

// Resolve returns the messages of the view that a set names, as Decoder.NumSet
// has read it: UIDs in the UID form of the command, else sequence numbers; saved
// says that it was "$", the last search result. UIDs that are not there are left
// out, sequence numbers that are not there are an error that is answered with
// BAD (RFC 9051 section 6.4.9). It is for the command's Run.
func (c *Call) Resolve(set imap.NumSet, saved bool) (imap.UIDSet, error) {
	if c.Conn.sel == nil {
		return imap.UIDSet{}, bad("%s", wrongState(c.Name, Authenticated, Selected))
	}
	return c.Conn.sel.resolve(set, saved, c.UID)
}
