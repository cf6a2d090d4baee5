package imapwire

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rookery-mail/rookery/imap"
)

// maxQuoted is how long a string may be that is written quoted. RFC 9051
// section 4.3 sets no bound; clients with small line buffers like one.
const maxQuoted = 1000

// byteSeq is what the append functions take for text.
type byteSeq interface{ ~string | ~[]byte }

// AppendString appends s as a string: quoted where mode and length allow it,
// else as a literal. A NUL, which no string can hold, becomes "?".
func AppendString[S byteSeq](dst []byte, s S, mode Mode) []byte {
	quotable, nul := len(s) <= maxQuoted, false
	high := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			quotable = false
		case c == 0:
			nul = true
		case c >= 0x80:
			high = true
		}
	}
	if quotable && high {
		quotable = mode == ModeUTF8 && validUTF8(s)
	}
	start := len(dst)
	if quotable {
		dst = appendQuoted(dst, s)
	} else {
		dst = AppendLiteralHeader(dst, int64(len(s)), false)
		start = len(dst)
		dst = append(dst, s...)
	}
	if nul {
		body := dst[start:]
		for i := bytes.IndexByte(body, 0); i >= 0; i = bytes.IndexByte(body, 0) {
			body[i] = '?'
		}
	}
	return dst
}

func validUTF8[S byteSeq](s S) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		var next [utf8.UTFMax]byte
		r, size := utf8.DecodeRune(next[:copy(next[:], s[i:])])
		if r == utf8.RuneError && size <= 1 {
			return false
		}
		i += size
	}
	return true
}

// appendQuoted appends s in quotes, with what must be escaped escaped.
func appendQuoted[S byteSeq](dst []byte, s S) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			dst = append(dst, s[from:i]...)
			dst = append(dst, '\\')
			from = i
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// AppendNString appends s as AppendString does, or NIL where ok is false.
func AppendNString[S byteSeq](dst []byte, s S, ok bool, mode Mode) []byte {
	if !ok {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s, mode)
}

// AppendAstring appends s as an atom where it is one, else as AppendString
// does. The word NIL is quoted, so that nobody mistakes it.
func AppendAstring[S byteSeq](dst []byte, s S, mode Mode) []byte {
	atom := len(s) > 0 && len(s) <= maxQuoted
	for i := 0; atom && i < len(s); i++ {
		atom = isAtomChar(s[i])
	}
	if !atom || len(s) == 3 && strings.EqualFold(string(s), "NIL") {
		return AppendString(dst, s, mode)
	}
	return append(dst, s...)
}

// AppendMailbox appends a mailbox name given in UTF-8: as modified UTF-7 in
// ModeASCII, as it is in ModeUTF8.
func AppendMailbox(dst []byte, name string, mode Mode) []byte {
	if mode == ModeASCII {
		name = imap.EncodeUTF7(name)
	}
	return AppendAstring(dst, name, mode)
}

// AppendLiteralHeader appends the announcement of a literal of n bytes, or of
// a literal8 where binary is set, with its line end.
func AppendLiteralHeader(dst []byte, n int64, binary bool) []byte {
	if binary {
		dst = append(dst, '~')
	}
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, '}', '\r', '\n')
}

// AppendDateTime appends a date-time with its quotes.
func AppendDateTime(dst []byte, t imap.Time) []byte {
	return append(t.AppendWire(append(dst, '"')), '"')
}

// AppendFlagList appends flags in parentheses.
func AppendFlagList(dst []byte, flags []imap.Flag) []byte {
	dst = append(dst, '(')
	for i, f := range flags {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, f...)
	}
	return append(dst, ')')
}

// AppendText appends human-readable text as resp-text has it: without line
// ends and NULs, and in ModeASCII without what is not ASCII. What may not stand
// there becomes a space or "?".
func AppendText[S byteSeq](dst []byte, s S, mode Mode) []byte {
	keepHigh := mode == ModeUTF8 && validUTF8(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			dst = append(dst, ' ')
		case c == 0 || c >= 0x80 && !keepHigh:
			dst = append(dst, '?')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
