package message

import "slices"

// keeper is the collector that fills a Text, with its sinks.
type keeper struct {
	collector                   textCollector
	header, mime, body, visible storeSink
	budget                      textBudget
	folder                      folder
}

// begin readies the keeper for another message, of which it keeps at most
// limit octets of text.
func (k *keeper) begin(limit int64) *textCollector {
	k.budget = textBudget{left: limit}
	for _, s := range [...]*storeSink{&k.header, &k.mime, &k.body, &k.visible} {
		*s = storeSink{buf: s.buf[:0], budget: &k.budget, folder: &k.folder}
	}
	c := &k.collector
	c.header, c.mime, c.bodyText, c.visible = &k.header, &k.mime, &k.body, &k.visible
	c.preview = c.preview.begun()
	c.active = false
	return c
}

// text returns what was kept, in the keeper's memory.
func (k *keeper) text(truncated bool) *Text {
	return &Text{
		Version: Version, Truncated: truncated || k.budget.cut,
		Header: slices.Clip(k.header.buf), MIME: slices.Clip(k.mime.buf), Body: slices.Clip(k.body.buf),
	}
}

// textBudget bounds the text that all sinks keep.
type textBudget struct {
	left int64
	cut  bool // there was more
}

// storeSink keeps text, folded.
type storeSink struct {
	buf    []byte
	budget *textBudget
	folder *folder
}

func (s *storeSink) wants() bool { return s.budget.left > 0 }

func (s *storeSink) mark() textMark { return textMark{len(s.buf)} }

func (s *storeSink) back(m textMark) {
	if m.length < len(s.buf) {
		s.budget.left += int64(len(s.buf) - m.length)
		s.buf = s.buf[:m.length]
	}
}

func (s *storeSink) text(b []byte) {
	start := len(s.buf)
	if s.budget.left <= 0 {
		s.budget.cut = s.budget.cut || len(b) > 0
		return
	}
	if len(b) > cap(s.buf)-start {
		// Growing by a quarter, as append does, would leave behind five times the
		// memory of a long text.
		s.buf = slices.Grow(s.buf, max(len(b), start))
	}
	s.buf = fold(s.folder, s.buf, b)
	s.charge(start)
}

func (s *storeSink) endLine() { s.text([]byte{'\n'}) }

// folded takes text that has been paid for and folded.
func (s *storeSink) folded(b []byte) { s.buf = append(s.buf, b...) }

func (s *storeSink) field(name, value []byte) {
	start := len(s.buf)
	s.buf = fold(s.folder, s.buf, name)
	s.buf = append(s.buf, ": "...)
	s.buf = fold(s.folder, s.buf, value)
	s.buf = append(s.buf, '\n')
	s.charge(start)
}

// charge takes what was added since start off the budget, and cuts what is
// too much.
func (s *storeSink) charge(start int) {
	n := int64(len(s.buf) - start)
	if n > s.budget.left {
		s.budget.cut = true
		n = s.budget.left
		s.buf = s.buf[:start+int(n)]
	}
	s.budget.left -= n
}
