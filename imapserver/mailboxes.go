package imapserver

import (
	"context"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// mailboxName reads a mailbox name and normalises it: NFC, INBOX in capitals.
// A name that cannot be one fails the command.
func (c *Call) mailboxName(d *imapwire.Decoder) string {
	name := d.Mailbox()
	if d.Err() != nil {
		return ""
	}
	normal, err := imap.NormalizeMailbox(name, c.Account().Separator())
	if err != nil {
		c.badName = err
	}
	c.typedName = name
	return normal
}

// createCommand is CREATE (RFC 9051 section 6.3.4).
func createCommand() *Command {
	return &Command{Name: "CREATE", Args: `SP mailbox [SP "(" create-param *(SP create-param) ")"]`, States: LoggedIn, Parse: parseCreate}
}

func parseCreate(c *Call, d *imapwire.Decoder) Run {
	var opts CreateOptions
	d.SP()
	typed := d.Mailbox()
	if d.TrySP() {
		d.NonEmptyList(func() {
			if p, ok := oneOf(d, "parameter of CREATE", c.Conn.srv.reg.createParams); ok {
				p.Parse(c, d, &opts)
			}
		})
	}
	return func(ctx context.Context) error {
		sep := c.Account().Separator()
		// A separator at the end says that children will follow; every mailbox
		// can have them here (RFC 9051 section 6.3.4).
		if sep != 0 {
			typed = strings.TrimSuffix(typed, string(sep))
		}
		name, err := imap.NormalizeMailbox(typed, sep)
		if err != nil {
			return err
		}
		if name == "INBOX" {
			return &imap.Error{Kind: imap.Exists, Text: "INBOX exists always"}
		}
		for _, use := range opts.SpecialUse {
			if !use.IsSpecialUse() {
				return &imap.Error{Kind: imap.UseAttr, Text: quoteArg(string(use)) + " is not a special use"}
			}
		}
		id, err := c.Account().Create(ctx, name, opts)
		if err != nil {
			return err
		}
		if id != "" && c.Conn.srv.features.Has(FeatureObjectID) {
			c.OK("MAILBOXID ("+string(id)+")", "Mailbox created")
		}
		return c.tellNormalized(ctx, typed, name)
	}
}

// tellNormalized tells a client under IMAP4rev2 that a name it gave has become
// another one (RFC 9051 section 6.3.9.7).
func (c *Call) tellNormalized(ctx context.Context, typed, name string) error {
	if typed == name || !c.Conn.enabled.rev2 {
		return nil
	}
	e, err := c.listEntry(ctx, name)
	if err != nil {
		return err
	}
	e.OldName = typed
	c.writeList("LIST", e, nil)
	return nil
}

// deleteCommand is DELETE (RFC 9051 section 6.3.5).
func deleteCommand() *Command {
	return &Command{Name: "DELETE", Args: "SP mailbox", States: LoggedIn, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		name := c.mailboxName(d)
		return func(ctx context.Context) error {
			if name == "INBOX" {
				return &imap.Error{Kind: imap.Cannot, Text: "INBOX cannot be deleted"}
			}
			if sel := c.Conn.sel; sel != nil && sel.name == name {
				// Its own selection ends with it (RFC 9051 section 6.3.5 leaves
				// it open); other sessions are told with BYE.
				if err := c.Account().Delete(ctx, name); err != nil {
					return err
				}
				c.Conn.unselect(ctx)
				c.Conn.noteState()
				c.Writer().Raw("* OK [CLOSED] The selected mailbox has been deleted\r\n")
				return nil
			}
			return c.Account().Delete(ctx, name)
		}
	}}
}

// renameCommand is RENAME (RFC 9051 section 6.3.6).
func renameCommand() *Command {
	return &Command{Name: "RENAME", Args: "SP mailbox SP mailbox", States: LoggedIn, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		from := c.mailboxName(d)
		d.SP()
		typed := d.Mailbox()
		return func(ctx context.Context) error {
			to, err := imap.NormalizeMailbox(typed, c.Account().Separator())
			if err != nil {
				return err
			}
			if to == "INBOX" {
				return &imap.Error{Kind: imap.Exists, Text: "INBOX exists always"}
			}
			if err := c.Account().Rename(ctx, from, to); err != nil {
				return err
			}
			if sel := c.Conn.sel; sel != nil && from != "INBOX" {
				sel.name = renamed(sel.name, from, to, c.Account().Separator())
				c.Conn.noteState()
			}
			return c.tellRenamed(ctx, from, to)
		}
	}}
}

// renamed is a mailbox's name after from was renamed to to.
func renamed(name, from, to string, sep rune) string {
	if name == from {
		return to
	}
	if rest, ok := strings.CutPrefix(name, from+string(sep)); ok && sep != 0 {
		return to + string(sep) + rest
	}
	return name
}

// tellRenamed sends the LIST response with OLDNAME of IMAP4rev2 (RFC 9051
// section 6.3.9.7); renaming INBOX makes a new mailbox and is not told.
func (c *Call) tellRenamed(ctx context.Context, from, to string) error {
	if !c.Conn.enabled.rev2 || from == "INBOX" {
		return nil
	}
	e, err := c.listEntry(ctx, to)
	if err != nil {
		return err
	}
	e.OldName = from
	c.writeList("LIST", e, nil)
	return nil
}

// subscribeCommand is SUBSCRIBE or UNSUBSCRIBE (RFC 9051 sections 6.3.7, 6.3.8).
func subscribeCommand(name string) *Command {
	return &Command{Name: name, Args: "SP mailbox", States: LoggedIn, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		mailbox := c.mailboxName(d)
		return func(ctx context.Context) error {
			return c.Account().Subscribe(ctx, mailbox, name == "SUBSCRIBE")
		}
	}}
}

// createSpecialUse is RFC 6154 section 3: CREATE with USE.
func createSpecialUse() *Extension {
	return &Extension{
		Name: "CREATE-SPECIAL-USE", RFC: "6154", Needs: FeatureMailboxes | FeatureSpecialUse,
		Capabilities: []Capability{{Name: "CREATE-SPECIAL-USE"}},
		CreateParams: []*CreateParam{{Name: "USE", Parse: func(_ *Call, d *imapwire.Decoder, opts *CreateOptions) {
			d.SP()
			d.List(func() {
				opts.SpecialUse = append(opts.SpecialUse, d.MailboxAttr().Canonical())
			})
		}}},
	}
}

// namespace is RFC 2342. Everything is the user's own; shared and other users'
// mailboxes come with access control.
func namespace() *Extension {
	return &Extension{
		Name: "NAMESPACE", RFC: "2342",
		Capabilities: []Capability{{Name: "NAMESPACE"}},
		Commands: []*Command{{Name: "NAMESPACE", States: LoggedIn, Parse: func(c *Call, _ *imapwire.Decoder) Run {
			return func(context.Context) error {
				w := c.Writer()
				w.Raw(`* NAMESPACE (("" `)
				c.writeSeparator()
				w.Raw(")) NIL NIL\r\n")
				return nil
			}
		}}},
	}
}

func (c *Call) writeSeparator() {
	if sep := c.Account().Separator(); sep != 0 {
		c.Writer().Quoted(string(sep))
	} else {
		c.Writer().Nil()
	}
}
