// Package imapwire is the codec: a [Decoder] that reads the grammar of IMAP
// commands from a connection, and an [Encoder] that writes responses to it.
//
// It knows productions (RFC 9051 section 9, with those of RFC 3501 that it
// replaced), literals, limits and recovery after errors. It knows no commands
// and no connection states: that is package imapserver.
//
// Start with [NewDecoder] and [NewEncoder]. Whoever prepares wire forms in
// advance uses the append functions: [AppendString], [AppendMailbox] and so on.
package imapwire

import "sync"

// Mode says which strings the client understands.
type Mode uint8

const (
	// ModeASCII is a session that has enabled nothing: quoted strings carry
	// ASCII, mailbox names modified UTF-7.
	ModeASCII Mode = iota
	// ModeUTF8 is a session after ENABLE IMAP4rev2 or UTF8=ACCEPT: quoted
	// strings carry UTF-8, and so do mailbox names.
	ModeUTF8
)

// DefaultBufferSize is the size of a buffer in bytes where none is given.
const DefaultBufferSize = 32 << 10

// BufferPool lends buffers to decoders and encoders, which give them back
// while their client says nothing. It is safe for concurrent use. A nil pool
// allocates.
type BufferPool struct {
	pool sync.Pool
	size int
}

// NewBufferPool makes a pool of buffers of size bytes; zero (or less than
// 1024) means [DefaultBufferSize].
func NewBufferPool(size int) *BufferPool {
	if size < 1024 {
		size = DefaultBufferSize
	}
	return &BufferPool{size: size}
}

func (p *BufferPool) get() *[]byte {
	if p == nil {
		b := make([]byte, DefaultBufferSize)
		return &b
	}
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, p.size)
	return &b
}

func (p *BufferPool) put(b *[]byte) {
	if p != nil && b != nil {
		p.pool.Put(b)
	}
}

// Classes of bytes, a bit each.
const (
	classAtom    = 1 << iota // ATOM-CHAR
	classAstring             // ASTRING-CHAR: ATOM-CHAR and "]"
	classTag                 // ASTRING-CHAR without "+"
	classKeyword             // ATOM-CHAR without "[" and "<"
	classList                // list-char: ASTRING-CHAR, "%" and "*"
	classDigit
	classBase64 // with its padding
	classQuoted // what stands for itself in a quoted string, UTF-8 included
	classSet    // what a sequence-set is made of
)

// classes says to which classes each byte belongs. It is never written again.
var classes = func() (table [256]uint16) {
	for i := range table {
		c := byte(i)
		if isAtomChar(c) {
			table[i] |= classAtom | classAstring | classList
			if c != '+' {
				table[i] |= classTag
			}
			if c != '[' && c != '<' {
				table[i] |= classKeyword
			}
		}
		switch {
		case c == ']':
			table[i] |= classAstring | classTag | classList
		case c == '%':
			table[i] |= classList
		case c == '*':
			table[i] |= classList | classSet
		case c == ',' || c == ':':
			table[i] |= classSet
		case '0' <= c && c <= '9':
			table[i] |= classDigit | classBase64 | classSet
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '+' || c == '/' || c == '=':
			table[i] |= classBase64
		}
		if c != 0 && c != '\r' && c != '\n' && c != '"' && c != '\\' {
			table[i] |= classQuoted
		}
	}
	return table
}()

func isAtomChar(c byte) bool {
	if c <= ' ' || c >= 0x7f {
		return false
	}
	switch c {
	case '(', ')', '{', '%', '*', '"', '\\', ']':
		return false
	}
	return true
}
