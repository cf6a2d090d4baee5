package message

import (
	"bytes"
	"strconv"
)

// span is a range of parser.wire.
type span struct{ from, to int }

// wireFields are the pieces of a part's BODYSTRUCTURE that its header decides.
type wireFields struct {
	// leafType is type, subtype and parameters of a part that is no multipart.
	leafType span
	// subtype and params are those of a multipart.
	subtype, params span
	// basic is id, description and encoding.
	basic span
	md5   span
	// tail is disposition, language and location.
	tail     span
	envelope span // of a message
	format   textFormat
}

// Types of composite parts that are not taken apart.
const (
	plainType  = `"text" "plain" ("charset" "us-ascii")`
	octetsType = `"application" "octet-stream" NIL`
)

// readHeader digests the header in p.hdr, which is that of n.
func (p *parser) readHeader(n *node) {
	isMessage := len(p.stack) == 1 || p.stack[len(p.stack)-2].message == n
	p.fields = headerFields{}
	where := &p.text.mime
	switch {
	case len(p.stack) == 1:
		where = &p.text.header
	case isMessage:
		where = &p.text.bodyText
	}
	if !p.d.Has8BitHeader && !isASCII(p.hdr) {
		p.d.Has8BitHeader = true
	}
	for h := p.hdr; ; {
		l, rest, ok := nextHeaderLine(h)
		if !ok {
			break
		}
		h = rest
		if l.name == nil {
			continue
		}
		if p.fieldsLeft--; p.fieldsLeft < 0 {
			p.d.Truncated = true
			break
		}
		p.fields.set(l.name, l.value)
		p.text.field(where, l.name, l.value)
	}
	p.contentFields(n, len(p.stack) > 1 && p.stack[len(p.stack)-2].isDigest())
	if isMessage {
		n.wire.envelope = p.render(func(w []byte) []byte { return appendEnvelope(w, &p.fields, &p.addrsLeft) })
		p.d.Truncated = p.d.Truncated || p.addrsLeft < 0
	}
	if len(p.stack) == 1 {
		p.d.deriveKeys(&p.fields)
		if int64(len(p.hdr)) == n.BodyStart-n.HeaderStart { // all of it was kept
			p.d.Fields = makeFields(p.hdr)
		}
	}
}

func (n *node) isDigest() bool { return n.kind == nodeMultipart && n.Subtype == "digest" }

// render appends to p.wire and returns where.
func (p *parser) render(f func([]byte) []byte) span {
	from := len(p.wire)
	p.wire = f(p.wire)
	return span{from, len(p.wire)}
}

// contentFields reads the content fields of n from p.fields; digest says that
// n is a part of a multipart/digest.
func (p *parser) contentFields(n *node, digest bool) {
	f, w := &p.fields, &n.wire
	typ, subtype, params := readContentType(f.contentType, digest)
	params = joinContinuations(params)
	n.Type, n.Subtype = lowerType(typ), lowerType(subtype)
	n.Charset = string(bytes.ToLower(trimSpace(paramValue(params, "charset"))))
	w.format.flowed = bytes.EqualFold(findParam(params, "format"), []byte("flowed"))
	w.format.delSp = bytes.EqualFold(findParam(params, "delsp"), []byte("yes"))
	n.RawEncoding, n.Encoding = readEncoding(f.encoding)

	boundary := bytes.TrimRight(paramValue(params, "boundary"), " \t")
	usable := len(boundary) > 0 && len(boundary) <= maxBoundary
	switch {
	case n.Type == "multipart" && usable:
		n.kind, n.boundary = nodeMultipart, bytes.Clone(boundary)
	case n.Type == "message" && (n.Subtype == "rfc822" || n.Subtype == "global"):
		n.kind = nodeMessage
	}
	w.params = p.render(func(b []byte) []byte { return appendParams(b, params, false) })
	w.subtype = p.render(func(b []byte) []byte { return appendString(b, subtype) })
	w.leafType = p.render(func(b []byte) []byte {
		b = appendString(b, typ)
		b = append(b, ' ')
		b = appendString(b, subtype)
		b = append(b, ' ')
		return appendParams(b, params, n.Type == "text")
	})
	if n.Type == "multipart" && !usable {
		p.unopened(n)
	}
	p.otherFields(n)
}

// maxBoundary is the longest boundary that is heeded; RFC 2046 allows 70.
const maxBoundary = 1000

func (p *parser) otherFields(n *node) {
	f, w := &p.fields, &n.wire
	w.basic = p.render(func(b []byte) []byte {
		b = appendFieldString(b, f.id)
		b = append(b, ' ')
		b = appendFieldString(b, f.description)
		b = append(b, ' ')
		if n.RawEncoding == "" {
			return append(b, `"7bit"`...)
		}
		return appendString(b, []byte(n.RawEncoding))
	})
	w.md5 = p.render(func(b []byte) []byte { return appendFieldString(b, f.md5) })
	w.tail = p.render(func(b []byte) []byte {
		value, params := splitParams(unfold(f.disposition))
		n.Disposition = string(bytes.ToLower(value))
		if len(value) == 0 {
			b = append(b, "NIL"...)
		} else {
			b = append(b, '(')
			b = appendString(b, value)
			b = append(b, ' ')
			b = appendParams(b, joinContinuations(params), false)
			b = append(b, ')')
		}
		b = append(b, ' ')
		b = appendLanguages(b, f.language)
		b = append(b, ' ')
		return appendFieldString(b, f.location)
	})
}

