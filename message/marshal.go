package message

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// The stored forms begin with a mark and the number of the form, which is
// not that of the digest's content: that follows. Integers are varints,
// strings and octets have their length before them.
const (
	markOfDigest = 'D'
	markOfText   = 'T'
	formOfDigest = 2
	formOfText   = 1
)

// maxStoredDepth bounds the recursion of reading parts.
const maxStoredDepth = maxDepth + 1

// AppendBinary appends the stored form of d. The error is always nil.
func (d *Digest) AppendBinary(b []byte) ([]byte, error) {
	b = slices.Grow(b, d.StoredSize())
	b = append(b, markOfDigest, formOfDigest)
	b = binary.AppendUvarint(b, uint64(d.Version))
	// What is read most comes first: see UnmarshalWire.
	b = appendBlob(b, d.Envelope)
	b = appendBlob(b, d.BodyStructure)
	b = appendBlob(b, d.Body)
	b = appendBlob(b, d.Fields)
	b = append(b, packBits(d.IsReplyOrForward, d.HasSent, d.HasNUL, d.Has8BitHeader, d.Truncated))
	b = binary.AppendUvarint(b, uint64(d.Size))
	b = binary.AppendUvarint(b, uint64(d.Lines))
	b = binary.AppendVarint(b, d.SentUnix)
	b = binary.AppendVarint(b, int64(d.SentZone))
	for _, s := range [...]string{d.Preview, d.MessageID, d.Subject, d.Sort.From, d.Sort.To, d.Sort.Cc, d.Sort.DisplayFrom, d.Sort.DisplayTo} {
		b = appendBlob(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(d.References)))
	for _, s := range d.References {
		b = appendBlob(b, s)
	}
	return d.Root.append(b, 0), nil
}

// StoredSize returns about how long the stored form of d is: the memory for it.
func (d *Digest) StoredSize() int {
	n := 64 + len(d.Envelope) + len(d.BodyStructure) + len(d.Body) + len(d.Fields) + len(d.Preview) + len(d.MessageID) +
		len(d.Subject) + len(d.Sort.From) + len(d.Sort.To) + len(d.Sort.Cc) + len(d.Sort.DisplayFrom) + len(d.Sort.DisplayTo)
	for _, s := range d.References {
		n += len(s) + 2
	}
	return n + d.Root.storedSize()
}

func (p *Part) storedSize() int {
	n := 32 + len(p.Type) + len(p.Subtype) + len(p.Charset) + len(p.Disposition) + len(p.RawEncoding)
	for i := range p.Children {
		n += p.Children[i].storedSize()
	}
	if p.Message != nil {
		n += p.Message.storedSize()
	}
	return n
}

func packBits(bits ...bool) (n byte) {
	for i, on := range bits {
		if on {
			n |= 1 << i
		}
	}
	return n
}

func appendBlob[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// append writes a part; offsets are relative to base and to each other.
func (p *Part) append(b []byte, base int64) []byte {
	b = binary.AppendUvarint(b, uint64(p.HeaderStart-base))
	b = binary.AppendUvarint(b, uint64(p.BodyStart-p.HeaderStart))
	b = binary.AppendUvarint(b, uint64(p.End-p.BodyStart))
	b = binary.AppendUvarint(b, uint64(p.Lines))
	b = append(b, byte(p.Encoding)<<1|packBits(p.Message != nil))
	for _, s := range [...]string{p.Type, p.Subtype, p.Charset, p.Disposition, p.RawEncoding} {
		b = appendBlob(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Children)))
	for i := range p.Children {
		b = p.Children[i].append(b, p.BodyStart)
	}
	if p.Message != nil {
		b = p.Message.append(b, p.BodyStart)
	}
	return b
}

// UnmarshalDigest reads what [Digest.AppendBinary] wrote. The octets of the
// result are those of b; its strings are not. Damaged input gives an error of
// kind [imap.Corruption], or a digest whose offsets are in order nevertheless.
func UnmarshalDigest(b []byte) (*Digest, error) {
	r := newStoredReader(b, markOfDigest, formOfDigest)
	d := &Digest{Version: r.version(), Wire: r.wire()}
	if f := r.blob(); len(f) > 0 {
		d.Fields = f
	}
	flags := r.byte()
	d.IsReplyOrForward, d.HasSent, d.HasNUL = flags&1 != 0, flags&2 != 0, flags&4 != 0
	d.Has8BitHeader, d.Truncated = flags&8 != 0, flags&16 != 0
	d.Size, d.Lines = r.int(), r.int()
	d.SentUnix, d.SentZone = r.signed(), int16(r.signed())
	r.text = string(r.b)
	for _, s := range [...]*string{&d.Preview, &d.MessageID, &d.Subject, &d.Sort.From, &d.Sort.To, &d.Sort.Cc, &d.Sort.DisplayFrom, &d.Sort.DisplayTo} {
		*s = r.string()
	}
	if n := r.count(1); n > 0 {
		d.References = make([]string, n)
		for i := range d.References {
			d.References[i] = r.string()
		}
	}
	r.part(&d.Root, 0, d.Size, maxStoredDepth)
	if r.err == nil && len(r.b) > 0 {
		r.fail("octets behind the end")
	}
	if r.err != nil {
		return nil, &imap.Error{Op: "message: read a stored digest", Kind: imap.Corruption, Err: r.err}
	}
	return d, nil
}

