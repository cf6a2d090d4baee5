package imapserver

import (
	"context"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// ListEntry is a mailbox as LIST sees it.
type ListEntry struct {
	MailboxInfo
	HasChildren bool
	// ChildInfo names the selection options that mailboxes below match, which
	// the pattern does not show (RFC 5258 section 4).
	ChildInfo []string
	OldName   string // RFC 9051 section 6.3.9.7
	implied   bool   // a parent that does not exist itself
}

// ListOptions are what one LIST asks for.
type ListOptions struct {
	Selects   []*ListSelect
	Recursive bool
	Returns   []*ListReturn
	Status    []*StatusItem // of RETURN (STATUS ...)

	patterns []string
}

// wants reports whether a return option was given.
func (o *ListOptions) wants(name string) bool {
	return o != nil && slices.ContainsFunc(o.Returns, func(r *ListReturn) bool { return r.Name == name })
}

// listCommand is LIST with all its forms (RFC 9051 section 6.3.9, RFC 5258).
func listCommand() *Command {
	return &Command{Name: "LIST", Args: `SP ["(" [selection options] ")" SP] mailbox SP mbox-or-pat [SP "RETURN" SP "(" [return options] ")"]`,
		States: LoggedIn, Parse: parseList}
}

func parseList(c *Call, d *imapwire.Decoder) Run {
	var opts ListOptions
	d.SP()
	extended := d.Peek() == '('
	if extended {
		c.parseListSelects(d, &opts)
		d.SP()
	}
	reference := d.Mailbox()
	d.SP()
	if d.Peek() == '(' {
		extended = true
		d.NonEmptyList(func() { opts.patterns = append(opts.patterns, d.ListMailbox()) })
	} else {
		opts.patterns = []string{d.ListMailbox()}
	}
	if d.TrySP() {
		extended = true
		if word := keyword(d, "RETURN"); d.Err() == nil && word != "RETURN" {
			d.Fail("RETURN", word)
		}
		d.SP()
		c.parseListReturns(d, &opts)
	}
	return func(ctx context.Context) error {
		if !extended && opts.patterns[0] == "" {
			return c.listRoot()
		}
		for i, p := range opts.patterns {
			opts.patterns[i] = reference + p
		}
		return c.list(ctx, &opts)
	}
}

// parseListSelects reads selection options (RFC 5258 section 3.1).
func (c *Call) parseListSelects(d *imapwire.Decoder, opts *ListOptions) {
	reg := c.Conn.srv.reg
	d.List(func() {
		o, ok := oneOf(d, "selection option of LIST", reg.listSelects)
		switch {
		case !ok:
		case o.Name == "RECURSIVEMATCH":
			opts.Recursive = true
		default:
			opts.Selects = append(opts.Selects, o)
			if r := reg.listReturns[o.Implies]; r != nil && !opts.wants(r.Name) {
				opts.Returns = append(opts.Returns, r)
			}
		}
	})
	if opts.Recursive && !slices.ContainsFunc(opts.Selects, func(o *ListSelect) bool { return !o.Modifier }) {
		d.Fail("RECURSIVEMATCH together with an option such as SUBSCRIBED", "it alone")
	}
}

// parseListReturns reads return options (RFC 5258 section 3.2).
func (c *Call) parseListReturns(d *imapwire.Decoder, opts *ListOptions) {
	d.List(func() {
		r, ok := oneOf(d, "return option of LIST", c.Conn.srv.reg.listReturns)
		if !ok {
			return
		}
		if r.Parse != nil {
			r.Parse(c, d, opts)
		}
		if !opts.wants(r.Name) {
			opts.Returns = append(opts.Returns, r)
		}
	})
}

// listRoot answers LIST with an empty pattern: it asks for the separator.
func (c *Call) listRoot() error {
	w := c.Writer()
	w.Raw(`* LIST (\Noselect) `)
	c.writeSeparator()
	w.Raw(" \"\"\r\n")
	return nil
}

// list writes the LIST responses.
func (c *Call) list(ctx context.Context, opts *ListOptions) error {
	sep := c.Account().Separator()
	entries, err := c.listEntries(ctx)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		if !matchAny(opts.patterns, e.Name, sep) || !opts.selects(e, entries[i+1:], sep) {
			continue
		}
		c.writeList("LIST", e, opts)
		for _, r := range opts.Returns {
			if r.After != nil {
				if err := r.After(ctx, c, e, opts); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// selects reports whether the selection options let an entry through; below
// are the entries behind it in the order of names, its children among them.
func (o *ListOptions) selects(e *ListEntry, below []ListEntry, sep rune) bool {
	if o.matches(e) {
		if o.Recursive {
			o.addChildInfo(e, below, sep)
		}
		return true
	}
	return o.Recursive && o.addChildInfo(e, below, sep)
}

func (o *ListOptions) matches(e *ListEntry) bool {
	if len(o.Selects) == 0 {
		return !e.Missing
	}
	for _, s := range o.Selects {
		if s.Match != nil && !s.Match(e) {
			return false
		}
	}
	return true
}

// addChildInfo notes which options the mailboxes below e match, and reports
// whether any does.
func (o *ListOptions) addChildInfo(e *ListEntry, below []ListEntry, sep rune) bool {
	if sep == 0 {
		return false
	}
	prefix := e.Name + string(sep)
	for i := range below {
		child := &below[i]
		if strings.HasPrefix(child.Name, prefix) && o.matches(child) {
			for _, s := range o.Selects {
				if !slices.Contains(e.ChildInfo, s.Name) {
					e.ChildInfo = append(e.ChildInfo, s.Name)
				}
			}
			return true
		}
	}
	return false
}

func matchAny(patterns []string, name string, sep rune) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return imap.MatchMailbox(p, name, sep) })
}

// listEntries returns all mailboxes, parents that only their children imply
// among them, sorted by name.
func (c *Call) listEntries(ctx context.Context) ([]ListEntry, error) {
	boxes, err := c.Account().Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	sep := c.Account().Separator()
	known := make(map[string]int, len(boxes))
	entries := make([]ListEntry, 0, len(boxes)+4)
	for _, b := range boxes {
		known[b.Name] = len(entries)
		entries = append(entries, ListEntry{MailboxInfo: b})
	}
	for i := range boxes {
		if boxes[i].Missing {
			continue
		}
		for p := imap.MailboxParent(boxes[i].Name, sep); p != ""; p = imap.MailboxParent(p, sep) {
			j, ok := known[p]
			if !ok {
				j = len(entries)
				known[p] = j
				entries = append(entries, ListEntry{MailboxInfo: MailboxInfo{Name: p, NoSelect: true}, implied: true})
			}
			if entries[j].Missing { // subscribed to, and there as a parent
				entries[j].Missing, entries[j].NoSelect, entries[j].implied = false, true, true
			}
			entries[j].HasChildren = true
		}
	}
	slices.SortFunc(entries, func(a, b ListEntry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// listEntry returns the entry of one mailbox.
func (c *Call) listEntry(ctx context.Context, name string) (*ListEntry, error) {
	entries, err := c.listEntries(ctx)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].Name == name {
			return &entries[i], nil
		}
	}
	return nil, imap.E("list "+name, imap.NotFound, nil)
}

// listSelected sends the LIST response of a SELECT under IMAP4rev2 (RFC 9051
// section 6.3.2).
func (c *Call) listSelected(ctx context.Context, name string) error {
	e, err := c.listEntry(ctx, name)
	if err != nil {
		return err
	}
	if typed := c.typedName; typed != "" && typed != name {
		e.OldName = typed
	}
	c.writeList("LIST", e, nil)
	return nil
}

// writeList writes one LIST or LSUB response.
func (c *Call) writeList(response string, e *ListEntry, opts *ListOptions) {
	w := c.Writer()
	w.Raw("* " + response + " (")
	w.Raw(joinAttrs(c.listAttrs(e, opts)))
	w.Raw(") ")
	c.writeSeparator()
	w.SP()
	w.Mailbox(e.Name)
	if len(e.ChildInfo) > 0 {
		w.Raw(` ("CHILDINFO" ("` + strings.Join(e.ChildInfo, `" "`) + `"))`)
	}
	if e.OldName != "" {
		w.Raw(` ("OLDNAME" (`)
		w.Mailbox(e.OldName)
		w.Raw("))")
	}
	w.CRLF()
}

// listAttrs returns the attributes of an entry.
func (c *Call) listAttrs(e *ListEntry, opts *ListOptions) []imap.MailboxAttr {
	var attrs []imap.MailboxAttr
	switch {
	case e.Missing || e.implied && c.Conn.enabled.rev2:
		attrs = append(attrs, imap.AttrNonExistent)
	case e.NoSelect:
		attrs = append(attrs, imap.AttrNoselect)
	}
	switch {
	case e.HasChildren:
		attrs = append(attrs, imap.AttrHasChildren)
	case e.NoInferior:
		attrs = append(attrs, imap.AttrNoinferiors)
	default:
		attrs = append(attrs, imap.AttrHasNoChildren)
	}
	if e.Subscribed && opts.wants("SUBSCRIBED") {
		attrs = append(attrs, imap.AttrSubscribed)
	}
	attrs = append(attrs, e.Attrs...)
	return append(attrs, e.SpecialUse...)
}

func joinAttrs(attrs []imap.MailboxAttr) string {
	words := make([]string, len(attrs))
	for i, a := range attrs {
		words[i] = string(a)
	}
	return strings.Join(words, " ")
}

// lsubCommand is LSUB (RFC 3501 section 6.3.9).
func lsubCommand() *Command {
	return &Command{Name: "LSUB", Args: "SP mailbox SP list-mailbox", States: LoggedIn, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		reference := d.Mailbox()
		d.SP()
		pattern := reference + d.ListMailbox()
		return func(ctx context.Context) error { return c.lsub(ctx, pattern) }
	}}
}

// lsub lists subscriptions. With "%" a name that is not subscribed to itself,
// but has subscriptions below that the pattern does not reach, is listed with
// \Noselect.
func (c *Call) lsub(ctx context.Context, pattern string) error {
	sep := c.Account().Separator()
	boxes, err := c.Account().Mailboxes(ctx)
	if err != nil {
		return err
	}
	subscribed := map[string]bool{}
	names := []string{}
	add := func(name string, is bool) {
		if _, seen := subscribed[name]; !seen {
			names = append(names, name)
		}
		subscribed[name] = subscribed[name] || is
	}
	for _, b := range boxes {
		if !b.Subscribed {
			continue
		}
		if imap.MatchMailbox(pattern, b.Name, sep) {
			add(b.Name, true)
		} else if strings.HasSuffix(pattern, "%") {
			for p := imap.MailboxParent(b.Name, sep); p != ""; p = imap.MailboxParent(p, sep) {
				if imap.MatchMailbox(pattern, p, sep) {
					add(p, false)
				}
			}
		}
	}
	slices.Sort(names)
	w := c.Writer()
	for _, name := range names {
		w.Raw("* LSUB (")
		if !subscribed[name] {
			w.Raw(string(imap.AttrNoselect))
		}
		w.Raw(") ")
		c.writeSeparator()
		w.SP()
		w.Mailbox(name)
		w.CRLF()
	}
	return nil
}
