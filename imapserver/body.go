package imapserver

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/message"
)

// bodyPart says what a section names of a part.
type bodyPart uint8

const (
	partAll bodyPart = iota
	partHeader
	partFields    // HEADER.FIELDS
	partFieldsNot // HEADER.FIELDS.NOT
	partText
	partMIME
)

// bodySection is BODY[section]<partial>, or one of its RFC822 names.
type bodySection struct {
	name    string // as it is sent, up to "]"
	path    []int
	part    bodyPart
	fields  []string
	kept    message.FieldSet // what fields are, where need is NeedFields
	need    Need
	partial bool
	from, n int64
}

// parseBody reads BODY and BODY.PEEK (RFC 9051 section 6.4.5): BODY alone is
// the structure without extension data.
func parseBody(seen bool) func(*Call, *imapwire.Decoder, *FetchOptions) (*FetchAtt, error) {
	structure := wireItem("BODY", func(m *FetchMessage) []byte { return m.Wire.Body }).Att
	return func(c *Call, d *imapwire.Decoder, _ *FetchOptions) (*FetchAtt, error) {
		if seen && d.Peek() != '[' {
			return structure, nil
		}
		b := &bodySection{}
		d.Byte('[')
		b.parseSection(d)
		d.Byte(']')
		b.parsePartial(d)
		b.name = "BODY[" + b.spec(c) + "]"
		return b.att(seen), nil
	}
}

// parseSection reads section-spec.
func (b *bodySection) parseSection(d *imapwire.Decoder) {
	b.path = parsePath(d)
	if d.Peek() == ']' {
		if n := len(b.path); n > 0 && b.path[n-1] == 0 {
			d.Fail("HEADER, TEXT, MIME or a part number behind the dot", "")
		}
		return
	}
	if n := len(b.path); n > 0 && b.path[n-1] == 0 {
		b.path = b.path[:n-1]
	} else if n > 0 {
		d.Fail("a dot or ] behind the part number", "")
	}
	const texts = "HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME or a part number"
	switch word := keyword(d, texts); word {
	case "HEADER":
		b.part = partHeader
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		b.part = partFields
		if word == "HEADER.FIELDS.NOT" {
			b.part = partFieldsNot
		}
		d.SP()
		d.NonEmptyList(func() { b.fields = append(b.fields, d.Astring()) })
	case "TEXT":
		b.part = partText
	case "MIME":
		b.part = partMIME
		if len(b.path) == 0 {
			d.Fail("a part number before MIME", "")
		}
	default:
		d.Fail(texts, word)
	}
}

// parsePath reads part numbers with dots between them. A dot at the end, which
// a word follows, is returned as a last 0.
func parsePath(d *imapwire.Decoder) []int {
	var path []int
	for c := d.Peek(); '0' <= c && c <= '9'; c = d.Peek() {
		path = append(path, int(d.NzNumber()))
		if len(path) > 1000 {
			d.Fail("a section with fewer part numbers", "")
		}
		if !d.TryByte('.') {
			return path
		}
	}
	if len(path) > 0 {
		path = append(path, 0)
	}
	return path
}

// parsePartial reads <first.count>.
func (b *bodySection) parsePartial(d *imapwire.Decoder) {
	if !d.TryByte('<') {
		return
	}
	b.partial = true
	b.from = d.Number64()
	d.Byte('.')
	b.n = d.Number64()
	if d.Err() == nil && b.n == 0 {
		d.Fail("a count greater than zero", "0")
	}
	d.Byte('>')
}

// spec is the section as it is sent back: the client's, in capitals.
func (b *bodySection) spec(c *Call) string {
	var words []string
	for _, n := range b.path {
		words = append(words, strconv.Itoa(n))
	}
	switch b.part {
	case partHeader:
		words = append(words, "HEADER")
	case partFields:
		words = append(words, "HEADER.FIELDS")
	case partFieldsNot:
		words = append(words, "HEADER.FIELDS.NOT")
	case partText:
		words = append(words, "TEXT")
	case partMIME:
		words = append(words, "MIME")
	}
	spec := strings.Join(words, ".")
	if b.fields != nil {
		list := []byte(" (")
		for i, f := range b.fields {
			if i > 0 {
				list = append(list, ' ')
			}
			list = imapwire.AppendAstring(list, f, c.Conn.enc.Mode())
		}
		spec += string(list) + ")"
	}
	return spec
}

