package message

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// maxCharsetName bounds charset and language in an encoded word.
const maxCharsetName = 100

// decodeWords appends an unfolded header value with its encoded words
// (RFC 2047) decoded to UTF-8, wherever they stand. Octets above 127 outside
// of them are read as UTF-8 or else Windows-1252. Line ends that come out
// become spaces.
func decodeWords(dst, v []byte) []byte {
	start := len(dst)
	if isASCII(v) && !bytes.Contains(v, []byte("=?")) { // nearly all values
		dst = append(dst, v...)
		spaceOut(dst[start:])
		return dst
	}
	d := wordDecoder{dst: dst}
	for len(v) > 0 && !d.noEnd {
		i := bytes.Index(v, []byte("=?"))
		if i < 0 {
			break
		}
		charset, encoding, text, size := d.parse(v[i:])
		if size == 0 {
			d.plain(v[:i+2])
			v = v[i+2:]
			continue
		}
		if !d.inWord || len(bytes.TrimLeft(v[:i], " \t")) > 0 {
			d.plain(v[:i])
		}
		d.word(charset, encoding, text)
		v = v[i+size:]
	}
	d.plain(v)
	spaceOut(d.dst[start:])
	return d.dst
}

// spaceOut makes spaces of line ends and NUL.
func spaceOut(b []byte) {
	for i, c := range b {
		if c < ' ' && (c == '\n' || c == '\r' || c == 0) {
			b[i] = ' '
		}
	}
}

// wordDecoder joins adjacent encoded words of one charset before it converts
// them: some mailers cut characters in two.
type wordDecoder struct {
	dst     []byte
	inWord  bool   // the last thing was an encoded word
	charset []byte // of raw
	raw     []byte // not converted yet
	noEnd   bool   // no "?=" is ahead
}

// parse takes an encoded word at the start of v apart; size is 0 where there
// is none.
func (d *wordDecoder) parse(v []byte) (charset []byte, encoding byte, text []byte, size int) {
	i := bytes.IndexByte(v[2:min(len(v), maxCharsetName)], '?')
	if i <= 0 || len(v) < i+6 || v[i+4] != '?' {
		return nil, 0, nil, 0
	}
	charset, encoding = v[2:2+i], v[i+3]|0x20
	if encoding != 'b' && encoding != 'q' {
		return nil, 0, nil, 0
	}
	rest := v[i+5:]
	end := bytes.Index(rest, []byte("?="))
	if end < 0 {
		d.noEnd = true
		return nil, 0, nil, 0
	}
	if j := bytes.IndexByte(charset, '*'); j > 0 { // RFC 2231 section 5: a language
		charset = charset[:j]
	}
	return charset, encoding, rest[:end], i + 5 + end + 2
}

func (d *wordDecoder) word(charset []byte, encoding byte, text []byte) {
	if d.inWord && !bytes.EqualFold(d.charset, charset) {
		d.convert()
	}
	d.inWord, d.charset = true, charset
	d.raw = slices.Grow(d.raw, len(text))
	if encoding == 'b' {
		dec := transferDecoder{encoding: EncodingBase64}
		d.raw = dec.flush(dec.decode(d.raw, text))
		return
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '_':
			c = ' '
		case c == '=' && i+2 < len(text) && hexValue(text[i+1]) < 16 && hexValue(text[i+2]) < 16:
			c = hexValue(text[i+1])<<4 | hexValue(text[i+2])
			i += 2
		}
		d.raw = append(d.raw, c)
	}
}

// convert ends a run of encoded words.
func (d *wordDecoder) convert() {
	if len(d.raw) > 0 {
		cs, _ := lookupCharset(string(d.charset))
		d.dst = cs.decode(d.dst, d.raw, true)
		d.raw = d.raw[:0]
	}
	d.inWord = false
}

func (d *wordDecoder) plain(v []byte) {
	d.convert()
	var cs charsetDecoder
	d.dst = cs.decode(d.dst, v, true)
}

// decodeExtended appends an extended parameter value (RFC 2231 section 4:
// charset'language'%xx) in UTF-8.
func decodeExtended(dst, v []byte) []byte {
	var charset string
	if i := bytes.IndexByte(v, '\''); i >= 0 {
		if j := bytes.IndexByte(v[i+1:], '\''); j >= 0 {
			charset, v = string(v[:i]), v[i+1+j+1:]
		}
	}
	raw := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '%' && i+2 < len(v) && hexValue(v[i+1]) < 16 && hexValue(v[i+2]) < 16 {
			c = hexValue(v[i+1])<<4 | hexValue(v[i+2])
			i += 2
		}
		raw = append(raw, c)
	}
	cs, _ := lookupCharset(charset)
	return cs.decode(dst, raw, true)
}

// isASCII tells whether b holds no octet above 127.
func isASCII(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
