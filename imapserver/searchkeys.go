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
		{Name: "ALL", Parse: func(*Call, *imapwire.Decoder) Matcher { return everyMessage() }},
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
		sentKey("SENTBEFORE", func(day imap.Date) SentDays { return SentDays{math.MinInt32, day} }),
		sentKey("SENTON", func(day imap.Date) SentDays { return SentDays{day, day + 1} }),
		sentKey("SENTSINCE", func(day imap.Date) SentDays { return SentDays{day, math.MaxInt32} }),
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
			flagsKey(name, func(f *mailindex.FlagSet) bool { return f.Bits()&bit != 0 }),
			flagsKey("UN"+name, func(f *mailindex.FlagSet) bool { return f.Bits()&bit == 0 }))
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

// flagsKey is a key without arguments about flags.
func flagsKey(name string, match func(*mailindex.FlagSet) bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(*Call, *imapwire.Decoder) Matcher { return flagMatcher(match) }}
}

// keywordKey is KEYWORD or UNKEYWORD.
func keywordKey(name string, want bool) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		flag := d.Flag()
		return flagMatcher(func(f *mailindex.FlagSet) bool { return f.Has(flag) == want })
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
func sentKey(name string, days func(day imap.Date) SentDays) *SearchKey {
	return &SearchKey{Name: name, Parse: func(_ *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		sent := days(d.Date())
		return Matcher{
			term: SearchTerm{Sent: &sent}, Need: NeedDigest,
			Match: func(_ *SearchMessage, msg *Message) bool { return sent.Contain(msg.Digest) },
		}
	}}
}

func textKey(name string, where message.Where) *SearchKey {
	return &SearchKey{Name: name, Parse: func(c *Call, d *imapwire.Decoder) Matcher {
		d.SP()
		needle := c.searchText(d)
		if len(needle) == 0 {
			return everyMessage()
		}
		return textMatcher(&message.Key{Where: where, Needle: needle})
	}}
}

func headerMatcher(name string, needle []byte) Matcher {
	return textMatcher(&message.Key{Where: message.InHeader, Name: name, Needle: needle})
}

func textMatcher(key *message.Key) Matcher {
	return Matcher{Need: NeedText, term: SearchTerm{Text: key}}
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
