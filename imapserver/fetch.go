package imapserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
)

// FetchOptions are what one FETCH asks for.
type FetchOptions struct {
	Atts []*FetchAtt
	// Keep leaves out rows for which it is false; nil keeps all.
	Keep func(mailindex.Row) bool
	// Before is called in order before the first FETCH response. set is what the
	// client gave: UIDs in UID FETCH (Call.UID), which need not exist, else
	// sequence numbers, and empty for "$". An error is the command's.
	Before []func(ctx context.Context, c *Call, set imap.NumSet) error

	Since imap.ModSeq // of CHANGEDSINCE; 0 where it was not given

	inList bool // while the list of items is read
	tookSP bool // the item has read the space behind it
}

// FetchMessage is a message that FETCH writes. *Message has what the items'
// Need asked for; it is nil where they need nothing. It is valid until the
// function that it was given to returns.
type FetchMessage struct {
	*Message
	Seq  imap.SeqNum
	Row  mailindex.Row
	from *fetcher
}

// Context returns the context of the command.
func (m *FetchMessage) Context() context.Context { return m.from.ctx }

// Conn returns the connection; its User is whose message it is.
func (m *FetchMessage) Conn() *Conn { return m.from.c.Conn }

// MailboxName returns the name of the message's mailbox, in UTF-8.
func (m *FetchMessage) MailboxName() string { return m.from.sel.name }

// fetchCommand is FETCH and UID FETCH (RFC 9051 section 6.4.5).
func fetchCommand() *Command {
	return &Command{Name: "FETCH", Args: `SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")") [SP "(" modifiers ")"]`,
		States: Selected, UID: true, KeepSeq: true, Parse: parseFetch}
}

func parseFetch(c *Call, d *imapwire.Decoder) Run {
	var opts FetchOptions
	d.SP()
	set, saved := d.NumSet()
	d.SP()
	if d.Peek() == '(' {
		c.parseFetchAtts(d, &opts)
	} else {
		word := c.fetchWord(d)
		if macro := fetchMacro(word); macro != nil {
			for _, name := range macro {
				c.parseFetchAtt(d, &opts, name)
			}
		} else {
			c.parseFetchAtt(d, &opts, word)
		}
	}
	for d.Err() == nil && d.TrySP() {
		d.NonEmptyList(func() {
			if m, ok := oneOf(d, "modifier of FETCH", c.Conn.srv.reg.fetchMods); ok {
				m.Parse(c, d, &opts)
			}
		})
	}
	return func(ctx context.Context) error { return c.fetch(ctx, set, saved, &opts) }
}

// parseFetchAtts reads a list of items.
func (c *Call) parseFetchAtts(d *imapwire.Decoder, opts *FetchOptions) {
	d.Byte('(')
	opts.inList = true
	for d.Err() == nil {
		c.parseFetchAtt(d, opts, c.fetchWord(d))
		if opts.tookSP {
			opts.tookSP = false
			continue
		}
		if d.TryByte(')') {
			return
		}
		d.SP()
	}
}

// maxFetchAtts bounds the items of one FETCH: each may be a whole message, and
// a few octets of a command ask for it.
const maxFetchAtts = 1000

// fetchMacro returns the items that a macro stands for.
func fetchMacro(word string) []string {
	switch word {
	case "ALL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"}
	case "FAST":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
	case "FULL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"}
	}
	return nil
}

// fetchWord reads the name of an item or a macro.
func (c *Call) fetchWord(d *imapwire.Decoder) string {
	return d.KeywordOf(func() string { return choice("FETCH item", c.Conn.srv.reg.fetchItems) })
}

// parseFetchAtt reads what follows the name of an item.
func (c *Call) parseFetchAtt(d *imapwire.Decoder, opts *FetchOptions, word string) {
	if d.Err() != nil {
		return
	}
	item := c.Conn.srv.reg.fetchItems[word]
	if item == nil {
		d.Fail(choice("FETCH item", c.Conn.srv.reg.fetchItems), word)
		return
	}
	att := item.Att
	if item.Parse != nil {
		var err error
		if att, err = item.Parse(c, d, opts); err != nil {
			d.Fail(err.Error(), word)
		}
	}
	if d.Err() == nil && (att == nil || att.Write == nil) {
		c.misuse = fmt.Errorf("the Parse of FETCH item %s has returned nothing to write", word)
		return
	}
	if d.Err() != nil || opts.has(att) {
		return
	}
	if opts.Atts = append(opts.Atts, att); len(opts.Atts) > maxFetchAtts {
		d.Fail("fewer items", "more than "+decimal(maxFetchAtts))
	}
}