// unopened makes a leaf of a multipart or message that is not taken apart.
func (p *parser) unopened(n *node) {
	typ := plainType
	if n.Type == "multipart" {
		n.Type, n.Subtype, n.Charset = "text", "plain", ""
	} else {
		typ = octetsType
		n.Type, n.Subtype, n.Charset = "application", "octet-stream", ""
	}
	n.kind = nodeLeaf
	n.wire.leafType = p.render(func(b []byte) []byte { return append(b, typ...) })
	n.wire.format = textFormat{}
}

// readContentType takes a Content-Type apart; it gives the default of RFC 2045
// section 5.2 for one that is absent or no type.
func readContentType(v []byte, digest bool) (typ, subtype []byte, params []param) {
	if v == nil && digest {
		return []byte("message"), []byte("rfc822"), nil
	}
	value, params := splitParams(unfold(v))
	typ, subtype, slash := bytes.Cut(value, []byte{'/'})
	typ, subtype = trimSpace(typ), trimSpace(subtype)
	switch {
	case slash && isFieldName(typ) && isFieldName(subtype):
		return typ, subtype, params
	case !slash && bytes.EqualFold(typ, []byte("text")):
		return typ, []byte("plain"), params
	}
	return []byte("text"), []byte("plain"), nil
}

// readEncoding returns the name of a transfer encoding, without comments and
// what else may stand there, and what it is.
func readEncoding(v []byte) (name string, enc Encoding) {
	if v == nil {
		return "", Encoding7Bit
	}
	s := paramScanner{src: unfold(v)}
	token := bytes.Trim(s.token("; \t("), `"'`)
	var buf [32]byte
	switch string(lowerName(&buf, token)) {
	case "7bit", "7-bit":
		enc = Encoding7Bit
	case "8bit", "8-bit":
		enc = Encoding8Bit
	case "binary":
		enc = EncodingBinary
	case "quoted-printable":
		enc = EncodingQuotedPrintable
	case "base64":
		enc = EncodingBase64
	default:
		if enc = EncodingUnknown; len(token) == 0 {
			enc = Encoding7Bit
		}
	}
	return string(token), enc
}

// lowerType returns a type or subtype in lower case, without memory of its own
// for frequent ones.
func lowerType(b []byte) string {
	var buf [32]byte
	switch low := lowerName(&buf, b); string(low) {
	case "text":
		return "text"
	case "plain":
		return "plain"
	case "html":
		return "html"
	case "multipart":
		return "multipart"
	case "mixed":
		return "mixed"
	case "alternative":
		return "alternative"
	}
	return string(bytes.ToLower(b))
}

// appendLanguages appends body-fld-lang: NIL or a list.
func appendLanguages(dst, v []byte) []byte {
	start := len(dst)
	v = unfold(v)
	for more := true; more; {
		var tag []byte
		tag, v, more = bytes.Cut(v, []byte{','})
		s := paramScanner{src: tag}
		if tag = s.token("(;"); len(tag) == 0 {
			continue
		}
		if len(dst) == start {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, tag)
	}
	if len(dst) == start {
		return append(dst, "NIL"...)
	}
	return append(dst, ')')
}

// digest puts the digest together when all has been read.
func (p *parser) digest() *Digest {
	d, root := p.d, p.stack[0]
	p.settle(root)
	d.Envelope = bytes.Clone(p.piece(root.wire.envelope))
	d.Body = p.appendBody(make([]byte, 0, len(p.wire)), root, false)
	d.BodyStructure = p.appendBody(make([]byte, 0, 2*len(p.wire)), root, true)
	d.Body = bytes.Clone(d.Body)
	d.BodyStructure = bytes.Clone(d.BodyStructure)
	root.fill(&d.Root)
	return d
}

// settle makes leaves of multiparts without parts.
func (p *parser) settle(n *node) {
	if n.kind == nodeMultipart && len(n.kids) == 0 {
		p.unopened(n)
	}
	for _, k := range n.kids {
		p.settle(k)
	}
	if n.message != nil {
		p.settle(n.message)
	}
}

// fill writes the finished part to dst.
func (n *node) fill(dst *Part) {
	*dst = n.Part
	if len(n.kids) > 0 {
		dst.Children = make([]Part, len(n.kids))
		for i, k := range n.kids {
			k.fill(&dst.Children[i])
		}
	}
	if n.message != nil {
		dst.Message = new(Part)
		n.message.fill(dst.Message)
	}
}

func (p *parser) piece(s span) []byte { return p.wire[s.from:s.to] }

// appendBody appends BODY, or BODYSTRUCTURE where extended is set (RFC 9051
// section 9, body).
func (p *parser) appendBody(dst []byte, n *node, extended bool) []byte {
	w := &n.wire
	add := func(s span) { dst = append(append(dst, ' '), p.piece(s)...) }
	number := func(v int64) { dst = strconv.AppendInt(append(dst, ' '), v, 10) }
	dst = append(dst, '(')
	if n.kind == nodeMultipart {
		for _, k := range n.kids {
			dst = p.appendBody(dst, k, extended)
		}
		add(w.subtype)
		if extended {
			add(w.params)
			add(w.tail)
		}
		return append(dst, ')')
	}
	dst = append(dst, p.piece(w.leafType)...)
	add(w.basic)
	number(n.Size())
	if n.kind == nodeMessage {
		add(n.message.wire.envelope)
		dst = append(dst, ' ')
		dst = p.appendBody(dst, n.message, extended)
	}
	if n.kind == nodeMessage || n.Type == "text" {
		number(n.Lines)
	}
	if extended {
		add(w.md5)
		add(w.tail)
	}
	return append(dst, ')')
}
