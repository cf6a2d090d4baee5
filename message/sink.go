package message

import "bytes"

// newTextCollector returns a collector that fills t with at most limit octets.
func newTextCollector(t *Text, limit int64) *textCollector {
	budget := &textBudget{left: limit, text: t}
	return &textCollector{
		header:   &storeSink{budget: budget},
		mime:     &storeSink{budget: budget},
		bodyText: &storeSink{budget: budget},
		visible:  &storeSink{budget: budget},
	}
}

// finish hands the text over.
func (c *textCollector) finish() {
	h, ok := c.header.(*storeSink)
	if !ok {
		return
	}
	t := h.budget.text
	t.Header = bytes.Clone(h.buf)
	t.MIME = bytes.Clone(c.mime.(*storeSink).buf)
	t.Body = bytes.Clone(c.bodyText.(*storeSink).buf)
}

// textBudget bounds the text that all sinks keep.
type textBudget struct {
	left int64
	text *Text
}

// storeSink keeps text, folded.
type storeSink struct {
	buf    []byte
	budget *textBudget
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
		s.budget.text.Truncated = s.budget.text.Truncated || len(b) > 0
		return
	}
	s.buf = fold(s.buf, b)
	s.charge(start)
}

// folded takes text that has been paid for and folded.
func (s *storeSink) folded(b []byte) { s.buf = append(s.buf, b...) }

func (s *storeSink) field(name, value []byte) {
	start := len(s.buf)
	s.buf = fold(s.buf, name)
	s.buf = append(s.buf, ": "...)
	s.buf = fold(s.buf, value)
	s.buf = append(s.buf, '\n')
	s.charge(start)
}

// charge takes what was added since start off the budget, and cuts what is
// too much.
func (s *storeSink) charge(start int) {
	n := int64(len(s.buf) - start)
	if n > s.budget.left {
		s.budget.text.Truncated = true
		n = s.budget.left
		s.buf = s.buf[:start+int(n)]
	}
	s.budget.left -= n
}
