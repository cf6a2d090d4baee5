package message

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// KnownCharset tells whether text in the named charset can be decoded, so
// that SEARCH CHARSET need not be refused with BADCHARSET.
func KnownCharset(name string) bool {
	_, known := lookupCharset(name)
	return known
}

// DecodeCharset converts s from the named charset to UTF-8. It returns false
// for an unknown charset. Octets that the charset does not define become
// U+FFFD, or in charsets that are often claimed wrongly (ASCII, UTF-8,
// ISO-8859-1, Windows-1252) what they are in UTF-8 or else in Windows-1252.
func DecodeCharset(name string, s []byte) (text string, ok bool) {
	cs, known := lookupCharset(name)
	if !known {
		return "", false
	}
	return string(cs.decode(make([]byte, 0, len(s)), s, true)), true
}

// charsetDecoder converts a stream to UTF-8. The zero value reads UTF-8 and,
// where octets are not, Windows-1252: what mail without a charset, or with a
// wrong one, most often is.
type charsetDecoder struct {
	transformer transform.Transformer
	utf7        *utf7Decoder
	rest        []byte // the beginning of a character, less than 16 octets
}

// lookupCharset returns a decoder for the named charset; for an unknown one
// it is the zero decoder.
func lookupCharset(name string) (cs charsetDecoder, known bool) {
	enc, direct := findEncoding(strings.ToLower(strings.Trim(name, " \t\"'")))
	switch {
	case direct == "utf-7":
		return charsetDecoder{utf7: new(utf7Decoder)}, true
	case direct != "":
		return cs, true
	case enc == nil:
		return cs, false
	case enc == charmap.Windows1252 || enc == charmap.ISO8859_1 || enc == unicode.UTF8:
		return cs, true
	}
	return charsetDecoder{transformer: enc.NewDecoder().Transformer}, true
}

// findEncoding finds the encoding of a charset name in lower case. direct is
// set for those that need none of x/text's.
func findEncoding(name string) (enc encoding.Encoding, direct string) {
	switch name {
	case "utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968", "iso-8859-1", "latin1", "latin-1",
		"iso8859-1", "iso-8859-1-windows-3.1-latin-1", "8859_1", "cp1252", "windows-1252", "x-unknown-utf8":
		return nil, "utf-8"
	case "utf-7", "utf7", "unicode-1-1-utf-7", "x-unicode-1-1-utf-7", "csutf7":
		return nil, "utf-7"
	case "utf-16", "utf16", "unicode", "ucs-2", "iso-10646-ucs-2", "csunicode":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), ""
	case "utf-16be", "utf-16-be":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), ""
	case "utf-32", "utf32", "ucs-4", "iso-10646-ucs-4":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM), ""
	case "utf-32be":
		return utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM), ""
	case "utf-32le":
		return utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM), ""
	case "hz-gb-2312", "hz":
		return simplifiedchinese.HZGB2312, ""
	}
	if enc := indexed(name); enc != nil {
		return enc, ""
	}
	return indexed(charsetAlias(strings.TrimPrefix(name, "x-"))), ""
}

// indexed looks name up in the tables of WHATWG and IANA.
func indexed(name string) encoding.Encoding {
	if enc, err := htmlindex.Get(name); err == nil && enc != encoding.Replacement {
		return enc
	}
	if enc, err := ianaindex.MIME.Encoding(name); err == nil && enc != nil && enc != encoding.Replacement {
		return enc
	}
	return nil
}

// charsetAlias maps names that mail programs write to registered ones.
func charsetAlias(name string) string {
	switch name {
	case "cp932", "ms932", "mskanji", "sjis", "shiftjis", "windows-932":
		return "shift_jis"
	case "cp936", "ms936", "windows-936", "gb18030-2000", "euc-cn", "euccn":
		return "gbk"
	case "cp949", "ms949", "windows-949", "uhc", "ksc5601", "ks_c_5601", "euckr":
		return "euc-kr"
	case "cp950", "ms950", "windows-950", "big5hkscs", "big-5":
		return "big5"
	case "eucjp", "ujis":
		return "euc-jp"
	case "koi8", "koi8r":
		return "koi8-r"
	case "koi8u":
		return "koi8-u"
	case "cp10000", "mac", "macroman", "mac-roman":
		return "macintosh"
	}
	for _, p := range [...][2]string{
		{"cp-", "cp"}, {"windows", "windows-"}, {"win-", "windows-"}, {"win", "windows-"},
		{"iso8859", "iso-8859"}, {"iso_8859", "iso-8859"}, {"iso-8859_", "iso-8859-"},
		{"8859_", "iso-8859-"}, {"dos-", "ibm"}, {"ibm-", "ibm"},
	} {
		rest, ok := strings.CutPrefix(name, p[0])
		if !ok {
			continue
		}
		if i := strings.IndexByte(rest, ':'); i > 0 { // iso_8859-9:1989
			rest = rest[:i]
		}
		return charsetNumber(p[1] + rest)
	}
	return charsetNumber(name)
}

// charsetNumber maps code page numbers: cp1251 is windows-1251, cp850 ibm850.
func charsetNumber(name string) string {
	n, ok := strings.CutPrefix(name, "cp")
	switch {
	case !ok:
		return name
	case len(n) == 4 && strings.HasPrefix(n, "125"):
		return "windows-" + n
	case n == "65001":
		return "utf-8"
	}
	return "ibm" + n
}

// decode appends src in UTF-8. What may be the beginning of a character is
// kept for the next call, unless this is the last one.
func (d *charsetDecoder) decode(dst, src []byte, final bool) []byte {
	if len(d.rest) > 0 {
		src = append(d.rest, src...)
		d.rest = nil
	}
	switch {
	case d.utf7 != nil:
		return d.utf7.decode(dst, src, final)
	case d.transformer != nil:
		return d.transform(dst, src, final)
	}
	for len(src) > 0 {
		n := validPrefix(src)
		dst = append(dst, src[:n]...)
		src = src[n:]
		if len(src) == 0 {
			break
		}
		if !final && !utf8.FullRune(src) {
			d.rest = bytes.Clone(src)
			break
		}
		dst = utf8.AppendRune(dst, charmap.Windows1252.DecodeByte(src[0]))
		src = src[1:]
	}
	return dst
}

// validPrefix returns the length of the longest prefix of b that is UTF-8.
func validPrefix(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	i := 0
	for i < len(b) {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		i += size
	}
	return i
}

func (d *charsetDecoder) transform(dst, src []byte, final bool) []byte {
	for {
		dst = growBy(dst, 2*len(src)+64)
		nDst, nSrc, err := d.transformer.Transform(dst[len(dst):cap(dst)], src, final)
		dst, src = dst[:len(dst)+nDst], src[nSrc:]
		switch {
		case err == nil && len(src) == 0:
			return dst
		case errors.Is(err, transform.ErrShortDst):
			continue
		case errors.Is(err, transform.ErrShortSrc) && !final && len(src) < 16:
			d.rest = bytes.Clone(src)
			return dst
		}
		if len(src) == 0 {
			return dst
		}
		dst, src = utf8.AppendRune(dst, utf8.RuneError), src[1:]
	}
}

// growBy returns b with room for n more octets.
func growBy(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, 2*cap(b)+n), b...)
}
