package message

import (
	"bytes"
	"io"
)

// readBuffer is how much of a message is read at once, and the longest line that
// is seen as a whole; longer ones come in pieces of that size.
const readBuffer = 32 << 10

// read passes a message through the parser. buf has readBuffer octets.
func (p *parser) read(r io.Reader, buf []byte) error {
	kept := 0 // octets in buf that have not been passed on: the beginning of a line
	for idle := 0; ; {
		n, err := r.Read(buf[kept:])
		if n < 0 || n > len(buf)-kept {
			panic("message: a reader returned an impossible count")
		}
		got := buf[:kept+n]
		p.d.HasNUL = p.d.HasNUL || bytes.IndexByte(got[kept:], 0) >= 0
		switch {
		case err == io.EOF:
			if rest := got[p.lines(got, kept):]; len(rest) > 0 {
				p.line(rest, p.atStart, true)
			}
			p.finish()
			return nil
		case err != nil:
			return err
		case n > 0:
			idle = 0
		case idle == maxIdleReads:
			return io.ErrNoProgress
		default:
			idle++
		}
		taken := p.lines(got, kept)
		if taken == 0 && len(got) == len(buf) {
			p.line(got, p.atStart, false)
			p.atStart, taken = false, len(got)
		}
		kept = copy(buf, got[taken:])
	}
}

// maxIdleReads is how often in a row a reader may return nothing.
const maxIdleReads = 100

// lines passes on the whole lines of b, of which the first one ends behind kept, and
// returns how many octets they are. Lines in which nothing begins or ends, which are
// nearly all, go together.
func (p *parser) lines(b []byte, kept int) int {
	i := bytes.LastIndexByte(b[kept:], '\n')
	if i < 0 {
		return 0
	}
	whole := kept + i + 1
	for rest := b[:whole]; len(rest) > 0; {
		n := 0
		switch {
		case !p.atStart:
		case p.inHeader:
			if n = p.plainFields(rest); n > 0 {
				p.hdr = append(p.hdr, rest[:n]...)
				p.headerLeft -= int64(n)
				p.advance(rest[:n])
			}
		default:
			if n = p.plainBody(rest); n > 0 {
				p.noteNUL(rest[:n])
				p.body(rest[:n])
			}
		}
		if n == 0 {
			n = bytes.IndexByte(rest, '\n') + 1
			p.line(rest[:n], p.atStart, true)
			p.atStart = true
		}
		rest = rest[n:]
	}
	return whole
}

// plainBody returns the length of the lines at the beginning of b, which begins a
// line of a body, that cannot be delimiters.
func (p *parser) plainBody(b []byte) int {
	if p.open == 0 {
		return len(b)
	}
	if bytes.HasPrefix(b, []byte("--")) {
		return 0
	}
	if i := bytes.Index(b, []byte("\n--")); i >= 0 {
		return i + 1
	}
	return len(b)
}

// plainFields returns the length of the lines at the beginning of b, which begins
// a line of a header, that cannot be delimiters or end the header, and are
// within the limits.
func (p *parser) plainFields(b []byte) int {
	if p.blank {
		return 0
	}
	n := 0
	for n < len(b) {
		line := b[n:]
		if p.open > 0 && line[0] == '-' {
			break
		}
		i := bytes.IndexByte(line, '\n') + 1
		if isSpace(line[0]) && len(trimSpace(line[:i])) == 0 || int64(n+i) > p.headerLeft {
			break
		}
		n += i
	}
	return n
}
