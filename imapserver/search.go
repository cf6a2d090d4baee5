package imapserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// SearchMessage is a message that a search key looks at by its index entry. It
// is valid until the function that it was given to returns.
type SearchMessage struct {
	Seq  imap.SeqNum
	Row  mailindex.Row
	View *mailindex.Snapshot
	from *searcher
}

// Context returns the context of the command.
func (m *SearchMessage) Context() context.Context { return m.from.ctx }

// Conn returns the connection; its User is whose message it is.
func (m *SearchMessage) Conn() *Conn { return m.from.c.Conn }

// MailboxName returns the name of the message's mailbox, in UTF-8.
func (m *SearchMessage) MailboxName() string { return m.from.sel.name }

// Fail ends the search with an error: for a key that has to look something up
// and cannot. What the key returns then does not matter.
func (m *SearchMessage) Fail(err error) { m.from.err = cmp.Or(m.from.err, err) }

// SearchOptions are the return options of one SEARCH.
type SearchOptions struct {
	Returns []*SearchReturn
	Save    bool

	extended bool // RETURN was given
}

// SearchResult is what a SEARCH has found.
type SearchResult struct {
	Positions []int // in the session's view, ascending
	UID       bool  // numbers are UIDs
	ModSeq    imap.ModSeq
	sel       *selection
}

// Number returns the i-th result as the client wants it.
func (r *SearchResult) Number(i int) uint32 {
	if r.UID {
		return uint32(r.sel.view.UID(r.Positions[i]))
	}
	return uint32(r.Positions[i] + 1)
}

// searchCommand is SEARCH and UID SEARCH (RFC 9051 section 6.4.4).
func searchCommand() *Command {
	return &Command{Name: "SEARCH", Args: `[SP "RETURN" SP "(" [options] ")"] [SP "CHARSET" SP charset] 1*(SP search-key)`,
		States: Selected, UID: true, KeepSeq: true, Parse: parseSearch}
}

func parseSearch(c *Call, d *imapwire.Decoder) Run {
	var opts SearchOptions
	p := searchParser{c: c, d: d}
	d.SP()
	var program Matcher
	word := p.word()
	if word == "RETURN" {
		d.SP()
		c.parseSearchReturns(d, &opts)
		d.SP()
		word = p.word()
	}
	if word == "CHARSET" {
		d.SP()
		p.charset = d.Astring()
		d.SP()
		word = p.word()
	}
	program = p.sequence(word)
	return func(ctx context.Context) error {
		if n := c.Conn.sel.view.Len(); int64(p.highest) > int64(n) {
			return bad("There is no message %d; the mailbox has %d", p.highest, n)
		}
		if p.charset != "" && c.Conn.enabled.utf8 {
			return bad("Everything is UTF-8 after ENABLE UTF8=ACCEPT; leave CHARSET away") // RFC 9755 section 3
		}
		if p.charset != "" && !message.KnownCharset(p.charset) {
			c.saveNothing(&opts)
			return &imap.Error{Kind: imap.BadCharset, Code: "BADCHARSET (UTF-8 US-ASCII)", Text: "Unknown charset " + quoteArg(p.charset)}
		}
		return c.search(ctx, program, &opts)
	}
}

// parseSearchReturns reads RETURN's list (RFC 4731, RFC 9051).
func (c *Call) parseSearchReturns(d *imapwire.Decoder, opts *SearchOptions) {
	opts.extended = true
	d.List(func() {
		r, ok := oneOf(d, "return option of SEARCH", c.Conn.srv.reg.searchReturns)
		if !ok {
			return
		}
		if r.Parse != nil {
			r.Parse(c, d, opts)
		}
		if !slices.Contains(opts.Returns, r) {
			opts.Returns = append(opts.Returns, r)
		}
	})
	if len(opts.Returns) == 0 {
		opts.Returns = []*SearchReturn{c.Conn.srv.reg.searchReturns["ALL"]}
	}
}

