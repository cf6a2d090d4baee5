package message

import (
	"bytes"
)

// textFormat says how a text part is to be read besides its charset.
type textFormat struct{ flowed, delSp bool }

// textCollector decodes the text of a message while it is read, and hands it
// to sinks: transfer encoding, charset, line ends, format=flowed, HTML, fold.
type textCollector struct {
	header, mime, bodyText textSink
	visible                textSink // what a reader sees of the HTML part that is read
	preview                previewer

	off      bool // collect nothing
	active   bool
	isHTML   bool
	format   textFormat
	transfer transferDecoder
	charset  charsetDecoder
	sniff    bool   // the charset is to be looked for in the HTML
	raw      []byte // without transfer encoding
	utf8     []byte // converted
	pendCR   bool   // utf8 ended in CR
	flow     flower
	unfolded unfolded // the header field that is read
	html     visibleText
	partBody textMark // where the text of the part began
}

// textSink takes decoded text.
type textSink interface {
	// text takes a piece of UTF-8, which is the caller's again afterwards.
	text(b []byte)
	// endLine takes a line feed.
	endLine()
	// field takes a header field: its name and its decoded value.
	field(name, value []byte)
	// wants tells whether more is of use.
	wants() bool
	// mark and back forget what came since.
	mark() textMark
	back(textMark)
}

// textMark is a place in a sink's text.
type textMark struct{ length int }

// textChunk is how much is decoded at a time, previewChunk where only the preview
// is still to be made: for a charset to be found, 1 kB at least.
const (
	textChunk    = 8 << 10
	previewChunk = 1 << 10
)

// beginPart begins the body of a part; only text parts are collected.
func (c *textCollector) beginPart(p *Part, format textFormat) {
	readable := p.Type == "text" || p.Type == "message" || p.Type == "multipart"
	previewed := c.preview.begin(p)
	c.active = !c.off && readable && (c.bodyText.wants() || previewed)
	if !c.active {
		if readable && !c.off {
			c.bodyText.endLine() // notes that something is missing
		}
		return
	}
	c.partBody = c.bodyText.mark()
	c.isHTML = p.Type == "text" && p.Subtype == "html"
	c.format, c.flow, c.html = format, flower{delSp: format.delSp}, visibleText{out: c.html.out[:0], run: c.html.run[:0], tag: c.html.tag[:0]}
	c.transfer = transferDecoder{encoding: p.Encoding, space: c.transfer.space[:0]}
	var known bool
	c.charset, known = lookupCharset(p.Charset)
	c.sniff = c.isHTML && !known
	c.raw, c.pendCR = c.raw[:0], false
}

// dropPart forgets the part: it was the preamble of a multipart.
func (c *textCollector) dropPart() {
	if c.active {
		c.bodyText.back(c.partBody)
		c.active = false
	}
	c.preview.drop()
}

// body takes octets of the part.
func (c *textCollector) body(b []byte) {
	for c.active && len(b) > 0 {
		chunk := textChunk
		if !c.bodyText.wants() {
			chunk = previewChunk
		}
		n := min(len(b), chunk)
		c.raw = c.transfer.decode(c.raw, b[:n])
		b = b[n:]
		if len(c.raw) < chunk {
			continue
		}
		c.convert(false)
		if !c.bodyText.wants() && !c.preview.wantsMore() {
			c.bodyText.endLine() // notes that something is missing
			c.preview.end()
			c.active = false
		}
	}
}

// endPart ends the part.
func (c *textCollector) endPart() {
	if !c.active {
		return
	}
	c.raw = c.transfer.flush(c.raw)
	c.convert(true)
	if c.isHTML {
		c.html.flush()
		c.emitVisible()
		c.visible.endLine()
	}
	c.bodyText.endLine()
	c.joinVisible()
	c.preview.end()
	c.active = false
}

// joinVisible puts the visible text behind the source.
func (c *textCollector) joinVisible() {
	if v, ok := c.visible.(*storeSink); ok && len(v.buf) > 0 {
		c.bodyText.(*storeSink).folded(v.buf)
		v.buf = v.buf[:0]
	}
}

// convert takes what is in raw through the other stages.
func (c *textCollector) convert(final bool) {
	if c.sniff {
		c.sniff = false
		c.charset, _ = lookupCharset(string(sniffCharset(c.raw)))
	}
	c.utf8 = c.charset.decode(c.utf8[:0], c.raw, final)
	c.raw = c.raw[:0]
	b := c.lineFeeds(c.utf8, final)
	if c.format.flowed && !c.isHTML {
		b = c.flow.join(b)
	}
	c.bodyText.text(b)
	if !c.isHTML {
		c.preview.text(b)
		return
	}
	c.html.write(b)
	c.emitVisible()
}

func (c *textCollector) emitVisible() {
	c.visible.text(c.html.out)
	c.preview.text(c.html.out)
	c.html.out = c.html.out[:0]
}

// lineFeeds makes all line ends LF, in place. A NUL becomes a space.
func (c *textCollector) lineFeeds(b []byte, final bool) []byte {
	if c.pendCR {
		c.pendCR = false
		if len(b) == 0 || b[0] != '\n' {
			c.bodyText.endLine()
		}
	}
	if n := len(b); !final && n > 0 && b[n-1] == '\r' {
		c.pendCR, b = true, b[:n-1]
	}
	i := bytes.IndexByte(b, '\r')
	if i < 0 {
		return b
	}
	out := b[:i]
	for {
		b = b[i+1:]
		if len(b) == 0 || b[0] != '\n' {
			out = append(out, '\n')
		}
		if i = bytes.IndexByte(b, '\r'); i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
	}
}

// field takes a header field of the message, a part, or a message in it.
func (c *textCollector) field(sink *textSink, name, value []byte) {
	if c.off {
		return
	}
	s := *sink
	if !s.wants() {
		s.endLine() // notes that something is missing
		return
	}
	c.unfolded = c.unfolded[:0]
	value = c.unfolded.unfold(value)
	c.utf8 = decodeWords(c.utf8[:0], value)
	if bytes.IndexByte(value, '*') >= 0 && isParamField(name) {
		c.utf8 = appendDecodedParams(c.utf8, value)
	}
	s.field(name, c.utf8)
}

func isParamField(name []byte) bool {
	return bytes.EqualFold(name, []byte("content-type")) || bytes.EqualFold(name, []byte("content-disposition"))
}

// appendDecodedParams appends the parameters that RFC 2231 encodes, decoded.
func appendDecodedParams(dst, value []byte) []byte {
	_, params := splitParams(nil, value)
	for _, p := range joinContinuations(params) {
		name, extended := bytes.CutSuffix(p.name, []byte{'*'})
		if !extended && !p.joined {
			continue
		}
		dst = append(append(append(dst, "; "...), name...), '=')
		start := len(dst)
		if extended {
			dst = decodeExtended(dst, p.value)
		} else {
			dst = decodeWords(dst, p.value)
		}
		spaceOut(dst[start:])
	}
	return dst
}

// sniffCharset finds the charset that an HTML page declares in its beginning.
func sniffCharset(b []byte) []byte {
	low := bytes.ToLower(b[:min(len(b), 1024)])
	_, rest, ok := bytes.Cut(low, []byte("charset="))
	if !ok {
		return nil
	}
	rest = bytes.TrimLeft(rest, ` "'`)
	if i := bytes.IndexAny(rest, " \t\r\n\"'/>;"); i >= 0 {
		rest = rest[:i]
	}
	if len(rest) > 40 {
		return nil
	}
	return rest
}
