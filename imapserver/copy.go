package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// copyCommand is COPY and UID COPY (RFC 9051 section 6.4.7).
func copyCommand() *Command {
	return &Command{Name: "COPY", Args: "SP sequence-set SP mailbox", States: Selected, UID: true,
		Parse: func(c *Call, d *imapwire.Decoder) Run { return c.parseCopy(d, false) }}
}

// move is RFC 6851. IMAP4rev2 has the command, so it is there, and answers NO,
// where the back end cannot move.
func move() *Extension {
	return &Extension{
		Name: "MOVE", RFC: "6851",
		Capabilities: []Capability{{Name: "MOVE", When: withFeature(FeatureMove)}},
		Commands: []*Command{{Name: "MOVE", Args: "SP sequence-set SP mailbox", States: Selected, UID: true,
			Parse: func(c *Call, d *imapwire.Decoder) Run { return c.parseCopy(d, true) }}},
	}
}

func (c *Call) parseCopy(d *imapwire.Decoder, move bool) Run {
	d.SP()
	set, saved := d.NumSet()
	d.SP()
	dest := c.mailboxName(d)
	return func(ctx context.Context) error {
		sel := c.Conn.sel
		switch {
		case move && sel.readOnly:
			return errReadOnly
		case move && !c.Conn.srv.features.Has(FeatureMove):
			return &imap.Error{Kind: imap.Cannot, Text: "Messages cannot be moved here"}
		case !c.Conn.srv.features.Has(FeatureCopy):
			return &imap.Error{Kind: imap.Cannot, Text: "Messages cannot be copied here"}
		}
		uids, err := sel.resolve(set, saved, c.UID)
		if err != nil {
			return err
		}
		if uids.IsEmpty() {
			return nil
		}
		res, err := sel.box.Copy(ctx, uids, dest, move)
		if err != nil {
			return tryCreate(err)
		}
		if !move {
			if code := copyUID(res); code != "" {
				c.OK(code, "Copied")
			}
			return nil
		}
		return c.tellMoved(ctx, res)
	}
}

// tellMoved sends COPYUID before the EXPUNGE responses, as RFC 6851 section
// 4.3 wants.
func (c *Call) tellMoved(ctx context.Context, res *CopyResult) error {
	if code := copyUID(res); code != "" {
		c.Conn.reply("*", reply{"OK", code, "Moved"})
	}
	sel := c.Conn.sel
	if err := sel.flush(ctx, c.Conn, flushAll, nil); err != nil {
		return err
	}
	if c.Conn.enabled.qresync && len(res.Source) > 0 {
		c.OK("HIGHESTMODSEQ "+decimal(int64(sel.latest.HighestModSeq())), "Moved")
	}
	return nil
}