// search runs a program and answers.
func (c *Call) search(ctx context.Context, program Matcher, opts *SearchOptions) error {
	sel := c.Conn.sel
	s := searcher{ctx: ctx, c: c, sel: sel, program: program}
	positions, err := s.run(ctx)
	if err != nil {
		c.saveNothing(opts)
		return err
	}
	res := &SearchResult{Positions: positions, UID: c.UID, sel: sel}
	if c.searchModSeq {
		res.ModSeq = highestOf(sel.view, positions)
	}
	switch {
	case s.unreadable != nil:
		c.saveNothing(opts)
	case opts.Save:
		sel.saved = s.uids(c.savedPart(positions, opts))
	}
	if opts.extended || c.Conn.enabled.rev2 {
		c.writeESearch(res, opts)
	} else {
		c.writeSearch(res)
	}
	return s.unreadable
}

// writeSearch writes the SEARCH response of RFC 3501, with RFC 7162's MODSEQ.
func (c *Call) writeSearch(r *SearchResult) {
	w := c.Writer()
	w.Raw("* SEARCH")
	for i := range r.Positions {
		w.SP()
		w.Number(r.Number(i))
	}
	if r.ModSeq > 0 {
		w.Raw(" (MODSEQ ")
		w.ModSeq(r.ModSeq)
		w.Raw(")")
	}
	w.CRLF()
}

// searchParser reads search keys.
type searchParser struct {
	c       *Call
	d       *imapwire.Decoder
	charset string
	keys    int
	highest uint32 // sequence number named
}

// word reads the name of a key; "(" and what begins a sequence set are left to
// key, and give "".
func (p *searchParser) word() string {
	switch c := p.d.Peek(); {
	case c == '(' || c == '*' || c == '$' || '0' <= c && c <= '9':
		return ""
	}
	return p.d.KeywordOf(func() string { return choice("search key", p.c.Conn.srv.reg.searchKeys) })
}

// sequence reads keys up to the line's end, the first of which has been read
// as far as its name: all must match.
func (p *searchParser) sequence(first string) Matcher {
	var all matcherList
	all.add(p.key(first))
	for p.d.Err() == nil && p.d.TrySP() {
		all.add(p.key(p.word()))
	}
	return and(all)
}

// key reads one key.
func (p *searchParser) key(word string) Matcher {
	d := p.d
	if p.keys++; p.keys > p.c.Conn.srv.limits.SearchKeys {
		d.Fail("a search with fewer keys", "")
	}
	if d.Err() != nil || !d.Enter() {
		return Matcher{}
	}
	defer d.Leave()
	switch {
	case word == "" && d.Peek() == '(':
		var all matcherList
		d.NonEmptyList(func() { all.add(p.key(p.word())) })
		return and(all)
	case word == "":
		set, saved := d.NumSet()
		for _, r := range set {
			p.highest = max(p.highest, r.Start, r.Stop)
		}
		return p.c.setKey(set, saved, false)
	case word == "NOT":
		d.SP()
		return not(p.key(p.word()))
	case word == "OR":
		d.SP()
		a := p.key(p.word())
		d.SP()
		return or(a, p.key(p.word()))
	}
	k := p.c.Conn.srv.reg.searchKeys[word]
	if k == nil {
		d.Fail(choice("search key", p.c.Conn.srv.reg.searchKeys), word)
		return Matcher{}
	}
	p.c.charset = p.charset
	m := k.Parse(p.c, d)
	if d.Err() == nil && !m.decides() {
		p.c.misuse = fmt.Errorf("the Parse of search key %s has returned a Matcher without Row and Match", word)
	}
	return m
}

// text reads a string to search for and folds it. In a charset other than
// UTF-8 it is converted first (RFC 9051 section 6.4.4).
func (c *Call) searchText(d *imapwire.Decoder) []byte {
	s := d.Astring()
	if c.charset != "" && !strings.EqualFold(c.charset, "UTF-8") {
		if decoded, ok := message.DecodeCharset(c.charset, []byte(s)); ok {
			s = decoded
		}
	}
	return message.Fold(nil, s)
}

// setKey matches messages in a set.
func (c *Call) setKey(set imap.NumSet, saved, uid bool) Matcher {
	sel := c.Conn.sel
	switch {
	case saved:
		return uidMatcher(sel.saved)
	case uid:
		return uidMatcher(set.Resolve(uint32(sel.view.LastUID())))
	}
	return seqMatcher(set.ResolveSeq(uint32(sel.view.Len())))
}
