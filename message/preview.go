package message

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// previewLength is RFC 8970's, in characters; previewSource is how much of a
// part is looked at, in octets.
const (
	previewLength = 200
	previewSource = 16 << 10
)

// previewer makes the preview from the first text part that has words and is
// no attachment.
type previewer struct {
	found string
	buf   []byte
	using bool
	tried int // how long buf was when it was not enough

	own, all previewBuilder // of words
}

// begun returns a previewer for another message, with the memory of p.
func (p *previewer) begun() previewer {
	return previewer{buf: p.buf[:0], own: previewBuilder{b: p.own.b[:0]}, all: previewBuilder{b: p.all.b[:0]}}
}

func (p *previewer) wants(part *Part) bool {
	return p.found == "" && part.Disposition != "attachment" &&
		(part.Type == "multipart" || part.Type == "text" && part.Subtype != "calendar")
}

func (p *previewer) begin(part *Part) { p.using, p.buf, p.tried = p.wants(part), p.buf[:0], 0 }

// wantsMore reports whether what comes later may matter.
func (p *previewer) wantsMore() bool {
	if !p.using || len(p.buf) >= previewSource {
		return false
	}
	if len(p.buf) < 2*p.tried {
		return true
	}
	p.tried = len(p.buf)
	_, sure := p.words(p.buf, false)
	return !sure
}

func (p *previewer) text(b []byte) {
	if p.using {
		p.buf = append(p.buf, b[:min(len(b), previewSource-len(p.buf))]...)
	}
}

func (p *previewer) drop() { p.using = false }

func (p *previewer) end() {
	if p.using {
		p.using = false
		words, _ := p.words(p.buf, true)
		p.found = string(words)
	}
}

func (p *previewer) result() string { return p.found }

// words returns the first words of a text, without quoted lines, the line
// that introduces them, and the signature; unless nothing else is there. Where the
// text is not whole it is not sure that they are those of the whole text.
func (p *previewer) words(text []byte, whole bool) (words []byte, sure bool) {
	own, all := &p.own, &p.all
	own.reset()
	all.reset()
	for len(text) > 0 && own.chars < previewLength {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		if !ended && !whole {
			return nil, false
		}
		text = rest
		trimmed := bytes.TrimSpace(line)
		all.add(trimmed)
		if string(line) == "-- " || isOriginalMark(trimmed) {
			break
		}
		next := bytes.TrimLeft(rest, " \t\n")
		if len(next) == 0 && !whole {
			return nil, false
		}
		introduces := bytes.HasSuffix(trimmed, []byte{':'}) && bytes.HasPrefix(next, []byte{'>'})
		if bytes.HasPrefix(trimmed, []byte{'>'}) || introduces {
			continue
		}
		own.add(trimmed)
	}
	if own.chars > 0 {
		return own.b, true
	}
	if !whole {
		return nil, false
	}
	for len(text) > 0 && all.chars < previewLength {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		all.add(line)
		text = rest
	}
	return all.b, true
}

// isOriginalMark knows the line before a message that is quoted whole.
func isOriginalMark(line []byte) bool {
	rest := bytes.TrimLeft(line, "-")
	return len(line)-len(rest) >= 4 && len(rest) < 60 && bytes.HasSuffix(rest, []byte("----"))
}

// previewBuilder joins words with single spaces.
type previewBuilder struct {
	b     []byte
	chars int
	gap   bool
}

func (p *previewBuilder) reset() { *p = previewBuilder{b: p.b[:0]} }

func (p *previewBuilder) add(line []byte) {
	p.gap = p.gap || p.chars > 0
	for len(line) > 0 && p.chars < previewLength {
		r, size := utf8.DecodeRune(line)
		line = line[size:]
		switch {
		case '!' <= r && r <= '~': // nearly all of them
		case unicode.IsSpace(r):
			p.gap = p.gap || p.chars > 0
			continue
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x34F, // fillers
			r == utf8.RuneError && size <= 1:
			continue
		}
		if p.gap {
			p.gap = false
			if p.chars++; p.chars == previewLength {
				return
			}
			p.b = append(p.b, ' ')
		}
		p.b = utf8.AppendRune(p.b, r)
		p.chars++
	}
}
