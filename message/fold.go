package message

import (
	"encoding/binary"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold appends s to dst in the form that i;unicode-casemap (RFC 5051)
// compares: each character in title case, then decomposed as far as it goes.
// Octets that are not UTF-8 stay as they are. Two strings are equal under the
// collation, or one a substring of the other, when their folded octets are.
func Fold(dst []byte, s string) []byte { return fold(nil, dst, s) }

// FoldString is [Fold] from string to string.
func FoldString(s string) string { return string(fold(nil, make([]byte, 0, len(s)), s)) }

// folder remembers how it folded characters, which makes it a few times
// faster than Fold outside of ASCII.
type folder struct{ known [256]foldedRune }

type foldedRune struct {
	r    rune
	n    uint8
	utf8 [11]byte
}

// fold is Fold; with f not nil it uses what f remembers.
func fold[S string | []byte](f *folder, dst []byte, s S) []byte {
	dst = slices.Grow(dst, len(s))
	step := minASCIIStep
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			start := len(dst)
			dst = append(dst, s[i:min(len(s), i+step)]...)
			n := upperASCII(dst[start:])
			dst = dst[:start+n]
			i += n
			step = min(2*step, maxASCIIStep)
			continue
		}
		step = minASCIIStep
		var r rune
		var size int
		if c>>5 == 0b110 && c > 0xC1 && i+1 < len(s) && s[i+1]>>6 == 0b10 { // most of what is not ASCII
			r, size = rune(c&0x1F)<<6|rune(s[i+1]&0x3F), 2
		} else {
			n := min(len(s)-i, utf8.UTFMax)
			r, size = utf8.DecodeRuneInString(string(s[i : i+n]))
		}
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, c)
		case f != nil:
			dst = f.rune(dst, r)
		default:
			dst = foldRune(dst, r)
		}
		i += size
	}
	return dst
}

// rune folds one character above U+007F.
func (f *folder) rune(dst []byte, r rune) []byte {
	e := &f.known[uint32(r)%uint32(len(f.known))]
	if e.r == r {
		return append(dst, e.utf8[:e.n]...)
	}
	start := len(dst)
	dst = foldRune(dst, r)
	if n := len(dst) - start; n <= len(e.utf8) {
		*e = foldedRune{r: r, n: uint8(n)}
		copy(e.utf8[:], dst[start:])
	}
	return dst
}

// How much is copied at once in the hope that it is ASCII: more, as long as it is.
const (
	minASCIIStep = 64
	maxASCIIStep = 4096
)

// upperASCII makes the letters at the beginning of b capitals, up to the first
// octet that is not ASCII, and returns how many octets it has passed. It takes
// eight at a time: mail is mostly ASCII, and all of it comes this way.
func upperASCII(b []byte) (n int) {
	const each = 0x0101010101010101
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		if x&(0x80*each) != 0 {
			break
		}
		// The highest bit of each octet: is it 'a' or more, and not more than 'z'?
		lower := (x + (0x80-'a')*each) &^ (x + (0x80-'z'-1)*each) & (0x80 * each)
		binary.LittleEndian.PutUint64(b[n:], x-lower>>2) // the bit between 'a' and 'A'
	}
	for ; n < len(b) && b[n] < utf8.RuneSelf; n++ {
		if b[n]-'a' < 26 {
			b[n] -= 'a' - 'A'
		}
	}
	return n
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
