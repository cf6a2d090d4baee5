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
	took  bool // found is of the part that is read
	tried int  // how long buf was when it was not enough
	sure  bool // built is what will be found, whatever comes

	built previewBuilder
}

// begun returns a previewer for another message, with the memory of p.
func (p *previewer) begun() previewer {
	return previewer{buf: p.buf[:0], built: previewBuilder{b: p.built.b[:0]}}
}

func (p *previewer) wants(part *Part) bool {
	return p.found == "" && part.Disposition != "attachment" &&
		(part.Type == "multipart" || part.Type == "text" && part.Subtype != "calendar")
}

// unwanted has no preview made.
func (p *previewer) unwanted() { p.found = "-" }

// begin readies p for the text of a part, and reports whether it wants any.
func (p *previewer) begin(part *Part) bool {
	p.using, p.took, p.buf, p.tried, p.sure = p.wants(part), false, p.buf[:0], 0, false
	return p.using
}

// wantsMore reports whether what comes later may matter.
func (p *previewer) wantsMore() bool {
	if !p.using || len(p.buf) >= previewSource {
		return false
	}
	if len(p.buf) < 2*p.tried {
		return true
	}
	p.tried = len(p.buf)
	p.sure = p.words(p.buf, false)
	return !p.sure
}

func (p *previewer) text(b []byte) {
	if p.using {
		p.buf = append(p.buf, b[:min(len(b), previewSource-len(p.buf))]...)
	}
}

// drop forgets the part that is read.
func (p *previewer) drop() {
	if p.took {
		p.found = ""
	}
	p.using, p.took = false, false
}

func (p *previewer) end() {
	if p.using {
		p.using, p.took = false, true
		if !p.sure {
			p.words(p.buf, true)
		}
		p.found = string(p.built.b)
	}
}

func (p *previewer) result() string { return p.found }

// words builds the preview of the first words of a text, without quoted lines, the line
// that introduces them, and the signature; unless nothing else is there. Where the
// text is not whole it is not sure that they are those of the whole text.
func (p *previewer) words(text []byte, whole bool) (sure bool) {
	p.built.reset()
	for rest := text; len(rest) > 0 && !p.built.full(); {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		if !ended && !whole {
			return false
		}
		rest = after
		trimmed := bytes.TrimSpace(line)
		if string(line) == "-- " || isOriginalMark(trimmed) {
			break
		}
		next := bytes.TrimLeft(rest, " \t\n")
		if len(next) == 0 && !whole {
			return false
		}
		introduces := bytes.HasSuffix(trimmed, []byte{':'}) && bytes.HasPrefix(next, []byte{'>'})
		if !introduces && !bytes.HasPrefix(trimmed, []byte{'>'}) {
			p.built.add(trimmed)
		}
	}
	if p.built.chars == 0 && whole {
		p.built.add(text)
	}
	return whole || p.built.chars > 0
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

func (p *previewBuilder) full() bool { return p.chars >= previewLength }

func (p *previewBuilder) add(text []byte) {
	p.gap = p.gap || p.chars > 0
	for len(text) > 0 && !p.full() {
		if n := plainWords(text[:min(len(text), previewLength)]); n > 0 {
			p.word(text[:n])
			text = text[n:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case unicode.IsSpace(r):
			p.gap = p.gap || p.chars > 0
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x34F, // fillers
			r == utf8.RuneError && size <= 1:
		default:
			p.word(text[:size])
		}
		text = text[size:]
	}
}

// plainWords returns the length of the words of visible ASCII at the start of b that
// have single spaces between them.
func plainWords(b []byte) int {
	n := 0
	for n < len(b) && (isVisible(b[n]) || b[n] == ' ' && n > 0 && n+1 < len(b) && isVisible(b[n+1])) {
		n++
	}
	return n
}

func isVisible(c byte) bool { return '!' <= c && c <= '~' }

// word adds words of ASCII, or one character of any kind, as far as there is room.
func (p *previewBuilder) word(w []byte) {
	if p.gap {
		p.gap = false
		if p.chars++; p.full() {
			return
		}
		p.b = append(p.b, ' ')
	}
	if w[0] >= utf8.RuneSelf {
		p.b = append(p.b, w...)
		p.chars++
		return
	}
	w = w[:min(len(w), previewLength-p.chars)]
	p.b = append(p.b, trimBlanks(w)...) // the last one may be a space
	p.chars += len(w)
}
