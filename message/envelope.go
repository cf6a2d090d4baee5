package message

// headerFields are the values of the fields of a header that the digest needs, folded as
// they came, by their numbers. A field that is absent is nil, an empty one is not.
type headerFields [numFields][]byte

// set keeps the value of a field; the first one counts.
func (h *headerFields) set(f field, value []byte) {
	if h[f] != nil {
		return
	}
	if h[f] = value; value == nil {
		h[f] = []byte{}
	}
}

// appendEnvelope appends the ENVELOPE of the message whose header has been read (RFC 9051
// section 7.5.2). It takes the addresses that it writes off addrsLeft, and leaves
// out more than that.
func (p *parser) appendEnvelope(dst []byte) []byte {
	f := &p.fields
	dst = append(dst, '(')
	dst = p.appendValue(dst, f[fieldDate])
	dst = append(dst, ' ')
	dst = p.appendValue(dst, f[fieldSubject])
	dst = append(dst, ' ')
	from := len(dst)
	dst = p.appendAddresses(dst, fieldFrom)
	end := len(dst)
	for _, list := range [...]field{fieldSender, fieldReplyTo} {
		dst = append(dst, ' ')
		start := len(dst)
		dst = p.appendAddresses(dst, list)
		if string(dst[start:]) == "NIL" {
			dst = append(dst[:start], dst[from:end]...)
		}
	}
	for _, list := range [...]field{fieldTo, fieldCc, fieldBcc} {
		dst = append(dst, ' ')
		dst = p.appendAddresses(dst, list)
	}
	dst = append(dst, ' ')
	dst = p.appendValue(dst, f[fieldInReplyTo])
	dst = append(dst, ' ')
	dst = p.appendValue(dst, f[fieldMessageID])
	return append(dst, ')')
}

// appendValue appends the value of a field, unfolded; NIL only for an absent field.
func (p *parser) appendValue(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "NIL"...)
	}
	return appendString(dst, p.values.unfold(v))
}

// appendAddresses appends the address list of a field, or NIL for one without addresses,
// and has the sort keys made of its first one, if it has any.
func (p *parser) appendAddresses(dst []byte, f field) []byte {
	start := len(dst)
	list := &p.addresses
	list.begin(p.fields[f])
	for first := true; ; first = false {
		a, ok := list.next()
		if !ok {
			break
		}
		if first && len(p.stack) == 1 {
			p.sortKeys(f, a)
		}
		if p.addrsLeft--; p.addrsLeft < 0 && a.kind != addressGroupEnd {
			if list.inGroup && a.kind != addressGroupStart {
				dst = append(dst, "(NIL NIL NIL NIL)"...)
			}
			break
		}
		if len(dst) == start {
			dst = append(dst, '(')
		}
		dst = appendAddress(dst, a)
	}
	if len(dst) == start {
		return append(dst, "NIL"...)
	}
	return append(dst, ')')
}

func appendAddress(dst []byte, a address) []byte {
	switch a.kind {
	case addressGroupStart:
		dst = append(dst, "(NIL NIL "...)
		dst = appendString(dst, a.mailbox)
		return append(dst, " NIL)"...)
	case addressGroupEnd:
		return append(dst, "(NIL NIL NIL NIL)"...)
	}
	dst = append(dst, '(')
	for _, v := range [...][]byte{a.name, a.route} {
		if len(v) == 0 {
			dst = append(dst, "NIL "...)
			continue
		}
		dst = appendString(dst, v)
		dst = append(dst, ' ')
	}
	dst = appendString(dst, a.mailbox)
	dst = append(dst, ' ')
	dst = appendString(dst, a.host)
	return append(dst, ')')
}
