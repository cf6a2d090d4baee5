package imapserver

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/message"
)

// binary is RFC 3516: parts with their transfer encoding undone, and literal8
// in APPEND, which Call.ReadMessage takes. IMAP4rev2 has the FETCH items, so they
// are there for a back end that stores no NULs, too.
func binary() *Extension {
	return &Extension{
		Name: "BINARY", RFC: "3516",
		Capabilities: []Capability{{Name: "BINARY", When: withFeature(FeatureBinary)}},
		FetchItems: []*FetchItem{
			{Name: "BINARY", Parse: parseBinary(true)},
			{Name: "BINARY.PEEK", Parse: parseBinary(false)},
			{Name: "BINARY.SIZE", Parse: func(_ *Call, d *imapwire.Decoder, _ *FetchOptions) (*FetchAtt, error) {
				b := parseBinarySection(d)
				return &FetchAtt{Need: NeedDigest | NeedBody, Check: b.check, Write: b.writeSize, sent: b.sent("BINARY.SIZE")}, nil
			}},
		},
	}
}

// binarySection is BINARY[section]<partial>.
type binarySection struct{ bodySection }

func parseBinary(seen bool) func(*Call, *imapwire.Decoder, *FetchOptions) (*FetchAtt, error) {
	return func(_ *Call, d *imapwire.Decoder, _ *FetchOptions) (*FetchAtt, error) {
		b := parseBinarySection(d)
		b.parsePartial(d)
		return &FetchAtt{Need: NeedDigest | NeedBody, Seen: seen, Check: b.check, Write: b.write, sent: b.sent("BINARY")}, nil
	}
}

func parseBinarySection(d *imapwire.Decoder) *binarySection {
	b := &binarySection{}
	d.Byte('[')
	b.path = parsePath(d)
	if n := len(b.path); n > 0 && b.path[n-1] == 0 {
		d.Fail("a part number behind the dot", "")
	}
	d.Byte(']')
	words := make([]string, len(b.path))
	for i, n := range b.path {
		words[i] = strconv.Itoa(n)
	}
	b.name = "[" + strings.Join(words, ".") + "]"
	return b
}

// open returns the decoded octets; ok is false where there is no such part.
func (b *binarySection) open(m *FetchMessage) (r io.Reader, ok bool, err error) {
	if len(b.path) == 0 {
		return sectionReader(m.Raw, 0, m.RawSize), true, nil
	}
	p, ok := m.Digest.Part(b.path)
	if !ok {
		return nil, false, nil
	}
	at, _ := m.Digest.Section(message.Section{Path: b.path})
	body := sectionReader(m.Body, at.Start, at.End)
	if p.IsMultipart() || p.Message != nil {
		return body, true, nil // only leaf parts are encoded
	}
	r, err = message.DecodePart(p, body)
	if err != nil {
		return nil, true, &imap.Error{Kind: imap.UnknownCTE, Text: "The part has a transfer encoding that is not known", Err: err}
	}
	return r, true, nil
}

// check reports whether the part can be decoded (RFC 3516 section 4.3).
func (b *binarySection) check(m *FetchMessage) error {
	_, _, err := b.open(m)
	return err
}

// write writes the part. It is decoded twice: its size must be sent first.
func (b *binarySection) write(w *imapwire.Encoder, m *FetchMessage) error {
	count, ok, err := b.measure(m)
	if err != nil {
		return err
	}
	w.Raw("BINARY" + b.name)
	b.writeOrigin(w)
	w.SP()
	if !ok {
		w.Nil()
		return nil
	}
	from, to := b.cut(count.n)
	r, _, err := b.open(m)
	if err == nil {
		_, err = io.CopyN(io.Discard, r, from)
	}
	if err != nil {
		w.Poison(err)
		return err
	}
	return w.LiteralFrom(r, to-from, count.nul)
}

func (b *binarySection) writeSize(w *imapwire.Encoder, m *FetchMessage) error {
	count, ok, err := b.measure(m)
	if err != nil {
		return err
	}
	w.Raw("BINARY.SIZE" + b.name + " ")
	if !ok {
		w.Number(0)
		return nil
	}
	w.Number64(uint64(count.n))
	return nil
}

// measure finds how long the part is, and whether it holds NUL.
func (b *binarySection) measure(m *FetchMessage) (counter, bool, error) {
	var c counter
	r, ok, err := b.open(m)
	if err == nil && ok {
		_, err = io.Copy(&c, r)
	}
	return c, ok, err
}

// counter counts what is written to it.
type counter struct {
	n   int64
	nul bool
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.nul = c.nul || bytes.IndexByte(p, 0) >= 0
	return len(p), nil
}
