package imap

import (
	"errors"
	"unicode/utf8"
)

// utf7Alphabet is base64 with "," in place of "/" (RFC 3501 section 5.1.3).
const utf7Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

// EncodeUTF7 returns the modified UTF-7 form of a mailbox name given in UTF-8
// (RFC 3501 section 5.1.3). Bytes that are no UTF-8 become U+FFFD.
func EncodeUTF7(name string) string {
	if isDirectUTF7(name) {
		return name
	}
	return string(AppendUTF7(make([]byte, 0, len(name)*2), name))
}

func isDirectUTF7(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '&' {
			return false
		}
	}
	return true
}

// AppendUTF7 appends the modified UTF-7 form of name.
func AppendUTF7(dst []byte, name string) []byte {
	for i := 0; i < len(name); {
		c := name[i]
		switch {
		case c == '&':
			dst = append(dst, '&', '-')
			i++
		case ' ' <= c && c <= '~':
			dst = append(dst, c)
			i++
		default:
			var n int
			dst, n = appendShifted(dst, name[i:])
			i += n
		}
	}
	return dst
}

// appendShifted encodes the leading run of s that is not printable ASCII and
// returns its length.
func appendShifted(dst []byte, s string) ([]byte, int) {
	var bits uint32
	var have uint
	unit := func(u rune) {
		bits, have = bits<<16|uint32(u), have+16
		for have >= 6 {
			have -= 6
			dst = append(dst, utf7Alphabet[bits>>have&63])
		}
	}
	dst = append(dst, '&')
	n := 0
	for n < len(s) && (s[n] < ' ' || s[n] > '~') {
		r, size := utf8.DecodeRuneInString(s[n:])
		n += size
		if r >= 0x10000 {
			r -= 0x10000
			unit(0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		unit(r)
	}
	if have > 0 {
		dst = append(dst, utf7Alphabet[bits<<(6-have)&63])
	}
	return append(dst, '-'), n
}

// DecodeUTF7 returns the UTF-8 form of a name in modified UTF-7. It is strict:
// each name has exactly one encoding, so bytes beyond printable ASCII, base64
// that is not closed, is empty or has bits left over, printable ASCII inside
// base64, two base64 runs side by side and surrogates without their partner
// are errors.
func DecodeUTF7(s string) (string, error) {
	if isDirectUTF7(s) {
		return s, nil
	}
	dst := make([]byte, 0, len(s))
	shifted := false // the last thing read was a base64 run
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c > '~' {
			return "", errors.New("modified UTF-7: only printable ASCII is allowed")
		}
		if c != '&' {
			dst, shifted = append(dst, c), false
			continue
		}
		end := i + 1
		for end < len(s) && s[end] != '-' {
			end++
		}
		if end == len(s) {
			return "", errors.New(`modified UTF-7: "&" without the "-" that closes it (a plain "&" is written "&-")`)
		}
		if end == i+1 {
			dst, shifted = append(dst, '&'), false
		} else {
			if shifted {
				return "", errors.New("modified UTF-7: two base64 runs that should be one")
			}
			var err error
			if dst, err = appendUnshifted(dst, s[i+1:end]); err != nil {
				return "", err
			}
			shifted = true
		}
		i = end
	}
	return string(dst), nil
}

// appendUnshifted decodes one base64 run.
func appendUnshifted(dst []byte, run string) ([]byte, error) {
	var bits uint32
	var have uint
	var high rune // a high surrogate that waits for its partner
	for i := range len(run) {
		v := utf7Value(run[i])
		if v < 0 {
			return dst, errors.New("modified UTF-7: character that is not of its base64")
		}
		bits, have = bits<<6|uint32(v), have+6
		if have < 16 {
			continue
		}
		have -= 16
		r := rune(bits >> have & 0xffff)
		bits &= 1<<have - 1
		isHigh, isLow := 0xd800 <= r && r < 0xdc00, 0xdc00 <= r && r < 0xe000
		switch {
		case isLow != (high != 0):
			return dst, errors.New("modified UTF-7: surrogate without its partner")
		case isLow:
			dst = utf8.AppendRune(dst, 0x10000+(high-0xd800)<<10+(r-0xdc00))
			high = 0
		case isHigh:
			high = r
		case ' ' <= r && r <= '~':
			return dst, errors.New("modified UTF-7: printable ASCII must stand for itself")
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	switch {
	case high != 0:
		return dst, errors.New("modified UTF-7: surrogate without its partner")
	case have >= 6 || bits != 0:
		return dst, errors.New("modified UTF-7: bits left over at the end of its base64")
	}
	return dst, nil
}

func utf7Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == ',':
		return 63
	}
	return -1
}
