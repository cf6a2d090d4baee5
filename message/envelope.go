package message

// headerFields are the values of the fields that the digest needs, folded as
// they came. A field that is absent is nil, an empty one is not.
type headerFields struct {
	date, subject, from, sender, replyTo, to, cc, bcc []byte
	inReplyTo, messageID, references                  []byte

	contentType, encoding, id, description, md5 []byte
	disposition, language, location             []byte
}

// set keeps the value of the named field; the first one counts.
func (f *headerFields) set(name, value []byte) {
	p := f.field(name)
	if p != nil && *p == nil {
		if *p = value; value == nil {
			*p = []byte{}
		}
	}
}

func (f *headerFields) field(name []byte) *[]byte {
	var buf [32]byte
	switch string(lowerName(&buf, name)) {
	case "date":
		return &f.date
	case "subject":
		return &f.subject
	case "from":
		return &f.from
	case "sender":
		return &f.sender
	case "reply-to":
		return &f.replyTo
	case "to":
		return &f.to
	case "cc":
		return &f.cc
	case "bcc":
		return &f.bcc
	case "in-reply-to":
		return &f.inReplyTo
	case "message-id":
		return &f.messageID
	case "references":
		return &f.references
	case "content-type":
		return &f.contentType
	case "content-transfer-encoding":
		return &f.encoding
	case "content-id":
		return &f.id
	case "content-description":
		return &f.description
	case "content-md5":
		return &f.md5
	case "content-disposition":
		return &f.disposition
	case "content-language":
		return &f.language
	case "content-location":
		return &f.location
	}
	return nil
}

// appendEnvelope appends the ENVELOPE of a message with these fields (RFC 9051
// section 7.5.2). It takes the addresses that it writes off addresses, and
// leaves out more than that.
func appendEnvelope(dst []byte, f *headerFields, addresses *int) []byte {
	dst = append(dst, '(')
	dst = appendFieldString(dst, f.date)
	dst = append(dst, ' ')
	dst = appendFieldString(dst, f.subject)
	dst = append(dst, ' ')
	from := len(dst)
	dst = appendAddresses(dst, f.from, addresses)
	end := len(dst)
	for _, v := range [...][]byte{f.sender, f.replyTo} {
		dst = append(dst, ' ')
		start := len(dst)
		dst = appendAddresses(dst, v, addresses)
		if string(dst[start:]) == "NIL" {
			dst = append(dst[:start], dst[from:end]...)
		}
	}
	for _, v := range [...][]byte{f.to, f.cc, f.bcc} {
		dst = append(dst, ' ')
		dst = appendAddresses(dst, v, addresses)
	}
	dst = append(dst, ' ')
	dst = appendFieldString(dst, f.inReplyTo)
	dst = append(dst, ' ')
	dst = appendFieldString(dst, f.messageID)
	return append(dst, ')')
}

// appendFieldString appends an unfolded value; NIL only for an absent field.
func appendFieldString(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "NIL"...)
	}
	return appendString(dst, unfold(v))
}

// appendAddresses appends an address list, or NIL for one without addresses.
func appendAddresses(dst, v []byte, addresses *int) []byte {
	start := len(dst)
	p := addressParser{src: v}
	for {
		a, ok := p.next()
		if !ok {
			break
		}
		if *addresses--; *addresses < 0 && a.kind != addressGroupEnd {
			if p.inGroup && a.kind != addressGroupStart {
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
