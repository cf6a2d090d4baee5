package imapserver

import (
	"math"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// baseSearchKeys are the keys of RFC 3501 and RFC 9051 except for sets, NOT, OR
// and parentheses, which the parser knows itself.
func baseSearchKeys() []*SearchKey {
	keys := []*SearchKey{
		rowKey("ALL", func(*SearchMessage) bool { return true }),
		rowKey("NEW", func(m *SearchMessage) bool {
			return m.from.sel.isRecent(m.Row.UID) && m.bits()&mailindex.BitSeen == 0
		}),
		rowKey("OLD", func(m *SearchMessage) bool { return !m.from.sel.isRecent(m.Row.UID) }),
		rowKey("RECENT", func(m *SearchMessage) bool { return m.from.sel.isRecent(m.Row.UID) }),
		keywordKey("KEYWORD", true), keywordKey("UNKEYWORD", false),
		sizeKey("LARGER", func(size, n int64) bool { return size > n }),
		sizeKey("SMALLER", func(size, n int64) bool { return size < n }),
		dateKey("BEFORE", func(is, day imap.Date) bool { return is < day }),
		dateKey("ON", func(is, day imap.Date) bool { return is == day }),
		dateKey("SINCE", func(is, day imap.Date) bool { return is >= day }),
		sentKey("SENTBEFORE", func(is, day imap.Date) bool { return is < day }),
		sentKey("SENTON", func(is, day imap.Date) bool { return is == day }),
		sentKey("SENTSINCE", func(is, day imap.Date) bool { return is >= day }),
		textKey("BODY", message.InBody), textKey("TEXT", message.InText),
		{Name: "HEADER", Parse: func(c *Call, d *imapwire.Decoder) Matcher {
			d.SP()
			name := strings.ToLower(d.Astring())
			d.SP()
			return headerMatcher(name, c.searchText(d))
		}},
		{Name: "UID", Parse: func(c *Call, d *imapwire.Decoder) Matcher {
			d.SP()
			set, saved := d.NumSet()
			return c.setKey(set, saved, true)
		}},
	}
	for name, bit := range map[string]mailindex.FlagBits{
		"ANSWERED": mailindex.BitAnswered, "DELETED": mailindex.BitDeleted, "DRAFT": mailindex.BitDraft,
		"FLAGGED": mailindex.BitFlagged, "SEEN": mailindex.BitSeen,
	} {
		keys = append(keys,
			rowKey(name, func(m *SearchMessage) bool { return m.bits()&bit != 0 }),
			rowKey("UN"+name, func(m *SearchMessage) bool { return m.bits()&bit == 0 }))
	}
	for _, field := range []string{"BCC", "CC", "FROM", "SUBJECT", "TO"} {
		keys = append(keys, &SearchKey{Name: field, Parse: func(c *Call, d *imapwire.Decoder) Matcher {
			d.SP()
			return headerMatcher(strings.ToLower(field), c.searchText(d))
		}})
	}
	return keys
}

// bits returns the system flags of the message.
func (m *SearchMessage) bits() mailindex.FlagBits { return m.View.Flags(m.Row.Flags).Bits() }

// rowKey is a key without arguments that the index answers.
func rowKey(name string, match func(*SearchMessage) bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(*Call, *imapwire.Decoder) Matcher { return Matcher{Row: match} }}
}

// keywordKey is KEYWORD or UNKEYWORD. The answer is computed once for each
// combination of flags.
func keywordKey(name string, want bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		flag := d.Flag()
		known := map[mailindex.FlagsID]bool{}
		return Matcher{Row: func(m *SearchMessage) bool {
			has, ok := known[m.Row.Flags]
			if !ok {
				has = m.View.Flags(m.Row.Flags).Has(flag)
				known[m.Row.Flags] = has
			}
			return has == want
		}}
	}}
}

func sizeKey(name string, match func(size, n int64) bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		n := d.Number64()
		return Matcher{Row: func(m *SearchMessage) bool { return match(int64(m.Row.Size), n) }}
	}}
}

// dateKey compares the internal date without its time and zone (RFC 9051
// section 6.4.4).
func dateKey(name string, match func(is, day imap.Date) bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		day := d.Date()
		return Matcher{Row: func(m *SearchMessage) bool { return match(m.Row.Date.Date(), day) }}
	}}
}

// sentKey compares the Date field. A message without one matches none of the
// three keys.
func sentKey(name string, match func(is, day imap.Date) bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		day := d.Date()
		return Matcher{Need: NeedDigest, Match: func(_ *SearchMessage, msg *Message) bool {
			t, ok := msg.Digest.SentDate()
			return ok && match(imap.DateOf(t), day)
		}}
	}}
}

func textKey(name string, where message.Where) *SearchKey {
	return &SearchKey{Name: name, Parse: func(c *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		needle := c.searchText(d)
		if len(needle) == 0 {
			return Matcher{Row: func(*SearchMessage) bool { return true }}
		}
		return Matcher{Need: NeedText, text: &message.Key{Where: where, Needle: needle}}
	}}
}

func headerMatcher(name string, needle []byte) Matcher {
	return Matcher{Need: NeedText, text: &message.Key{Where: message.InHeader, Name: name, Needle: needle}}
}

// within is RFC 5032: ages in seconds.
func within() *Extension {
	key := func(name string, match func(age, limit int64) bool) *SearchKey {
		return &SearchKey{Name: name, Parse: func(c *Call, d *imapwire.Decoder) Matcher {
			d.SP()
			limit := min(int64(d.NzNumber()), math.MaxInt32)
			now := c.Conn.srv.now().Truncate(time.Second).Unix()
			return Matcher{Row: func(m *SearchMessage) bool { return match(now-m.Row.Date.Unix(), limit) }}
		}}
	}
	return &Extension{
		Name: "WITHIN", RFC: "5032",
		Capabilities: []Capability{{Name: "WITHIN"}},
		SearchKeys: []*SearchKey{
			key("OLDER", func(age, limit int64) bool { return age >= limit }),
			key("YOUNGER", func(age, limit int64) bool { return age <= limit }),
		},
	}
}
