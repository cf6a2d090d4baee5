package message

import (
	"bytes"
	"strconv"
)

// appendString appends s as a string of the protocol: quoted where that can
// be, else a literal. NUL, which no string may hold, becomes 0x80.
func appendString(dst, s []byte) []byte {
	start := len(dst)
	dst = append(dst, '"')
	for rest := s; ; {
		n := 0
		for n < len(rest) && quotedAs[rest[n]] == asItIs {
			n++
		}
		dst = append(dst, rest[:n]...)
		if n == len(rest) {
			return append(dst, '"')
		}
		if quotedAs[rest[n]] == never {
			return appendLiteral(dst[:start], s)
		}
		dst = append(dst, '\\', rest[n])
		rest = rest[n+1:]
	}
}

// How an octet stands in a quoted string.
const (
	asItIs = iota
	escaped
	never
)

// quotedAs says how each octet stands in a quoted string.
var quotedAs = func() (how [256]uint8) {
	for c := range how {
		switch {
		case c == 0 || c >= 0x80 || c == '\r' || c == '\n':
			how[c] = never
		case c == '"' || c == '\\':
			how[c] = escaped
		}
	}
	return how
}()

func appendLiteral(dst, s []byte) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, '}', '\r', '\n')
	start := len(dst)
	dst = append(dst, s...)
	replaceNUL(dst[start:])
	return dst
}

func replaceNUL(b []byte) {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return
		}
		b[i] = 0x80
		b = b[i+1:]
	}
}
