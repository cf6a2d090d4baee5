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
	for _, c := range s {
		switch {
		case c == 0 || c >= 0x80 || c == '\r' || c == '\n':
			return appendLiteral(dst[:start], s)
		case c == '"' || c == '\\':
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

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
