package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
)

// ServedReader returns the form in which a stored message of the given size
// is served. Without NUL octets that is the message itself. Else the grammar
// of IMAP does not allow it as BODY[], and:
//
//   - a part without parts whose body holds NUL is encoded again, in base64,
//     and its Content-Transfer-Encoding field replaced, or added behind its
//     other fields, so that BINARY gives the octets that came in;
//   - all other NULs (in headers, between parts, in parts of unknown transfer
//     encoding) become 0x80;
//   - nothing else changes.
//
// The result holds no NUL, so to serve it again changes nothing. raw must not
// change while the reader is in use. Errors are those of raw.
func ServedReader(raw io.ReaderAt, size int64, lim Limits) (io.Reader, error) {
	var p parser
	p.begin(new(Digest), lim.withDefaults(), &textCollector{off: true})
	p.noWire = true
	whole := io.NewSectionReader(raw, 0, size)
	if err := p.read(whole, make([]byte, readBuffer)); err != nil {
		return nil, err
	}
	if !p.d.HasNUL {
		return io.NewSectionReader(raw, 0, size), nil
	}
	s := servedPlan{raw: raw, size: size}
	p.settle(p.stack[0])
	if err := s.part(p.stack[0]); err != nil {
		return nil, err
	}
	s.masked(size)
	return io.MultiReader(s.pieces...), nil
}

// Served is [ServedReader] for a message in memory, with default limits. It
// returns raw itself where that holds no NUL.
func Served(raw []byte) []byte {
	if bytes.IndexByte(raw, 0) < 0 {
		return raw
	}
	r, err := ServedReader(bytes.NewReader(raw), int64(len(raw)), Limits{})
	if err == nil {
		var out []byte
		if out, err = io.ReadAll(r); err == nil {
			return out
		}
	}
	panic("message: reading from memory failed: " + err.Error()) // cannot be
}

// ParseServed digests a stored message of the given size as it is served:
// like [Parse] where it holds no NUL, else the digest is that of what
// [ServedReader] returns, with HasNUL set.
func ParseServed(raw io.ReaderAt, size int64, lim Limits) (*Digest, *Text, error) {
	return NewParser(lim).ParseServed(raw, size)
}

// ParseServed is the function [ParseServed], with the limits of p.
func (p *Parser) ParseServed(raw io.ReaderAt, size int64) (*Digest, *Text, error) {
	d, err := p.parseServed(raw, size, p.lim.TextBytes)
	if err != nil {
		return nil, nil, err
	}
	return d, p.keeper.text(d.Truncated), nil
}

// TextServed is ParseServed without the digest.
func (p *Parser) TextServed(raw io.ReaderAt, size int64) (*Text, error) {
	q := &p.parser
	q.begin(&p.spare, p.lim, p.keeper.begin(p.lim.TextBytes))
	q.noWire = true
	q.text.preview.unwanted()
	if err := q.read(io.NewSectionReader(raw, 0, size), p.buf); err != nil {
		return nil, err
	}
	// An address has an octet at least. Where there may be more addresses than an
	// ENVELOPE takes, they have to be counted: a text says whether a limit was hit.
	headers := p.lim.HeaderBytes - q.headerLeft
	if q.d.HasNUL || headers >= int64(p.lim.Addresses) {
		_, t, err := p.ParseServed(raw, size)
		return t, err
	}
	return p.keeper.text(q.d.Truncated), nil
}

// DigestServed is ParseServed without the text, which is half of the work.
func (p *Parser) DigestServed(raw io.ReaderAt, size int64) (*Digest, error) {
	return p.parseServed(raw, size, 0)
}

func (p *Parser) parseServed(raw io.ReaderAt, size, text int64) (*Digest, error) {
	d, err := p.parse(io.NewSectionReader(raw, 0, size), text)
	if err != nil || !d.HasNUL {
		return d, err
	}
	served, err := ServedReader(raw, size, p.lim)
	if err != nil {
		return nil, err
	}
	if d, err = p.parse(served, text); err != nil {
		return nil, err
	}
	d.HasNUL = true
	return d, nil
}

// servedPlan lists the pieces of the served form.
type servedPlan struct {
	raw    io.ReaderAt
	size   int64
	pos    int64
	pieces []io.Reader
}

// masked adds all up to end with NUL replaced.
func (s *servedPlan) masked(end int64) {
	if end > s.pos {
		s.pieces = append(s.pieces, maskingReader{io.NewSectionReader(s.raw, s.pos, end-s.pos)})
		s.pos = end
	}
}

