package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
)

// qresync is the quick resynchronisation of RFC 7162 section 3.2.
func qresync() *Extension {
	return &Extension{
		Name: "QRESYNC", RFC: "7162", Needs: FeatureHistory, Requires: []string{"CONDSTORE", "ENABLE"},
		Capabilities: []Capability{{Name: "QRESYNC"}},
		Enables: []*Enable{{Name: "QRESYNC", Run: func(c *Conn) {
			c.enableCondStore()
			c.enabled.qresync = true
		}}},
		SelectParams: []*SelectParam{{Name: "QRESYNC", Parse: parseQResync}},
		FetchMods:    []*FetchModifier{{Name: "VANISHED", Parse: parseVanished}},
	}
}

// resync is what a client knows of a mailbox (RFC 7162 section 3.2.5).
type resync struct {
	validity uint32
	since    imap.ModSeq
	known    imap.UIDSet // the UIDs it is interested in
	hasKnown bool
	seqs     imap.NumSet // samples: the n-th message has ...
	uids     imap.UIDSet // ... the n-th of these UIDs
}

// parseQResync reads QRESYNC (validity modseq [known-uids] [(seqs uids)]).
func parseQResync(c *Call, d *imapwire.Decoder, opts *SelectOptions) {
	var r resync
	d.SP()
	d.Byte('(')
	r.validity = d.NzNumber()
	d.SP()
	r.since = d.ModSeqOrZero()
	if d.TrySP() {
		if d.Peek() != '(' {
			r.known, r.hasKnown = d.UIDSet(), true
			if d.TrySP() {
				r.parseSamples(d)
			}
		} else {
			r.parseSamples(d)
		}
	}
	d.Byte(')')
	if d.Err() == nil && !c.Conn.enabled.qresync {
		c.badName = bad("QRESYNC must be enabled with ENABLE first")
	}
	opts.Then = append(opts.Then, func(ctx context.Context, c *Call) error { return r.run(ctx, c) })
}

func (r *resync) parseSamples(d *imapwire.Decoder) {
	d.Byte('(')
	r.seqs, _ = d.NumSet()
	d.SP()
	r.uids = d.UIDSet()
	d.Byte(')')
}

// run tells the client what has vanished and what has changed.
func (r *resync) run(ctx context.Context, c *Call) error {
	sel := c.Conn.sel
	if r.validity != uint32(sel.view.UIDValidity()) {
		return nil // a different mailbox: the client starts anew
	}
	known := r.known
	if !r.hasKnown {
		known = imap.UIDSetOfRange(1, max(sel.view.UIDNext(), 2)-1)
	}
	if err := c.tellVanished(ctx, r.since, known, r.matched(sel.view)); err != nil {
		return err
	}
	t := told{uid: true, flags: true, modseq: true}
	for p := range sel.view.ChangedPages(r.since) {
		for i := range p.Len() {
			if p.ModSeqs[i] > r.since && known.Contains(p.UIDs[i]) {
				sel.writeFlagsOf(c.Conn, p.First+i, p.Row(i), t)
			}
		}
	}
	return nil
}

// matched returns the greatest UID up to which the client's samples show that
// it knows of all expunges (RFC 7162 section 3.2.5.2).
func (r *resync) matched(v *mailindex.Snapshot) imap.UID {
	var last imap.UID
	uids := r.uids.All()
	next, stop := pull(uids)
	defer stop()
	for seq := range r.seqs.ResolveSeq(uint32(v.Len())).All() {
		uid, ok := next()
		if !ok || int(seq) > v.Len() || v.UID(int(seq)-1) != uid {
			break
		}
		last = uid
	}
	return last
}

// tellVanished sends VANISHED (EARLIER) for those of the known UIDs that were
// expunged after since. Where the history does not reach back so far, it names
// all that are not there; then the samples save the client the most.
func (c *Call) tellVanished(ctx context.Context, since imap.ModSeq, known imap.UIDSet, matched imap.UID) error {
	sel := c.Conn.sel
	gone, complete, err := sel.box.Expunged(ctx, since)
	if err != nil {
		return err
	}
	if complete {
		gone = gone.Intersect(known)
	} else {
		if matched > 0 {
			known = known.Subtract(imap.UIDSetOfRange(1, matched))
		}
		// UIDs that were never given out are not mentioned.
		gone = known.Intersect(imap.UIDSetOfRange(1, max(sel.view.UIDNext(), 2)-1))
	}
	// Whatever the client has not been told of in this session is still there
	// for it.
	if gone = gone.Subtract(sel.present(gone)); gone.IsEmpty() {
		return nil
	}
	w := c.Writer()
	w.Raw("* VANISHED (EARLIER) ")
	w.UIDSet(gone)
	w.CRLF()
	return nil
}

// parseVanished reads the FETCH modifier VANISHED (RFC 7162 section 3.2.6).
func parseVanished(c *Call, d *imapwire.Decoder, opts *FetchOptions) {
	if d.Err() == nil && (!c.UID || !c.Conn.enabled.qresync) {
		d.Fail("VANISHED in UID FETCH only, after ENABLE QRESYNC", "")
		return
	}
	opts.Before = append(opts.Before, func(ctx context.Context, c *Call, set imap.NumSet) error {
		if opts.Since == 0 {
			return bad("VANISHED needs CHANGEDSINCE")
		}
		known := set.Resolve(uint32(max(c.Conn.sel.view.UIDNext(), 2) - 1))
		return c.tellVanished(ctx, opts.Since, known, 0)
	})
}
