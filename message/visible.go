package message

import (
	"bytes"
	"html"
)

// visibleText takes from HTML, which comes in pieces, what a reader sees. It
// is no parser of HTML: it needs no more than to pass tags, comments, scripts
// and styles, to resolve character references, and to see where lines break.
type visibleText struct {
	out []byte

	state  htmlState
	quote  byte   // the quote in which an attribute value is
	tag    []byte // name of the tag that is read, at most maxTagName
	inName bool
	hidden []byte // name of the element whose content does not count
	dashes int    // in a comment
	run    []byte // text that may hold character references
	last   byte   // of what was written
}

type htmlState uint8

const (
	htmlText    htmlState = iota
	htmlOpen              // after "<"
	htmlTag               // in a tag
	htmlComment           // in a comment
	htmlDecl              // in <!... or <?...
)

const maxTagName = 16

// write takes a piece of UTF-8.
func (v *visibleText) write(b []byte) {
	for len(b) > 0 {
		switch v.state {
		case htmlText:
			i := bytes.IndexByte(b, '<')
			if i < 0 {
				v.text(b)
				v.endRun(false)
				return
			}
			v.text(b[:i])
			b, v.state = b[i+1:], htmlOpen
		case htmlOpen:
			b = v.open(b)
		case htmlTag:
			b = v.inTag(b)
		case htmlComment:
			b = v.inComment(b)
		default:
			i := bytes.IndexByte(b, '>')
			if i < 0 {
				return
			}
			b, v.state = b[i+1:], htmlText
		}
	}
}

// flush ends the text.
func (v *visibleText) flush() { v.endRun(true) }

func (v *visibleText) text(b []byte) {
	if v.hidden == nil {
		v.run = append(v.run, b...)
	}
}

// endRun writes out the text that has been read. Unless all is there, the
// beginning of a character reference is kept.
func (v *visibleText) endRun(all bool) {
	const longest = 34 // octets of a character reference
	keep := len(v.run)
	if i := bytes.LastIndexByte(v.run, '&'); i >= 0 && !all && len(v.run)-i < longest {
		keep = i
	}
	run := v.run[:keep]
	if bytes.IndexByte(run, '&') >= 0 {
		run = []byte(html.UnescapeString(string(run)))
	}
	for len(run) > 0 {
		words := spacedWords(run)
		if words > 0 {
			v.out = append(v.out, run[:words]...)
			v.last = run[words-1]
		}
		gap := words
		for gap < len(run) && isGap(run[gap]) {
			gap++
		}
		if gap > words {
			v.space(' ')
		}
		run = run[gap:]
	}
	v.run = append(v.run[:0], v.run[keep:]...)
}

// spacedWords returns the length of the words at the start of b that have single spaces
// between them.
func spacedWords(b []byte) int {
	n := 0
	for n < len(b) && (!isGap(b[n]) || b[n] == ' ' && n > 0 && n+1 < len(b) && !isGap(b[n+1])) {
		n++
	}
	return n
}

// isGap tells what stands between words.
func isGap(c byte) bool { return c <= ' ' && (isSpace(c) || c == '\f' || c == 0) }

// space writes a space or line break unless white space came last; a line
// break stands behind a space though.
func (v *visibleText) space(c byte) {
	if v.last == '\n' || v.last == ' ' && c == ' ' {
		return
	}
	v.out, v.last = append(v.out, c), c
}

func (v *visibleText) open(b []byte) []byte {
	c := b[0]
	switch {
	case c == '!' || c == '?':
		switch {
		case v.hidden != nil:
			v.state = htmlText
		case c == '!':
			v.state, v.dashes = htmlComment, -2
		default:
			v.state = htmlDecl
		}
		return b[1:]
	case c == '/' || c-'a' < 26 || c-'A' < 26:
		v.state, v.tag, v.inName, v.quote = htmlTag, append(v.tag[:0], c|0x20), true, 0
		if c == '/' {
			v.tag[0] = c
		}
		return b[1:]
	}
	v.state = htmlText // a "<" that is text
	v.text([]byte{'<'})
	return b
}

func (v *visibleText) inTag(b []byte) []byte {
	for len(b) > 0 {
		if v.quote != 0 {
			i := bytes.IndexByte(b, v.quote)
			if i < 0 {
				return nil
			}
			b, v.quote = b[i+1:], 0
			continue
		}
		c := b[0]
		b = b[1:]
		switch {
		case c == '>':
			v.endTag()
			return b
		case c == '<' && v.hidden != nil: // the one before was no tag
			v.state = htmlOpen
			return b
		case v.inName && c != '/' && !isSpace(c):
			if c-'A' < 26 {
				c |= 0x20
			}
			if len(v.tag) < maxTagName {
				v.tag = append(v.tag, c)
			}
		case (c == '"' || c == '\'') && v.hidden == nil:
			v.quote = c
		default:
			v.inName = false
		}
	}
	return nil
}

func (v *visibleText) endTag() {
	v.state = htmlText
	name, closing := bytes.CutPrefix(v.tag, []byte{'/'})
	if v.hidden != nil {
		if closing && bytes.Equal(name, v.hidden) {
			v.hidden = nil
		}
		return
	}
	v.endRun(true)
	switch string(name) {
	case "script", "style", "title", "template", "noframes":
		if !closing {
			v.hidden = bytes.Clone(name)
		}
	case "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd",
		"mark", "o:p", "q", "s", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr":
	case "td", "th", "img", "input", "button", "label":
		v.space(' ')
	default:
		v.space('\n')
	}
}

// inComment passes a comment, or a declaration that only begins like one.
func (v *visibleText) inComment(b []byte) []byte {
	for i, c := range b {
		switch {
		case v.dashes < 0: // "<!", and perhaps "-"
			if c != '-' {
				v.state = htmlDecl
				return b[i:]
			}
			v.dashes++
		case c == '-':
			v.dashes++
		case c == '>' && v.dashes >= 2:
			v.state = htmlText
			return b[i+1:]
		default:
			v.dashes = 0
		}
	}
	return nil
}