// part adds a part, and what is before it.
func (s *servedPlan) part(n *node) error {
	for _, k := range n.kids {
		if err := s.part(k); err != nil {
			return err
		}
	}
	if n.message != nil {
		return s.part(n.message)
	}
	if n.kind != nodeLeaf || !n.nul || n.Encoding == EncodingUnknown {
		return nil
	}
	eol, err := s.emptyLine(n.BodyStart)
	if err != nil {
		return err
	}
	s.masked(n.HeaderStart)
	header := maskingReader{io.NewSectionReader(s.raw, n.HeaderStart, n.BodyStart-n.HeaderStart)}
	body, err := DecodePart(&n.Part, io.NewSectionReader(s.raw, n.BodyStart, n.Size()))
	if err != nil {
		return err
	}
	s.pieces = append(s.pieces,
		&encodingField{src: bufio.NewReaderSize(header, readBuffer), eol: eol, start: true},
		&base64Lines{src: body, eol: eol, endEOL: n.End == s.size})
	s.pos = n.End
	return nil
}

// emptyLine returns the line end that is before bodyStart, of the empty line.
func (s *servedPlan) emptyLine(bodyStart int64) (string, error) {
	var b [2]byte
	if bodyStart >= 2 {
		if _, err := s.raw.ReadAt(b[:], bodyStart-2); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	if b[0] == '\r' {
		return "\r\n", nil
	}
	return "\n", nil
}

// maskingReader replaces NUL by 0x80.
type maskingReader struct{ r io.Reader }

// Read implements io.Reader.
func (m maskingReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	replaceNUL(p[:n])
	return n, err
}

// encodingField passes a header on with another Content-Transfer-Encoding.
type encodingField struct {
	src      *bufio.Reader
	eol      string
	start    bool // at the start of a line
	dropping bool // in the old field
	done     bool
	out      []byte
	pos      int
	err      error
}

const encodingIsBase64 = "Content-Transfer-Encoding: base64"

// Read implements io.Reader.
func (e *encodingField) Read(p []byte) (int, error) {
	for e.pos == len(e.out) {
		if e.err != nil {
			return 0, e.err
		}
		e.out, e.pos = e.out[:0], 0
		b, err := e.src.ReadSlice('\n')
		if len(b) > 0 {
			e.line(b)
		}
		e.start = err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			e.err = err
			if err == io.EOF && !e.done { // a header that ends in a line of white space
				e.out = append(append(append(e.out, encodingIsBase64...), e.eol...), e.eol...)
			}
		}
	}
	n := copy(p, e.out[e.pos:])
	e.pos += n
	return n, nil
}

func (e *encodingField) line(b []byte) {
	if e.start && b[0] != ' ' && b[0] != '\t' {
		name, _, _ := bytes.Cut(b, []byte{':'})
		e.dropping = bytes.EqualFold(bytes.TrimRight(name, " \t"), []byte("Content-Transfer-Encoding"))
		if !e.done && (e.dropping || isEmptyLine(b)) {
			e.done = true
			e.out = append(append(e.out, encodingIsBase64...), e.eol...)
		}
	}
	if !e.dropping {
		e.out = append(e.out, b...)
	}
}

// base64Lines encodes what it reads, in lines of 76 characters.
type base64Lines struct {
	src    io.Reader
	eol    string
	endEOL bool // the last line has a line end too
	any    bool
	out    []byte
	pos    int
	err    error
}

// Read implements io.Reader.
func (l *base64Lines) Read(p []byte) (int, error) {
	for l.pos == len(l.out) {
		if l.err != nil {
			return 0, l.err
		}
		l.fill()
	}
	n := copy(p, l.out[l.pos:])
	l.pos += n
	return n, nil
}

// fill encodes some lines.
func (l *base64Lines) fill() {
	const perLine = 57
	var in [64 * perLine]byte
	n, err := io.ReadFull(l.src, in[:])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	l.err = err
	l.out, l.pos = l.out[:0], 0
	for b := in[:n]; len(b) > 0; {
		line := b[:min(perLine, len(b))]
		b = b[len(line):]
		if l.any {
			l.out = append(l.out, l.eol...)
		}
		l.any = true
		l.out = base64.StdEncoding.AppendEncode(l.out, line)
	}
	if err == io.EOF && l.any && l.endEOL {
		l.out = append(l.out, l.eol...)
	}
}
