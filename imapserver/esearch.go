package imapserver

import (
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// esearch is RFC 4731.
func esearch() *Extension {
	return &Extension{
		Name: "ESEARCH", RFC: "4731",
		Capabilities: []Capability{{Name: "ESEARCH"}},
		SearchReturns: []*SearchReturn{
			{Name: "MIN", Write: func(w *imapwire.Encoder, r *SearchResult) bool {
				if len(r.Positions) == 0 {
					return false
				}
				w.Raw(" MIN ")
				w.Number(r.Number(0))
				return true
			}},
			{Name: "MAX", Write: func(w *imapwire.Encoder, r *SearchResult) bool {
				if len(r.Positions) == 0 {
					return false
				}
				w.Raw(" MAX ")
				w.Number(r.Number(len(r.Positions) - 1))
				return true
			}},
			{Name: "ALL", Write: writeESearchAll},
			{Name: "COUNT", Write: func(w *imapwire.Encoder, r *SearchResult) bool {
				w.Raw(" COUNT ")
				w.Number(uint32(len(r.Positions)))
				return true
			}},
		},
	}
}

func writeESearchAll(w *imapwire.Encoder, r *SearchResult) bool {
	if len(r.Positions) == 0 {
		return false
	}
	w.Raw(" ALL ")
	var set imap.UIDSet
	for i := range r.Positions {
		set.Add(imap.UID(r.Number(i)))
	}
	w.UIDSet(set)
	return true
}

// writeESearch writes the ESEARCH response.
func (c *Call) writeESearch(r *SearchResult, opts *SearchOptions) {
	returns := opts.Returns
	if !opts.extended {
		returns = []*SearchReturn{c.Conn.srv.reg.searchReturns["ALL"]}
	}
	if len(returns) == 1 && opts.Save {
		return // RETURN (SAVE) alone: no response (RFC 9051 section 6.4.4.1)
	}
	w := c.Writer()
	w.Raw("* ESEARCH (TAG ")
	w.String(c.Tag)
	w.Raw(")")
	if r.UID {
		w.Raw(" UID")
	}
	for _, ret := range c.Conn.srv.reg.returnOrder {
		if ret.Write != nil && slices.Contains(returns, ret) {
			ret.Write(w, r)
		}
	}
	if modseq := c.esearchModSeq(r, returns); modseq > 0 {
		w.Raw(" MODSEQ ")
		w.ModSeq(modseq)
	}
	w.CRLF()
}

// esearchModSeq is the mod-sequence to report: that of the messages which are
// returned (RFC 4731 section 3.2).
func (c *Call) esearchModSeq(r *SearchResult, returns []*SearchReturn) imap.ModSeq {
	if !c.searchModSeq || len(r.Positions) == 0 {
		return 0
	}
	min, max := c.minMax(returns)
	switch last := len(r.Positions) - 1; {
	case min && max:
		return highestOf(r.sel.view, []int{r.Positions[0], r.Positions[last]})
	case min:
		return highestOf(r.sel.view, r.Positions[:1])
	case max:
		return highestOf(r.sel.view, r.Positions[last:])
	}
	return r.ModSeq
}

// minMax reports whether MIN and MAX are all that is asked for.
func (c *Call) minMax(returns []*SearchReturn) (min, max bool) {
	for _, ret := range returns {
		switch ret.Name {
		case "MIN":
			min = true
		case "MAX":
			max = true
		case "ALL", "COUNT":
			return false, false
		}
	}
	return min, max
}

// searchRes is RFC 5182: "$" is the result of the last SEARCH with SAVE.
func searchRes() *Extension {
	return &Extension{
		Name: "SEARCHRES", RFC: "5182", Requires: []string{"ESEARCH"},
		Capabilities: []Capability{{Name: "SEARCHRES"}},
		SearchReturns: []*SearchReturn{{Name: "SAVE", Parse: func(_ *Call, _ *imapwire.Decoder, opts *SearchOptions) {
			opts.Save = true
		}}},
	}
}

// savedPart is what SAVE keeps: with MIN and MAX alone, just those (RFC 9051
// section 6.4.4.1).
func (c *Call) savedPart(positions []int, opts *SearchOptions) []int {
	if len(positions) == 0 {
		return nil
	}
	last := len(positions) - 1
	switch min, max := c.minMax(opts.Returns); {
	case min && max:
		return []int{positions[0], positions[last]}
	case min:
		return positions[:1]
	case max:
		return positions[last:]
	}
	return positions
}

// saveNothing empties the saved result when a SEARCH with SAVE fails (RFC 5182
// section 2.1).
func (c *Call) saveNothing(opts *SearchOptions) {
	if opts.Save {
		c.Conn.sel.saved = imap.UIDSet{}
	}
}
