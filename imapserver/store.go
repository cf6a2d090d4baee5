package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// storeCommand is STORE and UID STORE (RFC 9051 section 6.4.6).
func storeCommand() *Command {
	return &Command{Name: "STORE", Args: `SP sequence-set [SP "(" modifiers ")"] SP ["+" / "-"] "FLAGS" [".SILENT"] SP flags`,
		States: Selected, UID: true, KeepSeq: true, Parse: parseStore}
}

// StoreOptions are what one STORE asks for. The request's UIDs are known when it
// runs, its Op behind the modifiers.
type StoreOptions struct {
	StoreRequest
	// Before is called in order before anything is changed, unless the STORE is
	// refused or names no messages. It may take UIDs out of the request, and add
	// flags. An error is the command's.
	Before []func(ctx context.Context, c *Call, req *StoreRequest) error
	// After is called in order when the change is durable. The request's UIDs are
	// those that were changed; res has the others. An error is the command's; what
	// has changed is told all the same.
	After []func(ctx context.Context, c *Call, req *StoreRequest, res *StoreResult) error
}

func parseStore(c *Call, d *imapwire.Decoder) Run {
	var opts StoreOptions
	req := &opts.StoreRequest
	d.SP()
	set, saved := d.NumSet()
	d.SP()
	if d.Peek() == '(' {
		d.NonEmptyList(func() {
			if m, ok := oneOf(d, "modifier of STORE", c.Conn.srv.reg.storeMods); ok {
				m.Parse(c, d, &opts)
			}
		})
		d.SP()
	}
	silent := false
	const ops = "FLAGS, +FLAGS or -FLAGS, perhaps with .SILENT"
	switch word := keyword(d, ops); word {
	case "FLAGS", "FLAGS.SILENT":
		req.Op, silent = FlagsReplace, word != "FLAGS"
	case "+FLAGS", "+FLAGS.SILENT":
		req.Op, silent = FlagsAdd, word != "+FLAGS"
	case "-FLAGS", "-FLAGS.SILENT":
		req.Op, silent = FlagsRemove, word != "-FLAGS"
	default:
		d.Fail(ops, word)
	}
	d.SP()
	req.Flags = append(req.Flags, d.Flags()...) // behind what modifiers have put there
	return func(ctx context.Context) error {
		sel := c.Conn.sel
		if sel.readOnly {
			return errReadOnly
		}
		var err error
		if req.UIDs, err = sel.resolve(set, saved, c.UID); err != nil {
			return err
		}
		return c.store(ctx, &opts, silent)
	}
}

func (c *Call) store(ctx context.Context, opts *StoreOptions, silent bool) error {
	req := &opts.StoreRequest
	if req.UIDs.IsEmpty() {
		return nil
	}
	for _, before := range opts.Before {
		if err := before(ctx, c, req); err != nil {
			return err
		}
	}
	if req.UIDs.IsEmpty() { // none is left
		return nil
	}
	if err := checkFlags(req.Flags); err != nil {
		return err
	}
	res, err := c.Conn.sel.box.Store(ctx, req)
	if err != nil {
		return err
	}
	// What could not be stored is not reported as if it had been.
	req.UIDs = req.UIDs.Subtract(res.Modified).Subtract(res.Missing)
	c.stored = &storeReport{req: req, modseq: res.ModSeq, silent: silent, uid: c.UID}
	for _, after := range opts.After {
		if err := after(ctx, c, req, res); err != nil {
			return err
		}
	}
	switch {
	case !res.Modified.IsEmpty():
		return c.notModified(req, res, silent)
	case !res.Missing.IsEmpty() && !c.UID && !silent:
		// RFC 2180 section 4.2.2: the messages that exist have been changed.
		return &imap.Error{Kind: imap.ExpungeIssued, Text: "Some of the messages have been expunged"}
	}
	return nil
}

// notModified answers a conditional STORE that left messages out (RFC 7162
// section 3.1.3). The reply is OK all the same, unless a message is gone.
func (c *Call) notModified(req *StoreRequest, res *StoreResult, silent bool) error {
	code := "MODIFIED " + c.Conn.sel.number(res.Modified, c.UID)
	if !res.Missing.IsEmpty() && !c.UID && !silent {
		return imap.No(code, "Some of the messages have been changed or expunged meanwhile")
	}
	c.OK(code, "Some of the messages have been changed meanwhile")
	return nil
}

// number writes UIDs as this session numbers them.
func (s *selection) number(uids imap.UIDSet, uid bool) string {
	if uid {
		return uids.String()
	}
	var set imap.SeqSet
	for u := range uids.All() {
		if pos, ok := s.view.Find(u); ok {
			set.Add(imap.SeqNum(pos + 1))
		}
	}
	return set.String()
}

// checkFlags refuses flags that no client may set: \Recent, and flags with a
// backslash that no standard has.
func checkFlags(flags []imap.Flag) error {
	for _, f := range flags {
		if !f.Valid() || imap.EqualFlag(f, imap.FlagRecent) {
			return bad("The flag %s cannot be set; keywords can, and \\Seen, \\Answered, \\Flagged, \\Deleted and \\Draft", quoteArg(string(f)))
		}
	}
	return nil
}
