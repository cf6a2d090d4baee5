package imapserver

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// AppendItem is one message of an APPEND while it is read.
type AppendItem struct {
	AppendMessage
	limit int64
}

// appendCommand is APPEND (RFC 9051 section 6.3.12). It reads on while it runs,
// so that no message is ever in memory whole.
func appendCommand() *Command {
	return &Command{Name: "APPEND", Args: "SP mailbox 1*(SP [flag-list SP] [date-time SP] literal)", States: LoggedIn, Stream: true,
		Parse: func(c *Call, d *imapwire.Decoder) Run {
			d.SP()
			name := c.mailboxName(d)
			return func(ctx context.Context) error { return c.append(ctx, name) }
		}}
}

func (c *Call) append(ctx context.Context, name string) error {
	var items []AppendMessage
	defer func() {
		for _, it := range items {
			it.Upload.Discard()
		}
	}()
	if err := c.checkAppend(ctx, name); err != nil {
		return err
	}
	d := c.Conn.dec
	for {
		item := AppendItem{limit: c.Conn.srv.limits.Message}
		err := c.readAppend(ctx, d, &item)
		if item.Upload != nil {
			items = append(items, item.AppendMessage)
		}
		if err != nil {
			return err
		}
		if d.AtEOL() {
			break
		}
		if err := c.mayAppendMore(len(items)); err != nil {
			return err
		}
	}
	if d.CRLF(); d.Err() != nil {
		return d.Err()
	}
	res, err := c.Account().Append(ctx, name, items)
	if err != nil {
		return tryCreate(err)
	}
	c.okAppend(res)
	return nil
}

// checkAppend refuses what cannot succeed before the client sends its message.
func (c *Call) checkAppend(ctx context.Context, name string) error {
	if c.badName != nil {
		return c.badName
	}
	if !c.Conn.srv.features.Has(FeatureAppend) {
		return &imap.Error{Kind: imap.Cannot, Text: "Messages cannot be added here"}
	}
	_, err := c.Account().Status(ctx, name)
	return tryCreate(err)
}

// mayAppendMore allows a further message in one APPEND.
func (c *Call) mayAppendMore(n int) error {
	if n >= c.Conn.srv.limits.MultiAppend {
		return &imap.Error{Kind: imap.Limit, Text: "Too many messages in one APPEND; the limit is " + decimal(int64(n))}
	}
	if !c.Conn.srv.reg.on("MULTIAPPEND") {
		return bad("One message at a time; MULTIAPPEND is not possible here")
	}
	return nil
}

// readAppend reads flags, date and message.
func (c *Call) readAppend(ctx context.Context, d *imapwire.Decoder, item *AppendItem) error {
	d.SP()
	if d.Peek() == '(' {
		item.Flags = d.FlagList()
		d.SP()
		if err := checkFlags(item.Flags); err != nil {
			return err
		}
	}
	if d.Peek() == '"' {
		item.Date = d.DateTime()
		d.SP()
	}
	if item.Date == 0 {
		item.Date = imap.TimeOf(c.Conn.srv.now().In(time.UTC))
	}
	if next := d.Peek(); next != '{' && next != '~' {
		const forms = "flags, date or the message as a literal"
		if word := keyword(d, forms); d.Err() == nil {
			form := c.Conn.srv.reg.appendData[word]
			if form == nil {
				d.Fail(forms, word)
				return d.Err()
			}
			d.SP()
			d.Byte('(')
			if d.Err() != nil {
				return d.Err()
			}
			return form.Parse(ctx, c, d, item)
		}
	}
	return c.ReadMessage(ctx, d, item)
}

// ReadMessage reads the literal that is the message into the item's upload.
func (c *Call) ReadMessage(ctx context.Context, d *imapwire.Decoder, item *AppendItem) error {
	lit, ok := d.LiteralHeader()
	if !ok {
		return d.Err()
	}
	switch {
	case lit.Size > item.limit:
		return &imap.Error{Kind: imap.TooBig, Text: "The message is too large; the limit is " + decimal(item.limit) + " octets"}
	case lit.Size == 0:
		// RFC 3502 section 6.3.11: how a client cancels a MULTIAPPEND.
		return imap.No("", "A message of no octets is not stored")
	case lit.Binary && !c.Conn.srv.features.Has(FeatureBinary):
		return &imap.Error{Kind: imap.UnknownCTE, Text: "Binary messages are not stored here"}
	}
	up, err := c.Account().Upload(ctx, lit.Size)
	if err != nil {
		return err
	}
	item.Upload = up
	var r io.Reader = d.AcceptLiteral()
	if !lit.Binary {
		r = imapwire.NewNULReader(r)
	}
	n, err := io.Copy(up, r)
	if err == nil && n < lit.Size {
		err = io.ErrUnexpectedEOF
	}
	var nul *imapwire.NULError
	if errors.As(err, &nul) {
		return bad("%s", nul.Error())
	}
	return err
}

// tryCreate gives NotFound of a destination its response code.
func tryCreate(err error) error {
	if imap.KindOf(err) != imap.NotFound {
		return err
	}
	return &imap.Error{Kind: imap.NotFound, Code: "TRYCREATE", Text: "There is no such mailbox; create it first", Err: err}
}

// multiAppend is RFC 3502: appendCommand takes several messages.
func multiAppend() *Extension {
	return &Extension{
		Name: "MULTIAPPEND", RFC: "3502", Needs: FeatureAppend | FeatureMultiAppend,
		Capabilities: []Capability{{Name: "MULTIAPPEND"}},
	}
}

// literalPlus is RFC 7888: the decoder takes non-synchronising literals.
func literalPlus() *Extension {
	return &Extension{Name: "LITERAL+", RFC: "7888", Capabilities: []Capability{{Name: "LITERAL+"}}}
}

// utf8Accept is RFC 9755, which obsoletes RFC 6855.
func utf8Accept() *Extension {
	return &Extension{
		Name: "UTF8=ACCEPT", RFC: "9755", Needs: FeatureUTF8, Requires: []string{"ENABLE"},
		Capabilities: []Capability{{Name: "UTF8=ACCEPT"}},
		Enables: []*Enable{{Name: "UTF8=ACCEPT", Run: func(c *Conn) {
			c.enabled.utf8 = true
			c.useUTF8()
		}}},
		AppendData: []*AppendData{{Name: "UTF8", Parse: func(ctx context.Context, c *Call, d *imapwire.Decoder, item *AppendItem) error {
			if !c.Conn.enabled.utf8 {
				return bad("APPEND with UTF8 needs ENABLE UTF8=ACCEPT first")
			}
			if err := c.ReadMessage(ctx, d, item); err != nil {
				return err
			}
			d.Byte(')')
			return d.Err()
		}}},
	}
}
