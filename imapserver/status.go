package imapserver

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/rookery-mail/rookery/imapwire"
)

// statusCommand is STATUS (RFC 9051 section 6.3.11).
func statusCommand() *Command {
	return &Command{Name: "STATUS", Args: `SP mailbox SP "(" status-att *(SP status-att) ")"`, States: LoggedIn, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		name := c.mailboxName(d)
		d.SP()
		items := c.statusItems(d)
		return func(ctx context.Context) error { return c.status(ctx, name, items) }
	}}
}

// statusItems reads a list of STATUS items. What is said twice is answered once.
func (c *Call) statusItems(d *imapwire.Decoder) []*StatusItem {
	var items []*StatusItem
	d.NonEmptyList(func() {
		if item, ok := oneOf(d, "STATUS item", c.Conn.srv.reg.statusItems); ok && !slices.Contains(items, item) {
			items = append(items, item)
		}
	})
	return items
}

// status writes the STATUS response of a mailbox.
func (c *Call) status(ctx context.Context, name string, items []*StatusItem) error {
	st, err := c.Account().Status(ctx, name)
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.Enables != nil {
			item.Enables(c.Conn)
		}
	}
	values, err := c.statusValues(&StatusMailbox{Status: st, ctx: ctx, conn: c.Conn, name: name}, items)
	if err != nil {
		return err
	}
	w := c.Writer()
	w.Raw("* STATUS ")
	w.Mailbox(name)
	w.SP()
	w.RawBytes(values)
	w.CRLF()
	return nil
}

// statusValues writes the items aside, so that nothing is sent if one fails.
func (c *Call) statusValues(m *StatusMailbox, items []*StatusItem) ([]byte, error) {
	var values bytes.Buffer
	w := imapwire.NewEncoder(&values, imapwire.EncoderOptions{Pool: c.Conn.srv.pool})
	defer w.Release()
	w.SetMode(c.Writer().Mode())
	var err error
	w.List(len(items), func(i int) {
		w.Raw(items[i].Name)
		w.SP()
		if err == nil {
			err = items[i].Write(w, m)
		}
	})
	err = cmp.Or(err, w.Flush())
	return values.Bytes(), err
}

// StatusMailbox is a mailbox that STATUS, or LIST with STATUS, writes items of.
// It is valid until the function that it was given to returns.
type StatusMailbox struct {
	*Status
	ctx  context.Context
	conn *Conn
	name string
}

// Context returns the context of the command.
func (m *StatusMailbox) Context() context.Context { return m.ctx }

// Conn returns the connection; its User is whose mailbox it is.
func (m *StatusMailbox) Conn() *Conn { return m.conn }

// MailboxName returns the mailbox's name in UTF-8.
func (m *StatusMailbox) MailboxName() string { return m.name }

// statusNumber is an item whose value is a number.
func statusNumber(name string, value func(*Status) uint64) *StatusItem {
	return &StatusItem{Name: name, Write: func(w *imapwire.Encoder, m *StatusMailbox) error {
		w.Number64(value(m.Status))
		return nil
	}}
}

func baseStatusItems() []*StatusItem {
	return []*StatusItem{
		statusNumber("MESSAGES", func(s *Status) uint64 { return uint64(s.Messages) }),
		statusNumber("RECENT", func(s *Status) uint64 { return uint64(s.Recent) }),
		statusNumber("UIDNEXT", func(s *Status) uint64 { return uint64(s.UIDNext) }),
		statusNumber("UIDVALIDITY", func(s *Status) uint64 { return uint64(s.UIDValidity) }),
		statusNumber("UNSEEN", func(s *Status) uint64 { return uint64(s.Unseen) }),
	}
}

// deletedStatusItem is new in IMAP4rev2.
func deletedStatusItem() *StatusItem {
	return statusNumber("DELETED", func(s *Status) uint64 { return uint64(s.Deleted) })
}

// statusSize is RFC 8438.
func statusSize() *Extension {
	return &Extension{
		Name: "STATUS=SIZE", RFC: "8438",
		Capabilities: []Capability{{Name: "STATUS=SIZE"}},
		StatusItems:  []*StatusItem{statusNumber("SIZE", func(s *Status) uint64 { return uint64(s.Size) })},
	}
}

// appendLimit is RFC 7889: the limit is the same for all mailboxes.
func appendLimit() *Extension {
	return &Extension{
		Name: "APPENDLIMIT", RFC: "7889", Needs: FeatureAppend,
		Capabilities: []Capability{{Name: "APPENDLIMIT=", Value: func(s *Server) string { return decimal(s.limits.Message) }}},
		StatusItems: []*StatusItem{{Name: "APPENDLIMIT", Write: func(w *imapwire.Encoder, m *StatusMailbox) error {
			w.Number64(uint64(m.conn.srv.limits.Message))
			return nil
		}}},
	}
}
