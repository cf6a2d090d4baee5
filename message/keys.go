package message

import "bytes"

const (
	maxReferences = 1000
	maxMessageID  = 1000 // longer identifiers are none
)

// deriveKeys computes what SORT and THREAD need.
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
	d.Sort.From, d.Sort.DisplayFrom = p.addressKeys(f[fieldFrom])
	d.Sort.To, d.Sort.DisplayTo = p.addressKeys(f[fieldTo])
	d.Sort.Cc, _ = p.addressKeys(f[fieldCc])
	d.SentUnix, d.SentZone, d.HasSent = p.parseDate(f[fieldDate])
}

// foldString returns b, folded.
func (p *parser) foldString(b []byte) string {
	p.folded = fold(nil, p.folded[:0], b)
	return string(p.folded)
}

// addressKeys returns the sort keys of an address list: the first address's
// mailbox (RFC 5256 section 3) and what is displayed of it (RFC 5957 section
// 3). They are cut at maxSortKey.
func (p *parser) addressKeys(v []byte) (mailbox, display string) {
	const maxSortKey = 1000
	p.addresses.begin(v)
	a, ok := p.addresses.next()
	if !ok {
		return "", ""
	}
	clip := func(b []byte) []byte { return b[:min(len(b), maxSortKey)] }
	mailbox = p.foldString(clip(a.mailbox))
	if a.kind != addressMailbox { // of a group's start: its name
		return mailbox, mailbox
	}
	p.words = decodeWords(p.words[:0], clip(a.name))
	if display = p.foldString(p.words); display != "" {
		return mailbox, display
	}
	p.words = append(append(append(p.words[:0], clip(a.mailbox)...), '@'), clip(a.host)...)
	return mailbox, p.foldString(p.words)
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
