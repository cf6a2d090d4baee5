package message

import "bytes"

// address is one element of an address list, as an ENVELOPE shows it.
type address struct {
	kind          addressKind
	name, route   []byte // empty for NIL
	mailbox, host []byte // of a group's start, mailbox is its name
}

type addressKind uint8

const (
	addressMailbox addressKind = iota
	addressGroupStart
	addressGroupEnd
)

// addressParser reads an address list (RFC 5322 section 3.4, with what is
// obsolete and much of what is wrong). Its results are valid until the next
// call of next.
type addressParser struct {
	src []byte

	inGroup, endGroup bool

	// What stands before "<", ",", ";" or ":", in two forms: as a phrase with
	// single spaces between words, and as an address without spaces.
	phrase, spec, comment []byte
	route, angle          []byte
	space                 bool // white space or a comment came last
	at                    int  // place of the last "@" in spec, or -1
	gaps                  int  // places where words are next to each other
	firstGap, lastGap     gap
}

// gap is a place between two words.
type gap struct{ phrase, spec int }

// begin readies the parser for another list.
func (p *addressParser) begin(src []byte) {
	*p = addressParser{src: src, phrase: p.phrase, spec: p.spec, route: p.route, angle: p.angle}
}

// next returns the next address; false at the end of the list.
func (p *addressParser) next() (address, bool) {
	for {
		if p.endGroup || len(p.src) == 0 && p.inGroup {
			p.endGroup, p.inGroup = false, false
			return address{kind: addressGroupEnd}, true
		}
		if len(p.src) == 0 {
			return address{}, false
		}
		if a, ok := p.element(); ok {
			return a, true
		}
	}
}

// element reads up to a comma, semicolon or colon.
func (p *addressParser) element() (address, bool) {
	p.phrase, p.spec, p.comment = p.phrase[:0], p.spec[:0], p.comment[:0]
	p.space, p.at, p.gaps = false, -1, 0
	for len(p.src) > 0 {
		c := p.src[0]
		switch c {
		case ' ', '\t', '\r', '\n':
			p.src, p.space = p.src[1:], true
		case '(':
			p.readComment()
		case '"':
			start := p.beginWord()
			p.phrase = p.readQuoted(p.phrase)
			p.endWord(start)
		case ',':
			p.src = p.src[1:]
			return p.bare()
		case ';':
			p.src = p.src[1:]
			p.endGroup = p.inGroup
			return p.bare()
		case ':':
			p.src = p.src[1:]
			if !p.inGroup && p.at < 0 {
				p.inGroup = true
				return address{kind: addressGroupStart, mailbox: p.phrase}, true
			}
			p.both(':')
		case '<':
			p.src = p.src[1:]
			return p.angleAddress()
		case '>':
			p.src = p.src[1:]
		case '@', '.':
			p.src = p.src[1:]
			p.special(c)
		case '[':
			start := p.beginWord()
			p.phrase = p.readLiteral(p.phrase)
			p.endWord(start)
		default:
			start := p.beginWord()
			p.phrase = p.readAtom(p.phrase)
			p.endWord(start)
		}
	}
	return p.bare()
}

func (p *addressParser) both(c byte) {
	p.phrase, p.spec = append(p.phrase, c), append(p.spec, c)
}

// special takes "@" or ".", which join what is around them to an address.
func (p *addressParser) special(c byte) {
	if p.space && len(p.phrase) > 0 {
		p.phrase = append(p.phrase, ' ')
	}
	p.space = false
	if c == '@' {
		p.at = len(p.spec)
	}
	p.both(c)
}

// beginWord readies both forms for a word, which is to be read into phrase, and returns
// where it begins there.
func (p *addressParser) beginWord() int {
	if n := len(p.spec); p.space && n > 0 {
		if c := p.spec[n-1]; c != '.' && (c != '@' || p.at != n-1) {
			g := gap{len(p.phrase), n}
			if p.gaps == 0 {
				p.firstGap = g
			}
			p.lastGap = g
			p.gaps++
		}
	}
	if p.space && len(p.phrase) > 0 {
		p.phrase = append(p.phrase, ' ')
	}
	p.space = false
	return len(p.phrase)
}

// endWord has the word that was read into phrase in the other form too.
func (p *addressParser) endWord(start int) { p.spec = append(p.spec, p.phrase[start:]...) }

// bare makes an address of what was read without angle brackets.
func (p *addressParser) bare() (address, bool) {
	if len(p.phrase) == 0 && len(p.comment) == 0 {
		return address{}, false
	}
	name, spec, at := p.comment, p.spec, p.at
	switch {
	case p.gaps == 0:
	case at < 0: // several words: a name without an address
		return address{name: p.phrase, mailbox: []byte{}, host: []byte{}}, true
	case at >= p.lastGap.spec: // Jane Doe jane@example.com
		name, spec, at = p.phrase[:p.lastGap.phrase], spec[p.lastGap.spec:], at-p.lastGap.spec
	case at < p.firstGap.spec: // jane@example.com Jane Doe
		name, spec = bytes.TrimLeft(p.phrase[p.firstGap.phrase:], " "), spec[:p.firstGap.spec]
	}
	a := address{name: name}
	a.mailbox, a.host = splitSpec(spec, at)
	return a, true
}

// splitSpec divides an address at the "@".
func splitSpec(spec []byte, at int) (mailbox, host []byte) {
	if at < 0 {
		return spec, nil
	}
	return spec[:at], spec[at+1:]
}

