package imapserver

import (
	"context"

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

// statusItems reads a list of STATUS items.
func (c *Call) statusItems(d *imapwire.Decoder) []*StatusItem {
	var items []*StatusItem
	d.NonEmptyList(func() {
		word := d.Keyword()
		if item := c.Conn.srv.reg.statusItems[word]; item != nil {
			items = append(items, item)
		} else {
			d.Fail("a STATUS item that this server has", word)
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
	w := c.Writer()
	w.Raw("* STATUS ")
	w.Mailbox(name)
	w.SP()
	w.List(len(items), func(i int) {
		w.Raw(items[i].Name)
		w.SP()
		items[i].Write(c.Conn, w, st)
	})
	w.CRLF()
	return nil
}

// statusNumber is an item whose value is a number.
func statusNumber(name string, value func(*Status) uint64) *StatusItem {
	return &StatusItem{Name: name, Write: func(_ *Conn, w *imapwire.Encoder, s *Status) { w.Number64(value(s)) }}
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
		StatusItems: []*StatusItem{{Name: "APPENDLIMIT", Write: func(c *Conn, w *imapwire.Encoder, _ *Status) {
			w.Number64(uint64(c.srv.limits.Message))
		}}},
	}
}
