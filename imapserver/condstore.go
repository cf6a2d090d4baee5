package imapserver

import (
	"context"
	"slices"
	"strconv"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
)

// condStore is RFC 7162 without its quick resynchronisation.
func condStore() *Extension {
	modSeq := rowAtt(func(dst []byte, m *FetchMessage) []byte {
		return append(strconv.AppendUint(append(dst, "MODSEQ ("...), uint64(m.Row.ModSeq), 10), ')')
	})
	modSeq.Enables = (*Conn).enableCondStore
	return &Extension{
		Name: "CONDSTORE", RFC: "7162", Needs: FeatureHistory,
		Capabilities: []Capability{{Name: "CONDSTORE"}},
		Enables:      []*Enable{{Name: "CONDSTORE", Run: (*Conn).enableCondStore}},
		SelectParams: []*SelectParam{{Name: "CONDSTORE", Parse: func(c *Call, _ *imapwire.Decoder, opts *SelectOptions) {
			opts.Then = append(opts.Then, func(context.Context, *Call) error {
				c.Conn.enabled.condstore = true
				return nil
			})
		}}},
		StatusItems: []*StatusItem{{Name: "HIGHESTMODSEQ", Enables: (*Conn).enableCondStore, Write: func(w *imapwire.Encoder, m *StatusMailbox) error {
			w.ModSeq(max(m.HighestModSeq, 1))
			return nil
		}}},
		FetchItems: []*FetchItem{{Name: "MODSEQ", Att: modSeq}},
		FetchMods:  []*FetchModifier{{Name: "CHANGEDSINCE", Parse: parseChangedSince}},
		StoreMods: []*StoreModifier{{Name: "UNCHANGEDSINCE", Parse: func(c *Call, d *imapwire.Decoder, opts *StoreOptions) {
			d.SP()
			opts.UnchangedSince, opts.HasUnchangedSince = d.ModSeqOrZero(), true
			c.before(c.Conn.enableCondStore)
		}}},
		SearchKeys: []*SearchKey{{Name: "MODSEQ", Parse: parseSearchModSeq}},
	}
}

// enableCondStore makes the session one that is told mod-sequences (RFC 7162
// section 3.1). With a mailbox selected, the client is told where it stands.
func (c *Conn) enableCondStore() {
	if c.enabled.condstore || !c.srv.features.Has(FeatureHistory) {
		return
	}
	c.enabled.condstore = true
	if c.sel != nil {
		c.enc.Raw("* OK [HIGHESTMODSEQ ")
		c.enc.ModSeq(max(c.sel.latest.HighestModSeq(), 1))
		c.enc.Raw("] Highest\r\n")
	}
}

// parseChangedSince reads the FETCH modifier CHANGEDSINCE (RFC 7162 section
// 3.1.4.1); MODSEQ is fetched with it.
func parseChangedSince(c *Call, d *imapwire.Decoder, opts *FetchOptions) {
	d.SP()
	since := d.ModSeq()
	opts.Since = since
	opts.Keep = func(r mailindex.Row) bool { return r.ModSeq > since }
	if modseq := c.att("MODSEQ"); !slices.Contains(opts.Atts, modseq) {
		opts.Atts = append(opts.Atts, modseq)
	}
}

// parseSearchModSeq reads MODSEQ [entry-name entry-type] value. Flags have no
// mod-sequences of their own here, so the entry makes no difference.
func parseSearchModSeq(c *Call, d *imapwire.Decoder) Matcher {
	d.SP()
	if d.Peek() == '"' {
		d.Quoted()
		d.SP()
		if kind := keyword(d, "all, priv or shared"); d.Err() == nil && kind != "ALL" && kind != "PRIV" && kind != "SHARED" {
			d.Fail("all, priv or shared", kind)
		}
		d.SP()
	}
	least := d.ModSeqOrZero()
	c.before(c.Conn.enableCondStore)
	c.searchModSeq = true
	return Matcher{Row: func(m *SearchMessage) bool { return m.Row.ModSeq >= least }}
}

// highestOf returns the greatest mod-sequence of some positions of a view.
func highestOf(v *mailindex.Snapshot, positions []int) imap.ModSeq {
	var highest imap.ModSeq
	for _, pos := range positions {
		highest = max(highest, v.ModSeq(pos))
	}
	return highest
}