// att returns the item.
func (b *bodySection) att(seen bool) *FetchAtt {
	switch kept, ok := message.FieldSetOf(b.fields); {
	case len(b.path) > 0:
		b.need = NeedDigest | NeedBody
	case b.part == partFields && ok:
		b.need, b.kept = NeedFields, kept
	case b.part == partHeader || b.fields != nil:
		b.need = NeedHeader
	case b.part == partAll:
		b.need = NeedBody
	default:
		b.need = NeedDigest | NeedBody
	}
	return &FetchAtt{Need: b.need, Seen: seen, Write: b.write, sent: b.sent("")}
}

// write writes the section's octets, or NIL where there is no such section.
func (b *bodySection) write(w *imapwire.Encoder, m *FetchMessage) error {
	switch b.need {
	case NeedFields:
		if len(m.Fields) > 0 {
			m.from.fields = m.Fields.Append(m.from.fields[:0], b.kept)
			b.writeLiteral(w, m.from.fields)
			return nil
		}
		fallthrough
	case NeedHeader:
		b.writeHeader(w, m.Header)
		return nil
	case NeedBody:
		return b.writeRange(w, m, message.Range{End: m.Size})
	}
	kind := message.SectionBody
	switch b.part {
	case partHeader, partFields, partFieldsNot:
		kind = message.SectionHeader
	case partText:
		kind = message.SectionText
	case partMIME:
		kind = message.SectionMIME
	}
	r, ok := m.Digest.Section(message.Section{Path: b.path, Kind: kind})
	if !ok {
		w.Raw(b.name)
		b.writeOrigin(w)
		w.Raw(" NIL")
		return nil
	}
	if b.fields != nil {
		header := make([]byte, r.Len())
		if _, err := m.Body.ReadAt(header, r.Start); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b.writeHeader(w, header)
		return nil
	}
	return b.writeRange(w, m, r)
}

// writeRange writes a range of the message.
func (b *bodySection) writeRange(w *imapwire.Encoder, m *FetchMessage, r message.Range) error {
	from, to := b.cut(r.Len())
	w.Raw(b.name)
	b.writeOrigin(w)
	w.SP()
	return w.LiteralFrom(sectionReader(m.Body, r.Start+from, r.Start+to), to-from, false)
}

// writeHeader writes a header or the fields of it that are asked for.
func (b *bodySection) writeHeader(w *imapwire.Encoder, header []byte) {
	if b.fields != nil {
		header = message.FilterHeader(nil, header, b.fields, b.part == partFieldsNot)
	}
	b.writeLiteral(w, header)
}

// writeLiteral writes what is asked for of octets.
func (b *bodySection) writeLiteral(w *imapwire.Encoder, p []byte) {
	from, to := b.cut(int64(len(p)))
	w.Raw(b.name)
	b.writeOrigin(w)
	w.SP()
	w.Literal(p[from:to])
}

// cut returns what a partial fetch takes of n octets; beyond the end it is
// nothing.
func (b *bodySection) cut(n int64) (from, to int64) {
	if !b.partial {
		return 0, n
	}
	from = min(b.from, n)
	return from, from + min(b.n, n-from)
}

// sent tells items with the same answer from others.
func (b *bodySection) sent(item string) string {
	key := item + b.name
	if b.partial {
		key += "<" + decimal(b.from) + "." + decimal(b.n) + ">"
	}
	return key
}

func (b *bodySection) writeOrigin(w *imapwire.Encoder) {
	if b.partial {
		w.Raw("<")
		w.Number64(uint64(b.from))
		w.Raw(">")
	}
}
