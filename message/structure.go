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
	isRoot := len(p.stack) == 1
	isMessage := isRoot || p.stack[len(p.stack)-2].message == n
	where := &p.text.mime
	switch {
	case isRoot:
		where = &p.text.header
	case isMessage:
		where = &p.text.bodyText
	}
	if !p.d.Has8BitHeader && !isASCII(p.hdr) {
		p.d.Has8BitHeader = true
	}
	p.readFields(where, isRoot && !p.noWire && int64(len(p.hdr)) == n.BodyStart-n.HeaderStart)
	t := p.contentFields(n, len(p.stack) > 1 && p.stack[len(p.stack)-2].isDigest())
	if n.Type == "multipart" && n.kind == nodeLeaf { // without a boundary
		p.unopened(n)
	} else if !p.noWire {
		p.renderType(n, &t)
	}
	if p.noWire {
		return
	}
	p.otherFields(n)
	if isMessage {
		n.wire.envelope = p.render(p.appendEnvelope)
		p.d.Truncated = p.d.Truncated || p.addrsLeft < 0
	}
	if isRoot {
		p.deriveKeys()
	}
}

// readFields finds the fields that count in p.hdr, and has the text collected; keep
// says that this is the message's header, and all of it.
func (p *parser) readFields(text *textSink, keep bool) {
	p.fields, p.values = headerFields{}, p.values[:0]
	for h := p.hdr; ; {
		l, rest, ok := nextHeaderLine(h)
		if !ok {
			if keep {
				p.kept = p.kept.end(rest)
			}
			return
		}
		h = rest
		if l.name == nil {
			continue
		}
		name := fieldOf(l.name)
		if keep {
			p.kept = p.kept.add(name, l.raw)
		}
		if p.fieldsLeft--; p.fieldsLeft < 0 {
			p.d.Truncated = true
			continue
		}
		if name != 0 {
			p.fields.set(name, l.value)
		}
		p.text.field(text, l.name, l.value)
	}
}

func (n *node) isDigest() bool { return n.kind == nodeMultipart && n.Subtype == "digest" }

// render appends to p.wire and returns where.
func (p *parser) render(f func([]byte) []byte) span {
	from := len(p.wire)
	p.wire = f(p.wire)
	return span{from, len(p.wire)}
}

// contentType is a Content-Type taken apart.
type contentType struct {
	typ, subtype []byte
	params       []param
}

// contentFields reads the fields that say how the body of n is to be read; digest says
// that n is a part of a multipart/digest.
func (p *parser) contentFields(n *node, digest bool) contentType {
	f, w := &p.fields, &n.wire
	t := p.readContentType(f[fieldContentType], digest)
	t.params = joinContinuations(t.params)
	n.Type, n.Subtype = lowerString(t.typ), lowerString(t.subtype)
	n.Charset = lowerString(trimSpace(paramValue(t.params, "charset")))
	w.format.flowed = bytes.EqualFold(findParam(t.params, "format"), []byte("flowed"))
	w.format.delSp = bytes.EqualFold(findParam(t.params, "delsp"), []byte("yes"))
	n.RawEncoding, n.Encoding = p.readEncoding(f[fieldContentTransferEncoding])

	boundary := trimBlanks(paramValue(t.params, "boundary"))
	switch {
	case n.Type == "multipart" && len(boundary) > 0 && len(boundary) <= maxBoundary:
		n.kind, n.boundary = nodeMultipart, append(n.boundary, boundary...)
	case n.Type == "message" && (n.Subtype == "rfc822" || n.Subtype == "global"):
		n.kind = nodeMessage
	}
	return t
}

// renderType renders the Content-Type of n.
func (p *parser) renderType(n *node, t *contentType) {
	if w := &n.wire; n.kind == nodeMultipart {
		w.params = p.render(func(b []byte) []byte { return appendParams(b, t.params, false) })
		w.subtype = p.render(func(b []byte) []byte { return appendString(b, t.subtype) })
		return
	}
	n.wire.leafType = p.render(func(b []byte) []byte {
		b = appendString(b, t.typ)
		b = append(b, ' ')
		b = appendString(b, t.subtype)
		b = append(b, ' ')
		return appendParams(b, t.params, n.Type == "text")
	})
}

