package message

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold appends s to dst in the form that i;unicode-casemap (RFC 5051)
// compares: each character in title case, then decomposed as far as it goes.
// Octets that are not UTF-8 stay as they are. Two strings are equal under the
// collation, or one a substring of the other, when their folded octets are.
func Fold(dst []byte, s string) []byte { return fold(dst, s) }

// FoldString is [Fold] from string to string.
func FoldString(s string) string { return string(fold(make([]byte, 0, len(s)), s)) }

func fold[S string | []byte](dst []byte, s S) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			start := len(dst)
			j := i + 1
			for j < len(s) && s[j] < utf8.RuneSelf {
				j++
			}
			dst = append(dst, s[i:j]...)
			upperASCII(dst[start:])
			i = j
			continue
		}
		n := min(len(s)-i, utf8.UTFMax)
		r, size := utf8.DecodeRuneInString(string(s[i : i+n]))
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, c)
		} else {
			dst = foldRune(dst, r)
		}
		i += size
	}
	return dst
}

func upperASCII(b []byte) {
	for i, c := range b {
		if c-'a' < 26 {
			b[i] = c - ('a' - 'A')
		}
	}
}

// foldRune folds one character above U+007F.
func foldRune(dst []byte, r rune) []byte {
	switch {
	case 0x3400 <= r && r <= 0x9FFF: // CJK ideographs: neither case nor decomposition
		return utf8.AppendRune(dst, r)
	case 0xAC00 <= r && r <= 0xD7A3: // Hangul syllables decompose by arithmetic (Unicode 3.12)
		s := r - 0xAC00
		dst = utf8.AppendRune(dst, 0x1100+s/588)
		dst = utf8.AppendRune(dst, 0x1161+s%588/28)
		if t := s % 28; t != 0 {
			dst = utf8.AppendRune(dst, 0x11A7+t)
		}
		return dst
	}
	var enc [utf8.UTFMax]byte
	n := utf8.EncodeRune(enc[:], unicode.ToTitle(r))
	if d := norm.NFKD.Properties(enc[:n]).Decomposition(); d != nil {
		return append(dst, d...)
	}
	return append(dst, enc[:n]...)
}