// UnmarshalWire reads the Wire of what [Digest.AppendBinary] wrote, and the
// digest's Version. It allocates nothing: the result is made of octets of b.
func UnmarshalWire(b []byte) (w Wire, version uint16, err error) {
	r := newStoredReader(b, markOfDigest, formOfDigest)
	version, w = r.version(), r.wire()
	if r.err != nil {
		return Wire{}, 0, &imap.Error{Op: "message: read a stored digest", Kind: imap.Corruption, Err: r.err}
	}
	return w, version, nil
}

// AppendBinary appends the stored form of t. The error is always nil.
func (t *Text) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, markOfText, formOfText)
	b = binary.AppendUvarint(b, uint64(t.Version))
	b = append(b, packBits(t.Truncated))
	b = appendBlob(b, t.Header)
	b = appendBlob(b, t.MIME)
	return appendBlob(b, t.Body), nil
}

// UnmarshalText reads what [Text.AppendBinary] wrote. The result shares the
// memory of b. Damaged input gives an error of kind [imap.Corruption].
func UnmarshalText(b []byte) (*Text, error) {
	r := newStoredReader(b, markOfText, formOfText)
	t := &Text{Version: r.version(), Truncated: r.byte()&1 != 0}
	t.Header, t.MIME, t.Body = r.blob(), r.blob(), r.blob()
	if r.err == nil && len(r.b) > 0 {
		r.fail("octets behind the end")
	}
	if r.err != nil {
		return nil, &imap.Error{Op: "message: read a stored search text", Kind: imap.Corruption, Err: r.err}
	}
	return t, nil
}

// storedReader reads a stored form. Its first error stays, and makes all that
// follows zero.
type storedReader struct {
	b    []byte
	text string // a copy of what was left of b when strings began
	err  error
}

func newStoredReader(b []byte, mark, form byte) storedReader {
	r := storedReader{b: b}
	if r.byte() != mark {
		r.fail("not of this kind")
	}
	if r.byte() != form {
		r.fail("form not known to this version of the program")
	}
	return r
}

func (r *storedReader) version() uint16 { return uint16(r.max(1<<16 - 1)) }

func (r *storedReader) wire() (w Wire) {
	w.Envelope, w.BodyStructure, w.Body = r.blob(), r.blob(), r.blob()
	return w
}

func (r *storedReader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
	r.b = nil
}

func (r *storedReader) byte() byte {
	if len(r.b) == 0 {
		r.fail("ends too early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *storedReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *storedReader) max(limit uint64) uint64 {
	v := r.uint()
	if v > limit {
		r.fail("number out of range")
		return 0
	}
	return v
}

func (r *storedReader) int() int64 { return int64(r.max(1<<62 - 1)) }

func (r *storedReader) signed() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things of at least size octets each.
func (r *storedReader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/size) {
		r.fail("bad count")
		return 0
	}
	return int(n)
}

func (r *storedReader) blob() []byte {
	n := r.count(1)
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// string reads a string out of text.
func (r *storedReader) string() string {
	n := r.count(1)
	if n == 0 {
		return ""
	}
	from := len(r.text) - len(r.b)
	r.b = r.b[n:]
	return r.text[from : from+n]
}

// part reads a part that lies between base and limit.
func (r *storedReader) part(p *Part, base, limit int64, depth int) {
	if depth == 0 {
		r.fail("parts nested too deeply")
		return
	}
	p.HeaderStart = base + r.int()
	p.BodyStart = p.HeaderStart + r.int()
	p.End = p.BodyStart + r.int()
	if p.HeaderStart > limit || p.BodyStart > limit || p.End > limit ||
		p.HeaderStart < 0 || p.BodyStart < 0 || p.End < 0 {
		r.fail("part out of range")
		return
	}
	p.Lines = r.int()
	flags := r.byte()
	p.Encoding = Encoding(flags >> 1)
	if p.Encoding > EncodingUnknown {
		r.fail("unknown encoding")
	}
	for _, s := range [...]*string{&p.Type, &p.Subtype, &p.Charset, &p.Disposition, &p.RawEncoding} {
		*s = r.string()
	}
	const smallest = 11 // octets of a part
	if n := r.count(smallest); n > 0 {
		p.Children = make([]Part, n)
		for i := range p.Children {
			r.part(&p.Children[i], p.BodyStart, p.End, depth-1)
		}
	}
	if flags&1 != 0 && r.err == nil {
		p.Message = new(Part)
		r.part(p.Message, p.BodyStart, p.End, depth-1)
	}
}
