package message

import "bytes"

const (
	maxReferences = 1000
	maxMessageID  = 1000 // longer identifiers are none
)

// deriveKeys computes what SORT and THREAD need.
func (d *Digest) deriveKeys(f *headerFields) {
	if ids := messageIDs(f.messageID, 1); len(ids) > 0 {
		d.MessageID = ids[0]
	} else if v := unfold(f.messageID); bytes.IndexByte(v, '@') > 0 && isFieldName(v) && len(v) <= maxMessageID {
		d.MessageID = string(v) // without angle brackets
	}
	d.References = messageIDs(f.references, maxReferences)
	if len(d.References) == 0 {
		d.References = messageIDs(f.inReplyTo, 1)
	}
	base, marked := baseSubject(f.subject)
	d.Subject, d.IsReplyOrForward = string(fold(nil, nil, base)), marked
	d.Sort.From, d.Sort.DisplayFrom = addressKeys(f.from)
	d.Sort.To, d.Sort.DisplayTo = addressKeys(f.to)
	d.Sort.Cc, _ = addressKeys(f.cc)
	if date, ok := parseDate(f.date); ok {
		_, offset := date.Zone()
		d.SentUnix, d.SentZone, d.HasSent = date.Unix(), int16(offset/60), true
	}
}

// addressKeys returns the sort keys of an address list: the first address's
// mailbox (RFC 5256 section 3) and what is displayed of it (RFC 5957 section
// 3). They are cut at maxSortKey.
func addressKeys(v []byte) (mailbox, display string) {
	const maxSortKey = 1000
	p := addressParser{src: v}
	a, ok := p.next()
	if !ok {
		return "", ""
	}
	clip := func(b []byte) []byte { return b[:min(len(b), maxSortKey)] }
	mailbox = string(fold(nil, nil, clip(a.mailbox)))
	if a.kind != addressMailbox { // of a group's start: its name
		return mailbox, mailbox
	}
	name := fold(nil, nil, decodeWords(nil, clip(a.name)))
	if len(name) == 0 {
		name = fold(nil, name, clip(a.mailbox))
		name = append(name, '@')
		name = fold(nil, name, clip(a.host))
	}
	return mailbox, string(name)
}

// messageIDs returns the message identifiers of a field, normalised as RFC
// 5256 section 2.3 asks: without white space, comments and quoting. Of more
// than limit, the first and the last ones.
func messageIDs(v []byte, limit int) []string {
	var ids []string
	var buf []byte
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
