package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// children is RFC 3348: \HasChildren and \HasNoChildren are told always.
func children() *Extension {
	return &Extension{Name: "CHILDREN", RFC: "3348", Capabilities: []Capability{{Name: "CHILDREN"}}}
}

// listExtended is RFC 5258.
func listExtended() *Extension {
	return &Extension{
		Name: "LIST-EXTENDED", RFC: "5258",
		Capabilities: []Capability{{Name: "LIST-EXTENDED"}},
		ListSelects: []*ListSelect{
			{Name: "SUBSCRIBED", Implies: "SUBSCRIBED", Match: func(e *ListEntry) bool { return e.Subscribed }},
			{Name: "REMOTE", Modifier: true, Match: func(e *ListEntry) bool { return !e.Missing || e.Subscribed }},
			{Name: "RECURSIVEMATCH", Modifier: true},
		},
		ListReturns: []*ListReturn{{Name: "SUBSCRIBED"}, {Name: "CHILDREN"}},
	}
}

// specialUse is RFC 6154; the attributes are told always, and the options
// known: IMAP4rev2 has them.
func specialUse() *Extension {
	return &Extension{
		Name: "SPECIAL-USE", RFC: "6154",
		Capabilities: []Capability{{Name: "SPECIAL-USE", When: withFeature(FeatureSpecialUse)}},
		ListSelects: []*ListSelect{{Name: "SPECIAL-USE", Implies: "SPECIAL-USE", Match: func(e *ListEntry) bool {
			return len(e.SpecialUse) > 0 && !e.Missing
		}}},
		ListReturns: []*ListReturn{{Name: "SPECIAL-USE"}},
	}
}

// listStatus is RFC 5819: STATUS responses between those of LIST.
func listStatus() *Extension {
	return &Extension{
		Name: "LIST-STATUS", RFC: "5819", Requires: []string{"LIST-EXTENDED"},
		Capabilities: []Capability{{Name: "LIST-STATUS"}},
		ListReturns: []*ListReturn{{
			Name: "STATUS",
			Parse: func(c *Call, d *imapwire.Decoder, opts *ListOptions) {
				d.SP()
				opts.Status = c.statusItems(d)
			},
			After: func(ctx context.Context, c *Call, e *ListEntry, opts *ListOptions) error {
				if e.Missing || e.NoSelect {
					return nil
				}
				err := c.status(ctx, e.Name, opts.Status)
				if imap.KindOf(err) == imap.NotFound {
					return nil // deleted since it was listed
				}
				return err
			},
		}},
	}
}