// has reports whether an item is asked for already. What sets \Seen in one of
// its forms does so then, whichever form came first.
func (o *FetchOptions) has(att *FetchAtt) bool {
	for i, a := range o.Atts {
		switch {
		case a == att:
			return true
		case a.sent != "" && a.sent == att.sent:
			if att.Seen {
				o.Atts[i] = att
			}
			return true
		}
	}
	return false
}

// fetch answers a FETCH.
func (c *Call) fetch(ctx context.Context, set imap.NumSet, saved bool, opts *FetchOptions) error {
	sel := c.Conn.sel
	uids, err := sel.resolve(set, saved, c.UID)
	if err != nil {
		return err
	}
	for _, a := range opts.Atts {
		if a.Enables != nil {
			a.Enables(c.Conn)
		}
	}
	for _, before := range opts.Before {
		if err := before(ctx, c, set); err != nil {
			return err
		}
	}
	if c.UID && !slices.Contains(opts.Atts, c.att("UID")) {
		opts.Atts = append([]*FetchAtt{c.att("UID")}, opts.Atts...)
	}
	newlySeen, err := c.markSeen(ctx, uids, opts)
	if err != nil {
		return err
	}
	f := fetcher{ctx: ctx, c: c, sel: sel, opts: opts, seen: newlySeen}
	f.flags, f.modseq = c.att("FLAGS"), c.att("MODSEQ")
	for _, a := range opts.Atts {
		f.need |= a.Need
	}
	if f.need&NeedBody != 0 {
		f.need |= NeedSound
	}
	write := f.writeMessages
	if f.need == 0 {
		write = f.writeRows
	}
	if err := write(ctx, uids); err != nil {
		return err
	}
	return f.unreadable
}

// att returns the item of a name that has no arguments.
func (c *Call) att(name string) *FetchAtt {
	if item := c.Conn.srv.reg.fetchItems[name]; item != nil {
		return item.Att
	}
	return nil
}

// markSeen sets \Seen where the items ask for it and returns the messages that
// got it by that.
func (c *Call) markSeen(ctx context.Context, uids imap.UIDSet, opts *FetchOptions) (imap.UIDSet, error) {
	var unseen imap.UIDSet
	sel := c.Conn.sel
	if sel.readOnly || !slices.ContainsFunc(opts.Atts, func(a *FetchAtt) bool { return a.Seen }) || !sel.canStore(imap.FlagSeen) {
		return unseen, nil
	}
	// Another session may have taken \Seen away since this one was told of it,
	// so what counts is how the mailbox is now.
	latest, err := sel.box.Snapshot(ctx)
	if err != nil {
		return unseen, err
	}
	for p, i := range rowsOf(latest, uids) {
		if latest.Flags(p.Flags[i]).Bits()&mailindex.BitSeen == 0 && (opts.Keep == nil || opts.Keep(p.Row(i))) {
			unseen.Add(p.UIDs[i])
		}
	}
	if unseen.IsEmpty() {
		return unseen, nil
	}
	req := &StoreRequest{UIDs: unseen, Op: FlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}
	res, err := sel.box.Store(ctx, req)
	if err != nil {
		// The message can be read all the same.
		c.Conn.log().Warn("\\Seen could not be stored", "mailbox", sel.name, "err", err)
		return imap.UIDSet{}, nil
	}
	return unseen.Subtract(res.Missing), sel.flush(ctx, c.Conn, flushKeepSeq,
		&storeReport{req: req, modseq: res.ModSeq, silent: true, quiet: true, uid: c.UID})
}

// canStore reports whether a flag can be changed for good here.
func (s *selection) canStore(flag imap.Flag) bool {
	flags, _ := s.box.PermanentFlags()
	return slices.ContainsFunc(flags, func(f imap.Flag) bool { return imap.EqualFlag(f, flag) })
}

// rowsOf yields the rows of a set of UIDs, as pages and indexes in them.
func rowsOf(v *mailindex.Snapshot, uids imap.UIDSet) iter.Seq2[*mailindex.Page, int] {
	return func(yield func(*mailindex.Page, int) bool) {
		for _, r := range uids.Ranges() {
			from, _ := v.Find(r.Start)
			to, found := v.Find(r.Stop)
			if found {
				to++
			}
			if from >= to {
				continue
			}
			for p := range v.PagesFrom(from) {
				for i := max(from-p.First, 0); i < p.Len() && p.First+i < to; i++ {
					if !yield(p, i) {
						return
					}
				}
				if p.First+p.Len() >= to {
					break
				}
			}
		}
	}
}

// fetcher writes the FETCH responses of one command.
type fetcher struct {
	ctx  context.Context // of the command, for items that look something up
	c    *Call
	sel  *selection
	opts *FetchOptions
	need Need
	seen imap.UIDSet // got \Seen by this command: their FLAGS are told

	flags, modseq *FetchAtt

	fields []byte // the header fields of the message that is written

	unreadable error // the first message that could not be read
}

