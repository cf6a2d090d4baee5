package message

import (
	"unicode/utf16"
	"unicode/utf8"
)

// utf7Decoder reads UTF-7 (RFC 2152). Octets that do not belong there are
// taken as they are.
type utf7Decoder struct {
	shifted bool // between "+" and "-"
	any     bool // something has been read since "+"
	bits    uint32
	n       int // valid bits
	high    rune
}

func (d *utf7Decoder) decode(dst, src []byte, final bool) []byte {
	for _, c := range src {
		if !d.shifted {
			switch {
			case c == '+':
				*d = utf7Decoder{shifted: true}
			case c < utf8.RuneSelf:
				dst = append(dst, c)
			default:
				dst = utf8.AppendRune(dst, rune(c))
			}
			continue
		}
		if v := base64Values[c]; v < base64End {
			d.any = true
			d.bits = d.bits<<6 | uint32(v)
			if d.n += 6; d.n >= 16 {
				d.n -= 16
				dst = d.unit(dst, rune(d.bits>>d.n)&0xFFFF)
			}
			continue
		}
		dst = d.endUnits(dst)
		d.shifted = false
		switch {
		case c == '-' && !d.any:
			dst = append(dst, '+')
		case c == '-':
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			dst = utf8.AppendRune(dst, rune(c))
		}
	}
	if final {
		dst = d.endUnits(dst)
	}
	return dst
}

// unit takes one UTF-16 code unit.
func (d *utf7Decoder) unit(dst []byte, u rune) []byte {
	if d.high != 0 {
		r := utf16.DecodeRune(d.high, u)
		d.high = 0
		if r != utf8.RuneError {
			return utf8.AppendRune(dst, r)
		}
		dst = utf8.AppendRune(dst, utf8.RuneError)
	}
	if 0xD800 <= u && u < 0xDC00 {
		d.high = u
		return dst
	}
	return utf8.AppendRune(dst, u)
}

func (d *utf7Decoder) endUnits(dst []byte) []byte {
	if d.high != 0 {
		d.high = 0
		dst = utf8.AppendRune(dst, utf8.RuneError)
	}
	return dst
}
