package imapserver

import (
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// SelectOptions are the parameters of a SELECT or EXAMINE.
type SelectOptions struct {
	// Then is called in order when the mailbox is selected and described, and
	// before the tagged reply.
	Then []func(ctx context.Context, c *Call) error
}

// selectCommand is SELECT or EXAMINE (RFC 9051 sections 6.3.2 and 6.3.3).
func selectCommand(name string) *Command {
	return &Command{Name: name, Args: `SP mailbox [SP "(" select-param *(SP select-param) ")"]`, States: LoggedIn,
		Parse: func(c *Call, d *imapwire.Decoder) Run {
			d.SP()
			mailbox := c.mailboxName(d)
			var opts SelectOptions
			if d.TrySP() {
				d.NonEmptyList(func() {
					if p, ok := oneOf(d, "parameter of "+name, c.Conn.srv.reg.selectParams); ok {
						p.Parse(c, d, &opts)
					}
				})
			}
			return func(ctx context.Context) error { return c.selectMailbox(ctx, mailbox, name == "EXAMINE", &opts) }
		}}
}

// selectMailbox leaves the selected mailbox and selects another one. When that
// fails none is selected.
func (c *Call) selectMailbox(ctx context.Context, name string, examine bool, opts *SelectOptions) error {
	conn := c.Conn
	if conn.sel != nil {
		conn.unselect(ctx)
		// RFC 7162 section 3.2.11 wants it of all servers that have QRESYNC.
		c.Writer().Raw("* OK [CLOSED] Previous mailbox is closed\r\n")
		conn.noteState()
	}
	sel, err := c.openMailbox(ctx, name, examine)
	if err != nil {
		return err
	}
	conn.sel = sel
	if err := c.beginSelection(ctx, sel, opts); err != nil {
		conn.unselect(ctx)
		conn.noteState()
		return err
	}
	if sel.readOnly {
		c.OK("READ-ONLY", "Mailbox opened, for reading only")
	} else {
		c.OK("READ-WRITE", "Mailbox opened")
	}
	return nil
}

// openMailbox opens a mailbox, if the hook has nothing against it.
func (c *Call) openMailbox(ctx context.Context, name string, examine bool) (*selection, error) {
	box, err := c.Account().Mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	sel := &selection{name: name, box: box, readOnly: examine || box.ReadOnly()}
	if hook := c.Conn.srv.opts.Hooks.Selected; hook != nil {
		if err := hook(ctx, c.Conn, name, sel.readOnly); err != nil {
			sel.close(c.Conn)
			return nil, err
		}
	}
	return sel, nil
}

// beginSelection takes a first look at the mailbox and describes it.
func (c *Call) beginSelection(ctx context.Context, sel *selection, opts *SelectOptions) error {
	// The watch begins before the first look, so that nothing falls between.
	sel.stop = sel.box.Watch(c.Conn.wakeMailbox)
	if err := sel.claimRecent(ctx, c.Conn); err != nil {
		return err
	}
	var err error
	if sel.latest, err = sel.box.Snapshot(ctx); err != nil {
		return err
	}
	sel.view = sel.latest
	sel.keywords = len(sel.latest.Keywords())
	if p, ok := sel.box.(Poller); ok {
		c.Conn.poller.Store(&p)
	}
	c.Conn.noteState()
	if err := c.describe(ctx, sel); err != nil {
		return err
	}
	for _, then := range opts.Then {
		if err := then(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// close gives the mailbox back.
func (s *selection) close(c *Conn) {
	if s.stop != nil {
		s.stop()
	}
	if err := s.box.Close(); err != nil {
		c.log().Warn("closing the mailbox failed", "mailbox", s.name, "err", err)
	}
}

// describe sends the untagged responses of SELECT.
func (c *Call) describe(ctx context.Context, s *selection) error {
	w, v := c.Writer(), s.view
	c.Conn.writeFlags(s)
	w.Raw("* OK [PERMANENTFLAGS ")
	c.Conn.writePermanentFlags(s)
	w.Raw("] Flags that are kept\r\n")
	s.tellExists(c.Conn)
	s.tellRecent(c.Conn)
	if i, ok := v.FirstUnseen(); ok && !c.Conn.enabled.rev2 {
		w.Raw("* OK [UNSEEN ")
		w.Number(uint32(i + 1))
		w.Raw("] First unseen\r\n")
	}
	w.Raw("* OK [UIDVALIDITY ")
	w.Number(uint32(v.UIDValidity()))
	w.Raw("] UIDs valid\r\n* OK [UIDNEXT ")
	w.Number(uint32(v.UIDNext()))
	w.Raw("] Predicted next UID\r\n")
	if c.Conn.srv.features.Has(FeatureHistory) {
		w.Raw("* OK [HIGHESTMODSEQ ")
		w.ModSeq(max(v.HighestModSeq(), 1))
		w.Raw("] Highest\r\n")
	}
	if id := s.box.ID(); id != "" && c.Conn.srv.features.Has(FeatureObjectID) {
		w.Raw("* OK [MAILBOXID (" + string(id) + ")] Ok\r\n")
	}
	if c.Conn.enabled.rev2 {
		return c.listSelected(ctx, s.name)
	}
	return nil
}

// writeFlags sends the FLAGS response.
func (c *Conn) writeFlags(s *selection) {
	c.enc.Raw("* FLAGS ")
	c.enc.FlagList(append(systemFlags(), s.latest.Keywords()...))
	c.enc.CRLF()
}

func (c *Conn) writePermanentFlags(s *selection) {
	var flags []imap.Flag
	if !s.readOnly {
		var more bool
		if flags, more = s.box.PermanentFlags(); more {
			flags = append(flags[:len(flags):len(flags)], imap.FlagAny)
		}
	}
	c.enc.FlagList(flags)
}

func systemFlags() []imap.Flag {
	return []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
}

// unselect leaves the selected mailbox.
func (c *Conn) unselect(ctx context.Context) {
	if c.sel == nil {
		return
	}
	name := c.sel.name
	c.poller.Store(nil)
	c.sel.close(c)
	c.sel = nil
	if hook := c.srv.opts.Hooks.Unselected; hook != nil {
		hook(ctx, c, name)
	}
}

// closeCommand is CLOSE (RFC 9051 section 6.4.1): expunge without telling, and
// leave.
func closeCommand() *Command {
	return &Command{Name: "CLOSE", States: Selected, Parse: func(c *Call, _ *imapwire.Decoder) Run {
		return func(ctx context.Context) error {
			if sel := c.Conn.sel; !sel.readOnly {
				if err := c.expungeQuietly(ctx, sel); err != nil {
					return err
				}
			}
			c.Conn.unselect(ctx)
			c.Conn.noteState()
			return nil
		}
	}}
}

// expungeQuietly expunges. The client is not told the mod-sequence that this
// has led to: RFC 7162 section 3.2.8 forbids it.
func (c *Call) expungeQuietly(ctx context.Context, sel *selection) error {
	err := sel.box.Expunge(ctx, nil)
	if errors.Is(err, imap.Cannot) || errors.Is(err, imap.NoPermission) || errors.Is(err, imap.NotFound) {
		return nil // nothing here can be expunged; leaving is possible all the same
	}
	return err
}

// unselect is RFC 3691: leave without expunging.
func unselect() *Extension {
	return &Extension{
		Name: "UNSELECT", RFC: "3691",
		Capabilities: []Capability{{Name: "UNSELECT"}},
		Commands: []*Command{{Name: "UNSELECT", States: Selected, Parse: func(c *Call, _ *imapwire.Decoder) Run {
			return func(ctx context.Context) error {
				c.Conn.unselect(ctx)
				c.Conn.noteState()
				return nil
			}
		}}},
	}
}