// writeRows writes responses that need the index only.
func (f *fetcher) writeRows(ctx context.Context, uids imap.UIDSet) error {
	m := FetchMessage{from: f}
	write := func() error { return f.write(&m) }
	if !slices.ContainsFunc(f.opts.Atts, func(a *FetchAtt) bool { return a.row == nil || a.Check != nil }) && f.seen.IsEmpty() {
		response := func(dst []byte) []byte { return f.appendRow(dst, &m) }
		w := f.c.Conn.enc
		write = func() error { w.Append(response); return w.Err() }
	}
	for p, i := range rowsOf(f.sel.view, uids) {
		m.Row, m.Seq = p.Row(i), imap.SeqNum(p.First+i+1)
		if f.opts.Keep != nil && !f.opts.Keep(m.Row) {
			continue
		}
		if err := write(); err != nil {
			return err
		}
		if i == 0 && ctx.Err() != nil { // asked once a page
			return ctx.Err()
		}
	}
	return nil
}

// appendRow appends a response of items that the index alone has.
func (f *fetcher) appendRow(dst []byte, m *FetchMessage) []byte {
	dst = strconv.AppendUint(append(dst, "* "...), uint64(m.Seq), 10)
	dst = append(dst, " FETCH ("...)
	for i, a := range f.opts.Atts {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = a.row(dst, m)
	}
	return append(dst, ")\r\n"...)
}

// fetchBatch is how many rows are asked of the back end at a time, fetchFirst
// how many at first, so that an answer begins soon.
const (
	fetchBatch = 256
	fetchFirst = 16
)

// writeMessages writes responses that need more than the index.
func (f *fetcher) writeMessages(ctx context.Context, uids imap.UIDSet) error {
	most := min(int(uids.Len()), fetchFirst)
	rows := make([]mailindex.Row, 0, most)
	seqs := make([]imap.SeqNum, 0, most)
	flush := func() error {
		defer func() { rows, seqs = rows[:0], seqs[:0] }()
		return f.sel.box.Fetch(ctx, rows, f.need, func(i int, msg *Message) error {
			if msg.Err != nil {
				f.noteUnreadable(rows[i], msg.Err)
				return nil
			}
			return f.write(&FetchMessage{Message: msg, Seq: seqs[i], Row: rows[i], from: f})
		})
	}
	for p, i := range rowsOf(f.sel.view, uids) {
		row := p.Row(i)
		if f.opts.Keep != nil && !f.opts.Keep(row) {
			continue
		}
		rows, seqs = append(rows, row), append(seqs, imap.SeqNum(p.First+i+1))
		if len(rows) == most {
			if err := flush(); err != nil {
				return err
			}
			most = fetchBatch
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return flush()
}

// noteUnreadable remembers that a message was left out. The others are sent
// and the command ends with NO (RFC 2180 section 4.1.2).
func (f *fetcher) noteUnreadable(row mailindex.Row, err error) {
	if kind := imap.KindOf(err); isInternal(err) && kind != imap.NotFound && kind != imap.ExpungeIssued {
		f.c.Conn.log().Error("a message cannot be read", "user", f.c.Conn.login.user, "mailbox", f.sel.name, "uid", row.UID, "err", err)
	}
	if f.unreadable != nil {
		return
	}
	f.unreadable = err
	if errors.Is(err, imap.NotFound) {
		f.unreadable = &imap.Error{Kind: imap.ExpungeIssued, Text: "Some of the messages no longer exist", Err: err}
	}
}

// write writes one FETCH response.
func (f *fetcher) write(m *FetchMessage) error {
	for _, a := range f.opts.Atts {
		if a.Check == nil {
			continue
		}
		if err := a.Check(m); err != nil {
			f.noteUnreadable(m.Row, err)
			return nil
		}
	}
	w := f.c.Conn.enc
	w.Raw("* ")
	w.Number(uint32(m.Seq))
	w.Raw(" FETCH (")
	flagsTold := false
	for i, a := range f.opts.Atts {
		if i > 0 {
			w.SP()
		}
		if err := a.Write(w, m); err != nil {
			if isInternal(err) && imap.KindOf(err) != imap.Other { // not the client's going away
				f.c.Conn.log().Error("a message broke off while it was sent, so the connection ends", "user", f.c.Conn.login.user, "mailbox", f.sel.name, "uid", m.Row.UID, "err", err)
			}
			w.Poison(err) // half a response is out
			return err
		}
		flagsTold = flagsTold || a == f.flags
	}
	if !flagsTold && f.seen.Contains(m.Row.UID) {
		w.SP()
		_ = f.flags.Write(w, m)
		if f.c.Conn.enabled.condstore && !slices.Contains(f.opts.Atts, f.modseq) {
			w.SP()
			_ = f.modseq.Write(w, m)
		}
	}
	w.Raw(")\r\n")
	return w.Err()
}
