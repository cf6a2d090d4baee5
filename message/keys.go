package message

import "bytes"

const (
	maxReferences = 1000
	maxMessageID  = 1000 // longer identifiers are none
)

// deriveKeys computes what SORT and THREAD need, but for addresses: see sortKeys.
func (p *parser) deriveKeys() {
	d, f := p.d, &p.fields
	if ids := p.messageIDs(f[fieldMessageID], 1); len(ids) > 0 {
		d.MessageID = ids[0]
	} else if v := p.values.unfold(f[fieldMessageID]); bytes.IndexByte(v, '@') > 0 && isFieldName(v) && len(v) <= maxMessageID {
		d.MessageID = string(v) // without angle brackets
	}
	d.References = p.messageIDs(f[fieldReferences], maxReferences)
	if len(d.References) == 0 {
		d.References = p.messageIDs(f[fieldInReplyTo], 1)
	}
	var base []byte
	base, d.IsReplyOrForward = p.baseSubject(f[fieldSubject])
	d.Subject = p.foldString(base)
	d.SentUnix, d.SentZone, d.HasSent = p.parseDate(f[fieldDate])
}

// foldString returns b, folded.
func (p *parser) foldString(b []byte) string {
	p.folded = fold(nil, p.folded[:0], b)
	return string(p.folded)
}

// sortKeys keeps the sort keys that the first address of a field is for: the mailbox
// (RFC 5256 section 3) and what is displayed of it (RFC 5957 section 3). They are cut
// at maxSortKey.
func (p *parser) sortKeys(f field, a address) {
	switch keys := &p.d.Sort; f {
	case fieldFrom:
		keys.From = p.foldString(clipKey(a.mailbox))
		keys.DisplayFrom = p.displayKey(a, keys.From)
	case fieldTo:
		keys.To = p.foldString(clipKey(a.mailbox))
		keys.DisplayTo = p.displayKey(a, keys.To)
	case fieldCc:
		keys.Cc = p.foldString(clipKey(a.mailbox))
	}
}

// displayKey returns what is displayed of an address: of a group's start its name, which
// is the mailbox.
func (p *parser) displayKey(a address, mailbox string) string {
	if a.kind != addressMailbox {
		return mailbox
	}
	p.words = decodeWords(p.words[:0], clipKey(a.name))
	if display := p.foldString(p.words); display != "" {
		return display
	}
	p.words = append(append(append(p.words[:0], clipKey(a.mailbox)...), '@'), clipKey(a.host)...)
	return p.foldString(p.words)
}

func clipKey(b []byte) []byte {
	const maxSortKey = 1000
	return b[:min(len(b), maxSortKey)]
}

// messageIDs returns the message identifiers of a field, normalised as RFC
// 5256 section 2.3 asks: without white space, comments and quoting. Of more
// than limit, the first and the last ones.
func (p *parser) messageIDs(v []byte, limit int) []string {
	var ids []string
	buf := p.words
	defer func() { p.words = buf }()
	for {
		i := bytes.IndexByte(v, '<')
		if i < 0 {
			return ids
		}
		buf, v = readMessageID(buf[:0], v[i+1:])
		if len(buf) == 0 || len(buf) > maxMessageID {
			continue
		}
		switch {
		case len(ids) < limit:
			ids = append(ids, string(buf))
		case limit == 1:
			return ids
		default:
			copy(ids[1:], ids[2:])
			ids[limit-1] = string(buf)
		}
	}
}

// readMessageID reads behind "<" and returns what is behind ">"; the
// identifier is empty where there is none.
func readMessageID(dst, v []byte) (id, rest []byte) {
	quoted := false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && quoted && i+1 < len(v):
			i++
			dst = append(dst, v[i])
		case c == '"':
			quoted = !quoted
		case quoted:
			dst = append(dst, c)
		case c == '>':
			return dst, v[i+1:]
		case c == '<': // the one before was not closed
			return dst[:0], v[i:]
		case !isSpace(c) && c != 0:
			dst = append(dst, c)
		}
	}
	return dst[:0], nil
}