// angleAddress reads behind "<", and on to the end of the element.
func (p *addressParser) angleAddress() (address, bool) {
	p.angle, p.route = p.angle[:0], p.route[:0]
	at, route := -1, p.routeAhead()
	for open := true; open && len(p.src) > 0; {
		c := p.src[0]
		switch c {
		case '>':
			p.src, open = p.src[1:], false
		case ',', ';':
			if open = route && c == ','; open {
				p.angle, p.src = append(p.angle, c), p.src[1:]
			}
		case ':':
			p.src = p.src[1:]
			if route {
				p.route, p.angle, at, route = append(p.route, p.angle...), p.angle[:0], -1, false
			} else {
				p.angle = append(p.angle, c)
			}
		case ' ', '\t', '\r', '\n', '<':
			p.src = p.src[1:]
		case '(':
			p.readComment()
		case '"':
			p.angle = p.readQuoted(p.angle)
		case '[':
			p.angle = p.readLiteral(p.angle)
		case '@', '.':
			if c == '@' {
				at = len(p.angle)
			}
			p.angle, p.src = append(p.angle, c), p.src[1:]
		default:
			p.angle = p.readAtom(p.angle)
		}
	}
	p.skipElement()
	a := address{name: p.phrase, route: p.route}
	if len(a.name) == 0 {
		a.name = p.comment
	}
	a.mailbox, a.host = splitSpec(p.angle, at)
	return a, true
}

// routeAhead tells whether an obsolete route (RFC 5322 section 4.4: @one,@two:)
// follows.
func (p *addressParser) routeAhead() bool {
	b := bytes.TrimLeft(p.src, " \t\r\n")
	if len(b) == 0 || b[0] != '@' {
		return false
	}
	i := bytes.IndexAny(b[:min(len(b), 1000)], ":>")
	return i > 0 && b[i] == ':'
}

// skipElement passes what follows ">", in which only a comment counts.
func (p *addressParser) skipElement() {
	for len(p.src) > 0 {
		switch p.src[0] {
		case '(':
			p.readComment()
		case '"':
			n := len(p.spec)
			p.spec = p.readQuoted(p.spec)[:n]
		case ',':
			p.src = p.src[1:]
			return
		case ';':
			p.src = p.src[1:]
			p.endGroup = p.inGroup
			return
		default:
			p.src = p.src[1:]
		}
	}
}

// readComment reads a comment; the last one that is not empty is kept.
func (p *addressParser) readComment() {
	p.space = true
	var text []byte
	depth, i := 0, 0
loop:
	for ; i < len(p.src); i++ {
		c := p.src[i]
		switch {
		case c == '\\' && i+1 < len(p.src):
			i++
			c = p.src[i]
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')':
			if depth--; depth == 0 {
				i++
				break loop
			}
		case c == '\r' || c == '\n':
			continue
		}
		text = append(text, c)
	}
	p.src = p.src[i:]
	if text = trimSpace(text); len(text) > 0 {
		p.comment = text
	}
}

// readQuoted appends the content of a quoted string.
func (p *addressParser) readQuoted(dst []byte) []byte {
	for i := 1; i < len(p.src); i++ {
		c := p.src[i]
		switch {
		case c == '"':
			p.src = p.src[i+1:]
			return dst
		case c == '\\' && i+1 < len(p.src):
			i++
			c = p.src[i]
		case c == '\r' || c == '\n':
			continue
		}
		dst = append(dst, c)
	}
	p.src = nil
	return dst
}

// readLiteral appends a domain literal with its brackets.
func (p *addressParser) readLiteral(dst []byte) []byte {
	for i, c := range p.src {
		if c == ']' || c == '>' || c == ',' {
			if c == ']' {
				i++
			}
			dst, p.src = append(dst, p.src[:i]...), p.src[i:]
			return dst
		}
	}
	dst, p.src = append(dst, p.src...), nil
	return dst
}

// readAtom appends characters up to a special one. An encoded word is one
// atom, though it may hold commas and the like where a mailer is careless.
func (p *addressParser) readAtom(dst []byte) []byte {
	if n := encodedWordLen(p.src); n > 0 {
		dst, p.src = append(dst, p.src[:n]...), p.src[n:]
		return dst
	}
	i := 0
	if p.src[0] == '\\' {
		p.src = p.src[1:]
		i = min(1, len(p.src))
	}
	for i < len(p.src) && !addressSpecial[p.src[i]] {
		i++
	}
	dst, p.src = append(dst, p.src[:i]...), p.src[i:]
	return dst
}

// addressSpecial says which characters end an atom.
var addressSpecial = [256]bool{
	' ': true, '\t': true, '\r': true, '\n': true, '(': true, '"': true, ',': true, ';': true,
	':': true, '<': true, '>': true, '@': true, '.': true, '[': true, '\\': true,
}

// encodedWordLen returns the length of the encoded word at the start of b, at
// most 200, or 0.
func encodedWordLen(b []byte) int {
	if len(b) < 8 || b[0] != '=' || b[1] != '?' {
		return 0
	}
	b = b[:min(len(b), 200)]
	marks := 1
	for i := 2; i < len(b); i++ {
		switch c := b[i]; {
		case isSpace(c) || c == '"':
			return 0
		case c != '?':
		case marks == 3 && i+1 < len(b) && b[i+1] == '=':
			return i + 2
		case marks < 3:
			marks++
		}
	}
	return 0
}
