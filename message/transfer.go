package message

import (
	"bytes"
	"io"

	"github.com/rookery-mail/rookery/imap"
)

// DecodePart returns the body of p without its transfer encoding, for BINARY
// and BINARY.SIZE (RFC 3516). body reads the octets of the part from
// p.BodyStart to p.End.
//
// It decodes what it can: octets that do not belong into base64 are skipped,
// and what is not quoted-printable stays as it is. For an unknown encoding it
// returns an error of kind [imap.UnknownCTE].
func DecodePart(p *Part, body io.Reader) (io.Reader, error) {
	switch p.Encoding {
	case EncodingBase64, EncodingQuotedPrintable:
		return &decodingReader{src: body, dec: transferDecoder{encoding: p.Encoding}}, nil
	case EncodingUnknown:
		return nil, &imap.Error{Op: "message: decode a part in transfer encoding " + p.RawEncoding, Kind: imap.UnknownCTE}
	}
	return body, nil
}

// decodingReader decodes what it reads from src.
type decodingReader struct {
	src io.Reader
	dec transferDecoder
	in  []byte
	out []byte
	pos int // of what has been given out
	err error
}

// Read implements io.Reader.
func (r *decodingReader) Read(p []byte) (int, error) {
	for r.pos == len(r.out) {
		if r.err != nil {
			return 0, r.err
		}
		if r.in == nil {
			r.in = make([]byte, 8<<10)
		}
		n, err := r.src.Read(r.in)
		r.out = r.dec.decode(r.out[:0], r.in[:n])
		if err != nil {
			r.err = err
			r.out = r.dec.flush(r.out)
		}
		r.pos = 0
	}
	n := copy(p, r.out[r.pos:])
	r.pos += n
	return n, nil
}

// transferDecoder takes the transfer encoding off a stream that comes in
// pieces.
type transferDecoder struct {
	encoding Encoding

	acc uint32 // base64: the sextets of an unfinished group
	n   int    // base64: their number

	state qpState
	first byte   // quoted-printable: the first hexadecimal digit
	space []byte // quoted-printable: white space that a line end would remove
}

type qpState uint8

const (
	qpText   qpState = iota
	qpCR             // after CR
	qpEquals         // after "="
	qpHex            // after "=" and one digit
	qpSoft           // after "=" and white space
	qpSoftCR         // after "=", perhaps white space, and CR
)

// maxTrailingSpace bounds the white space that is held back to see whether a
// line end follows.
const maxTrailingSpace = 4096

// decode appends src, decoded, to dst.
func (d *transferDecoder) decode(dst, src []byte) []byte {
	switch d.encoding {
	case EncodingBase64:
		return d.base64(dst, src)
	case EncodingQuotedPrintable:
		return d.quotedPrintable(dst, src)
	}
	return append(dst, src...)
}

// flush appends what is left at the end.
func (d *transferDecoder) flush(dst []byte) []byte {
	switch {
	case d.encoding == EncodingBase64:
		dst = d.base64(dst, []byte{'='})
	case d.encoding != EncodingQuotedPrintable:
	case d.state == qpCR:
		dst = append(append(dst, d.space...), '\r')
	case d.state == qpHex:
		dst = append(dst, '=', d.first)
	}
	*d = transferDecoder{encoding: d.encoding, space: d.space[:0]}
	return dst
}

// base64Values has the value of each base64 character, 64 for "=", 65 for others.
var base64Values = func() (values [256]byte) {
	for c := range values {
		values[c] = base64Other
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		values[alphabet[i]] = byte(i)
	}
	values['='] = base64End
	return values
}()

const (
	base64End   = 64
	base64Other = 65
)

func (d *transferDecoder) base64(dst, src []byte) []byte {
	acc, n := d.acc, d.n
	for i := 0; i < len(src); {
		if n == 0 {
			var taken int
			dst, taken = base64Groups(dst, src[i:])
			if i += taken; i == len(src) {
				break
			}
		}
		switch v := base64Values[src[i]]; {
		case v < base64End:
			acc = acc<<6 | uint32(v)
			if n++; n == 4 {
				dst = append(dst, byte(acc>>16), byte(acc>>8), byte(acc))
				n = 0
			}
		case v == base64End: // the end of a stream; another may follow
			switch n {
			case 2:
				dst = append(dst, byte(acc>>4))
			case 3:
				dst = append(dst, byte(acc>>10), byte(acc>>2))
			}
			n = 0
		}
		i++
	}
	d.acc, d.n = acc, n
	return dst
}