// maxBoundary is the longest boundary that is heeded; RFC 2046 allows 70.
const maxBoundary = 1000

// otherFields renders what BODYSTRUCTURE has of the other fields of n.
func (p *parser) otherFields(n *node) {
	f, w := &p.fields, &n.wire
	w.basic = p.render(func(b []byte) []byte {
		b = p.appendValue(b, f[fieldContentID])
		b = append(b, ' ')
		b = p.appendValue(b, f[fieldContentDescription])
		b = append(b, ' ')
		if n.RawEncoding == "" {
			return append(b, `"7bit"`...)
		}
		return appendString(b, []byte(n.RawEncoding))
	})
	w.md5 = p.render(func(b []byte) []byte { return p.appendValue(b, f[fieldContentMD5]) })
	w.tail = p.render(func(b []byte) []byte {
		value, params := p.splitParams(f[fieldContentDisposition])
		n.Disposition = lowerString(value)
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
		b = p.appendLanguages(b, f[fieldContentLanguage])
		b = append(b, ' ')
		return p.appendValue(b, f[fieldContentLocation])
	})
}

// splitParams is [splitParams] for a field that may be folded. The parameters are valid
// until it is called again.
func (p *parser) splitParams(v []byte) (value []byte, params []param) {
	value, params = splitParams(p.params[:0], p.values.unfold(v))
	p.params = params
	return value, params
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
func (p *parser) readContentType(v []byte, digest bool) contentType {
	if v == nil && digest {
		return contentType{p.values.put("message"), p.values.put("rfc822"), nil}
	}
	value, params := p.splitParams(v)
	typ, subtype, slash := bytes.Cut(value, []byte{'/'})
	typ, subtype = trimSpace(typ), trimSpace(subtype)
	switch {
	case slash && isFieldName(typ) && isFieldName(subtype):
		return contentType{typ, subtype, params}
	case !slash && bytes.EqualFold(typ, []byte("text")):
		return contentType{typ, p.values.put("plain"), params}
	}
	return contentType{p.values.put("text"), p.values.put("plain"), nil}
}

// readEncoding returns the name of a transfer encoding, without comments and
// what else may stand there, and what it is.
func (p *parser) readEncoding(v []byte) (name string, enc Encoding) {
	if v == nil {
		return "", Encoding7Bit
	}
	s := paramScanner{src: p.values.unfold(v)}
	token := bytes.Trim(s.token(endsValue), `"'`)
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
	return frequentString(token), enc
}

// lowerString returns b in lower case, without memory of its own for what is frequent.
func lowerString(b []byte) string {
	var buf [32]byte
	if low := lowerName(&buf, b); len(low) == len(b) && isASCII(low) {
		return frequentString(low)
	}
	return string(bytes.ToLower(b))
}

// frequentString is string(b), without memory of its own for what most messages have.
func frequentString(b []byte) string {
	switch string(b) {
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
	case "utf-8":
		return "utf-8"
	case "us-ascii":
		return "us-ascii"
	case "iso-8859-1":
		return "iso-8859-1"
	case "7bit":
		return "7bit"
	case "8bit":
		return "8bit"
	case "quoted-printable":
		return "quoted-printable"
	case "base64":
		return "base64"
	case "inline":
		return "inline"
	case "attachment":
		return "attachment"
	}
	return string(b)
}

// appendLanguages appends body-fld-lang: NIL or a list.
func (p *parser) appendLanguages(dst, v []byte) []byte {
	start := len(dst)
	v = p.values.unfold(v)
	for more := true; more; {
		var tag []byte
		tag, v, more = bytes.Cut(v, []byte{','})
		s := paramScanner{src: tag}
		if tag = s.token(endsTag); len(tag) == 0 {
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
	out := append(p.out[:0], p.piece(root.wire.envelope)...)
	envelope := len(out)
	out = p.appendBody(out, root, false)
	body := len(out)
	out = p.appendBody(out, root, true)
	structure := len(out)
	if len(p.kept) <= maxFields {
		out = append(out, p.kept...)
	}
	p.out = out
	all := bytes.Clone(out)
	d.Envelope, d.Body, d.BodyStructure = all[:envelope:envelope], all[envelope:body:body], all[body:structure:structure]
	if structure < len(all) {
		d.Fields = all[structure:len(all):len(all)]
	}
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
