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

	patterns listPatterns
}

// listPatterns are the patterns of a LIST.
type listPatterns struct {
	reference string
	texts     []string // without the reference, as far as they are allowed
	given     int      // how many there are
	octets    int      // of all, each with the reference
}

// maxPatternOctets bounds the patterns of one LIST, together and each with the
// reference: what a LIST costs is their length times that of all mailbox names.
const maxPatternOctets = 8 << 10

// add notes a pattern. Those beyond the limits are counted only.
func (p *listPatterns) add(text string, limit int) {
	p.given++
	p.octets += len(p.reference) + len(text)
	if p.given <= limit && p.octets <= maxPatternOctets {
		p.texts = append(p.texts, text)
	}
}

// compile makes the patterns ready, unless there are too many.
func (p *listPatterns) compile(sep rune, limit int) (*imap.MailboxPatterns, error) {
	switch {
	case p.given > limit:
		return nil, &imap.Error{Kind: imap.Limit, Text: "Too many patterns in one LIST; the limit is " + decimal(int64(limit))}
	case p.octets > maxPatternOctets:
		return nil, &imap.Error{Kind: imap.Limit, Text: "The patterns of one LIST are too long; the limit is " + decimal(maxPatternOctets) +
			" octets for all together, each with the reference"}
	}
	full := make([]string, len(p.texts))
	for i, text := range p.texts {
		full[i] = p.reference + text
	}
	return imap.NewMailboxPatterns(sep, full...), nil
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
	limit := c.Conn.srv.limits.ListPatterns
	opts.patterns.reference = d.Mailbox()
	d.SP()
	if d.Peek() == '(' {
		extended = true
		d.NonEmptyList(func() { opts.patterns.add(d.ListMailbox(), limit) })
	} else {
		opts.patterns.add(d.ListMailbox(), limit)
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
		patterns, err := opts.patterns.compile(c.Account().Separator(), limit)
		if err != nil {
			return err
		}
		if !extended && opts.patterns.texts[0] == "" {
			return c.listRoot()
		}
		return c.list(ctx, patterns, &opts)
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
		case slices.Contains(opts.Selects, o): // said before
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
func (c *Call) list(ctx context.Context, patterns *imap.MailboxPatterns, opts *ListOptions) error {
	entries, err := c.listEntries(ctx)
	if err != nil {
		return err
	}
	below := opts.matchesBelow(entries, c.Account().Separator())
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &entries[i]
		if !patterns.Match(e.Name) || !opts.selects(e, below) {
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

// matchesBelow returns, for RECURSIVEMATCH, the names of mailboxes that have
// mailboxes below that the selection options let through.
func (o *ListOptions) matchesBelow(entries []ListEntry, sep rune) map[string]bool {
	if !o.Recursive {
		return nil
	}
	below := map[string]bool{}
	for i := range entries {
		if !o.matches(&entries[i]) {
			continue
		}
		// Of a name that is there already those above are there as well.
		for p := imap.MailboxParent(entries[i].Name, sep); p != "" && !below[p]; p = imap.MailboxParent(p, sep) {
			below[p] = true
		}
	}
	return below
}

// selects reports whether the selection options let an entry through, and notes
// which options mailboxes below it match.
func (o *ListOptions) selects(e *ListEntry, below map[string]bool) bool {
	if !below[e.Name] {
		return o.matches(e)
	}
	for _, s := range o.Selects {
		e.ChildInfo = append(e.ChildInfo, s.Name)
	}
	return true
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
			if entries[j].HasChildren {
				break // so have those above it
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
		patterns := listPatterns{reference: reference}
		patterns.add(d.ListMailbox(), 1)
		return func(ctx context.Context) error {
			pattern, err := patterns.compile(c.Account().Separator(), 1)
			if err != nil {
				return err
			}
			return c.lsub(ctx, pattern, strings.HasSuffix(reference+patterns.texts[0], "%"))
		}
	}}
}

// lsub lists subscriptions. With "%" at its end (above) a name that is not subscribed to itself,
// but has subscriptions below that the pattern does not reach, is listed with
// \Noselect.
func (c *Call) lsub(ctx context.Context, pattern *imap.MailboxPatterns, above bool) error {
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
		if err := ctx.Err(); err != nil {
			return err
		}
		if pattern.Match(b.Name) {
			add(b.Name, true)
		} else if above {
			pattern.MatchAbove(b.Name, func(parent string) { add(parent, false) })
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
