package mailstore

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/message"
)

// The search text of a message is kept compressed, in frames that a search can
// stop between: most of what is found stands in the header or in the beginning
// of the body, and BODY does not look at the header at all. S2 is chosen for its
// speed: in half of the space, a text is read in less time than without, and
// zstd's further quarter would cost three times the time of a search. It is done
// once, before the engine writes the record into its log, into a table, and into
// the tables that this one is merged with.
//
//	'Z'            its form
//	version        message.Version of the text
//	flags          1: truncated
//	header, MIME, body: their lengths
//	frames         length, S2 block: header and MIME; the first textHead bytes
//	               of the body; the rest of the body. Empty ones are left out.

const (
	textForm = 'Z'
	textHead = 2 << 10
)

// A textPacker makes records of texts, and keeps its memory in between.
type textPacker struct{ head, packed []byte }

// keepPacking is what a textPacker keeps of either at most.
const keepPacking = 256 << 10

func (p *textPacker) pack(t *message.Text) (record []byte) {
	flags := uint64(0)
	if t.Truncated {
		flags = 1
	}
	head := t.Header
	if len(t.MIME) > 0 {
		p.head = append(append(p.head[:0], t.Header...), t.MIME...)
		head = p.head
	}
	cut := min(textHead, len(t.Body))
	parts := [...][]byte{head, t.Body[:cut], t.Body[cut:]}
	room := 32
	for _, part := range parts {
		room += binary.MaxVarintLen32 + s2.MaxEncodedLen(len(part))
	}
	if room > cap(p.packed) {
		p.packed = make([]byte, room)
	}
	b := append(p.packed[:0], textForm)
	b = appendUints(b, uint64(t.Version), flags, uint64(len(t.Header)), uint64(len(t.MIME)), uint64(len(t.Body)))
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		// The block goes to where it stays, behind the longest length.
		at := len(b) + binary.MaxVarintLen32
		block := s2.Encode(b[at:cap(b)], part)
		b = append(binary.AppendUvarint(b, uint64(len(block))), block...)
	}
	record = slices.Clone(b)
	if cap(p.head) > keepPacking || cap(p.packed) > keepPacking {
		*p = textPacker{}
	}
	return record
}

// textRecord is a stored text that is not read yet.
type textRecord struct {
	version            uint16
	truncated          bool
	header, mime, body int
	frames             [3][]byte // compressed
}

var errText = imap.E("mailstore: read search text", imap.Corruption, errDamaged)

// maxText bounds the length of a text that is believed.
const maxText = 64 << 20

// openText looks at a record. The result refers to data.
func openText(data []byte) (t textRecord, err error) {
	if len(data) == 0 || data[0] != textForm {
		return t, errText
	}
	d := decoder{data: data[1:]}
	version, flags := d.uint(), d.uint()
	header, mime, body := d.uint(), d.uint(), d.uint()
	if d.bad || version > 1<<16-1 || max(header, mime, body) > maxText {
		return t, errText
	}
	t = textRecord{version: uint16(version), truncated: flags&1 != 0, header: int(header), mime: int(mime), body: int(body)}
	for i, want := range t.sizes() {
		if want == 0 {
			continue
		}
		t.frames[i] = d.bytes()
		if n, err := s2.DecodedLen(t.frames[i]); err != nil || n != want {
			return t, errText
		}
	}
	if d.bad || len(d.data) > 0 {
		return t, errText
	}
	return t, nil
}

// sizes returns the lengths of the frames' contents.
func (t *textRecord) sizes() [3]int {
	head := min(textHead, t.body)
	return [3]int{t.header + t.mime, head, t.body - head}
}

// text reads the text as a whole, into buf, which has its length and belongs to
// the text then.
func (t *textRecord) text(buf []byte) (*message.Text, error) {
	at := 0
	for i, size := range t.sizes() {
		if err := t.frame(i, buf[at:at+size]); err != nil {
			return nil, err
		}
		at += size
	}
	cut := func(n int) []byte {
		part := buf[:n:n]
		buf = buf[n:]
		return part
	}
	return &message.Text{Version: t.version, Truncated: t.truncated, Header: cut(t.header), MIME: cut(t.mime), Body: cut(t.body)}, nil
}

// frame decompresses a frame into dst, which has its length.
func (t *textRecord) frame(i int, dst []byte) error {
	if len(dst) == 0 {
		return nil
	}
	got, err := s2.Decode(dst, t.frames[i])
	if err != nil || len(got) != len(dst) {
		return errText
	}
	return nil
}

// textMatcher looks into texts, one after the other.
type textMatcher struct {
	key message.Key
	buf []byte // what was decompressed last
}

// room returns n bytes of buf.
func (m *textMatcher) room(n int) []byte {
	if n > cap(m.buf) {
		m.buf = make([]byte, n+n/4)
	}
	return m.buf[:n]
}

// match reports what message.Text.Match would. It reads no more of the text than
// it must.
func (m *textMatcher) match(t *textRecord) (found bool, err error) {
	sizes := t.sizes()
	if m.key.Where != message.InHeader {
		body := m.room(t.body)
		for i, from, to := 1, 0, 0; i < len(sizes); i++ {
			to += sizes[i]
			if err := t.frame(i, body[from:to]); err != nil {
				return false, err
			}
			// What was found in the frame before would have ended the search;
			// what begins in it and goes on here has not been seen.
			part := message.Text{Body: body[max(0, from-len(m.key.Needle)):to]}
			if part.MatchBody(m.key.Needle) {
				return true, nil
			}
			from = to
		}
		if m.key.Where == message.InBody {
			return false, nil
		}
	}
	head := m.room(sizes[0])
	if err := t.frame(0, head); err != nil {
		return false, err
	}
	part := message.Text{Header: head[:t.header], MIME: head[t.header:]}
	return part.Match(m.key), nil
}

// bytes reads what appendString wrote, without copying it.
func (d *decoder) bytes() []byte {
	n, k := binary.Uvarint(d.data)
	if k <= 0 || n > uint64(len(d.data)-k) {
		d.data, d.bad = nil, true
		return nil
	}
	b := d.data[k : k+int(n) : k+int(n)]
	d.data = d.data[k+int(n):]
	return b
}

// currentText reads a text, and returns nil where that is damaged or of an
// older version.
func currentText(data []byte) *message.Text {
	t, _ := currentTextIn(data, nil)
	return t
}

// currentTextIn is currentText that uses a buffer, and returns it or a larger one.
func currentTextIn(data, buf []byte) (*message.Text, []byte) {
	rec, err := openText(data)
	if err != nil {
		return nil, buf
	}
	buf = sized(buf, int64(rec.header+rec.mime+rec.body))
	t, err := rec.text(buf)
	if err != nil || t.Version < message.Version {
		return nil, buf
	}
	return t, buf
}