// base64Groups decodes the groups of four characters at the start of src, and
// returns how many octets of it they are.
func base64Groups(dst, src []byte) (_ []byte, taken int) {
	for ; len(src) >= 4; src = src[4:] {
		a, b, c, d := base64Values[src[0]], base64Values[src[1]], base64Values[src[2]], base64Values[src[3]]
		if a|b|c|d >= base64End {
			break
		}
		dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|d)
		taken += 4
	}
	return dst, taken
}

// quotedPrintable decodes lines as a whole where they are simple, and the others octet
// by octet.
func (d *transferDecoder) quotedPrintable(dst, src []byte) []byte {
	for len(src) > 0 {
		line := src
		if i := bytes.IndexByte(src, '\n'); i >= 0 {
			line = src[:i+1]
		}
		src = src[len(line):]
		if d.state == qpText && len(d.space) == 0 {
			var taken int
			dst, taken = qpLine(dst, line)
			line = line[taken:]
		}
		for len(line) > 0 {
			var again bool
			if dst, again = d.qpOctet(dst, line[0]); !again {
				line = line[1:]
			}
		}
	}
	return dst
}

// qpLine decodes a line, or its beginning where it has no end or holds something odd,
// and returns how many octets of it that were.
func qpLine(dst, line []byte) (_ []byte, taken int) {
	end := trimLineEnd(line)
	text, ended := trimBlanks(end), len(end) < len(line)
	if len(end)-len(text) > maxTrailingSpace {
		return dst, 0
	}
	if !ended {
		text = bytes.TrimRight(text, " \t\r") // of which a line end may be to come
	}
	for rest := text; ; {
		i := bytes.IndexByte(rest, '=')
		if i < 0 {
			dst = append(dst, rest...)
			break
		}
		dst = append(dst, rest[:i]...)
		switch rest = rest[i:]; {
		case len(rest) > 2 && hexValue(rest[1]) < 16 && hexValue(rest[2]) < 16:
			dst = append(dst, hexValue(rest[1])<<4|hexValue(rest[2]))
			rest = rest[3:]
		case len(rest) == 1 && ended: // a soft line break
			return dst, len(line)
		default:
			return dst, len(text) - len(rest)
		}
	}
	if !ended {
		return dst, len(text)
	}
	return append(dst, line[len(end):]...), len(line)
}

// qpOctet takes one octet; again says that it is to be given once more, to
// the new state.
func (d *transferDecoder) qpOctet(dst []byte, c byte) (_ []byte, again bool) {
	switch d.state {
	case qpText:
		return d.qpTextOctet(dst, c), false
	case qpCR:
		d.state = qpText
		if c == '\n' {
			d.space = d.space[:0]
			return append(dst, '\r', '\n'), false
		}
		dst = append(append(dst, d.space...), '\r')
		d.space = d.space[:0]
		return dst, true
	case qpEquals, qpSoft:
		switch {
		case c == '\n':
			d.state, d.space = qpText, d.space[:0]
		case c == '\r':
			d.state, d.space = qpSoftCR, d.space[:0]
		case (c == ' ' || c == '\t') && len(d.space) < maxTrailingSpace:
			d.state, d.space = qpSoft, append(d.space, c)
		case d.state == qpEquals && hexValue(c) < 16:
			d.state, d.first = qpHex, c
		default:
			dst = append(append(dst, '='), d.space...)
			d.state, d.space = qpText, d.space[:0]
			return dst, true
		}
		return dst, false
	case qpHex:
		d.state = qpText
		if v := hexValue(c); v < 16 {
			return append(dst, hexValue(d.first)<<4|v), false
		}
		return append(dst, '=', d.first), true
	}
	d.state = qpText // qpSoftCR
	return dst, c != '\n'
}

func (d *transferDecoder) qpTextOctet(dst []byte, c byte) []byte {
	switch c {
	case ' ', '\t':
		if len(d.space) == maxTrailingSpace {
			dst, d.space = append(dst, d.space...), d.space[:0]
		}
		d.space = append(d.space, c)
		return dst
	case '\r':
		d.state = qpCR
		return dst
	case '\n':
		d.space = d.space[:0]
		return append(dst, c)
	}
	dst, d.space = append(dst, d.space...), d.space[:0]
	if c == '=' {
		d.state = qpEquals
		return dst
	}
	return append(dst, c)
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
