package imapwire

import (
	"errors"
	"fmt"
	"strings"
)

// SyntaxError says what the grammar wanted and what it found. Its text is
// printable ASCII and short, fit for a BAD response.
type SyntaxError struct {
	// Pos counts the bytes of the command's lines before the fault, without
	// the contents of literals.
	Pos int
	// Expected names the production: "mailbox name".
	Expected string
	// Got describes what stood there; "" where that is not known.
	Got string
}

func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("expected %s at position %d", e.Expected, e.Pos+1)
	if e.Got != "" {
		s += ", got " + e.Got
	}
	return printable(s)
}

// LimitError says which bound of the server a command exceeds.
type LimitError struct {
	// What is the thing that is too large: "command line".
	What string
	// Limit is the greatest value, in Unit.
	Limit int64
	// Unit is "bytes" or "levels".
	Unit string
	// Literal is set where the fault is the size of a literal, which has the
	// response code TOOBIG.
	Literal bool
}

func (e *LimitError) Error() string {
	return printable(fmt.Sprintf("%s: at most %d %s are accepted", e.What, e.Limit, e.Unit))
}

// NULError is a NUL byte in a literal that may not carry one (RFC 9051 section
// 4.3: only literal8 may).
type NULError struct {
	// Offset is the place of the NUL within the literal, from 0.
	Offset int64
}

func (e *NULError) Error() string {
	return fmt.Sprintf("NUL byte at offset %d of a literal: only literal8 (~{n}) may carry it", e.Offset)
}

// ErrSkipTooLarge is returned where more bytes would have to be skipped than
// MaxSkip: end the connection with BYE [TOOBIG].
var ErrSkipTooLarge = errors.New("refused data is too large to be skipped")

// Recoverable reports whether the connection can go on after err: answer BAD
// (or NO [TOOBIG] for a literal), call [Decoder.DiscardCommand], read the next
// command. Other errors are those of the connection itself.
func Recoverable(err error) bool {
	if _, ok := errors.AsType[*SyntaxError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*LimitError](err); ok {
		return true
	}
	_, ok := errors.AsType[*NULError](err)
	return ok
}

// printable makes s fit for a response line: printable ASCII, bounded.
func printable(s string) string {
	const limit = 300
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func describeByte(c byte) string {
	switch {
	case c == '\r' || c == '\n':
		return "end of line"
	case c == ' ':
		return "space"
	case c == 0:
		return "NUL"
	case c == '"':
		return `'"'`
	case c < ' ' || c >= 0x7f:
		return fmt.Sprintf("byte 0x%02x", c)
	}
	return `"` + string(rune(c)) + `"`
}

// describe quotes a piece of input for an error text.
func describe(s string) string {
	const limit = 32
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return `"` + printable(s) + `"`
}
