package imapwire

import (
	"math"
	"unicode/utf8"
)

// Peek returns the next byte of the command without consuming it, '\n' at the
// end of the line (be it CRLF or LF), 0 after an error.
func (d *Decoder) Peek() byte {
	c, _ := d.peek()
	if c == '\r' {
		return '\n'
	}
	return c
}

// AtEOL reports whether the line ends here.
func (d *Decoder) AtEOL() bool { return d.Peek() == '\n' }

// TryByte consumes c if it is next, and reports whether it was.
func (d *Decoder) TryByte(c byte) bool {
	got, ok := d.peek()
	return ok && got == c && d.consume(1)
}

// Byte consumes c, which must be next.
func (d *Decoder) Byte(c byte) {
	if got, ok := d.peek(); ok && got != c {
		d.Fail(describeByte(c), "")
	} else if ok {
		d.consume(1)
	}
}

// SP consumes one space.
func (d *Decoder) SP() { d.Byte(' ') }

// TrySP consumes a space if one is next, and reports whether it was.
func (d *Decoder) TrySP() bool { return d.TryByte(' ') }

// CRLF consumes the line end that ends the command. A bare LF is taken for
// one, as most servers do; a bare CR never.
func (d *Decoder) CRLF() {
	if d.lineEnd("end of line") {
		d.ended = true
	}
}

func (d *Decoder) lineEnd(expected string) bool {
	c, ok := d.peek()
	if !ok {
		return false
	}
	if c == '\r' {
		if !d.consume(1) {
			return false
		}
		if c, ok = d.peek(); !ok {
			return false
		}
		if c != '\n' {
			d.Fail("LF after CR", "")
			return false
		}
	}
	if c != '\n' {
		d.Fail(expected, "")
		return false
	}
	// The line is whole: a limit may not strike between its end and its
	// beginning, or recovery would eat the next command.
	d.pos++
	d.line++
	d.begun = true
	return true
}

// token reads one or more bytes of a class.
func (d *Decoder) token(class uint16, expected string) []byte {
	b := d.takeWhile(class)
	if len(b) == 0 {
		d.Fail(expected, "")
		return nil
	}
	return b
}

// Tag reads the tag of a command.
func (d *Decoder) Tag() string { return string(d.token(classTag, "tag")) }

// Atom reads an atom.
func (d *Decoder) Atom() string { return string(d.token(classAtom, "atom")) }

// Keyword reads a word of the protocol in upper case: a command name, a FETCH
// item, a search key. It is an atom that also ends before "[" and "<", so that
// BODY[...]<0.10> is read piece by piece.
func (d *Decoder) Keyword() string { return d.KeywordOf(nil) }

// KeywordOf is Keyword where only some words make sense: where there is none at
// all, expected says which these are. It may be nil.
func (d *Decoder) KeywordOf(expected func() string) string {
	b := d.takeWhile(classKeyword)
	if len(b) == 0 && d.err == nil {
		what := "keyword"
		if expected != nil {
			what = expected()
		}
		d.Fail(what, "")
	}
	var upper [64]byte
	if len(b) > len(upper) {
		return string(upperASCII(append([]byte(nil), b...)))
	}
	return string(upperASCII(upper[:copy(upper[:], b)]))
}

func upperASCII(b []byte) []byte {
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return b
}

// Quoted reads a quoted string. Beyond ASCII it must be UTF-8, which is taken
// in every mode (RFC 9051 section 4.3).
func (d *Decoder) Quoted() string {
	start := d.line
	if c, ok := d.peek(); !ok || c != '"' {
		d.Fail("quoted string", "")
		return ""
	}
	d.consume(1)
	d.quoted = d.quoted[:0]
	escaped := false
	for {
		run := d.takeWhile(classQuoted)
		c, ok := d.peek()
		if !ok {
			return ""
		}
		// Should this turn out to be no string, its end may be an announcement.
		if c != '"' || escaped {
			d.quoted = append(d.quoted, run...)
			run = d.quoted
		}
		switch c {
		case '"':
			if !d.consume(1) {
				return ""
			}
			if !utf8.Valid(run) {
				d.failAt(start, "quoted string in UTF-8", "other bytes")
				return ""
			}
			return string(run)
		case '\\':
			if !d.consume(1) {
				return ""
			}
			if c, ok = d.peek(); !ok {
				return ""
			}
			if c != '"' && c != '\\' {
				d.Fail(`'"' or "\" after "\" in a quoted string`, "")
				return ""
			}
			d.quoted = append(d.quoted, c)
			escaped = true
			if !d.consume(1) {
				return ""
			}
		default:
			d.Fail(`'"' that ends the quoted string`, "")
			d.scan.feed(run)
			return ""
		}
	}
}

// Str reads a string: quoted or a literal. (String would make the decoder a
// fmt.Stringer.)
func (d *Decoder) Str() string { return d.str("string") }

func (d *Decoder) str(expected string) string {
	switch c, ok := d.peek(); {
	case !ok:
		return ""
	case c == '"':
		return d.Quoted()
	case c == '{':
		return string(d.Literal())
	}
	d.Fail(expected, "")
	return ""
}

// Astring reads an astring: an atom (which may have "]"), or a string.
func (d *Decoder) Astring() string { return d.astring(classAstring, "atom or string") }

func (d *Decoder) astring(class uint16, expected string) string {
	if c, ok := d.peek(); ok && c != '"' && c != '{' {
		return string(d.token(class, expected))
	}
	return d.str(expected)
}

// NString reads an nstring: a string, or NIL, for which ok is false.
func (d *Decoder) NString() (s string, ok bool) {
	if c, more := d.peek(); more && c != '"' && c != '{' {
		start := d.line
		if word := d.KeywordOf(func() string { return "string or NIL" }); d.err == nil && word != "NIL" {
			d.failAt(start, "string or NIL", describe(word))
		}
		return "", false
	}
	s = d.str("string or NIL")
	return s, d.err == nil
}

// Number reads a number of 32 bits; zero is allowed.
func (d *Decoder) Number() uint32 {
	return uint32(d.number(math.MaxUint32, "number up to 4294967295"))
}

// NzNumber reads an nz-number: 32 bits, not zero, no leading zero.
func (d *Decoder) NzNumber() uint32 {
	return uint32(d.nzNumber(math.MaxUint32, "number from 1 to 4294967295"))
}

// Number64 reads a number64 of 63 bits; zero is allowed.
func (d *Decoder) Number64() int64 {
	return int64(d.number(math.MaxInt64, "number up to 9223372036854775807"))
}

func (d *Decoder) nzNumber(limit uint64, expected string) uint64 {
	if c, ok := d.peek(); ok && c == '0' {
		d.Fail(expected, "")
		return 0
	}
	return d.number(limit, expected)
}

func (d *Decoder) number(limit uint64, expected string) uint64 {
	start := d.line
	digits := d.token(classDigit, expected)
	var n uint64
	for _, c := range digits {
		digit := uint64(c - '0')
		if n > (limit-digit)/10 {
			d.failAt(start, expected, describe(string(digits)))
			return 0
		}
		n = n*10 + digit
	}
	return n
}
