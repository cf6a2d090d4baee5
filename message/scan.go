package message

import (
	"bytes"
	"io"
)

// Scan looks for keys in a message that is read from r to its end, in the
// text that [Parse] would keep without Limits.TextBytes. It needs little
// memory, and is for messages whose [Text] is truncated. found tells for each
// key whether it is there.
func Scan(r io.Reader, lim Limits, keys []Key) (found []bool, err error) {
	found = make([]bool, len(keys))
	newSink := func(where textPlace) *scanSink { return newScanSink(where, keys, found) }
	c := &textCollector{
		header: newSink(placeHeader), mime: newSink(placeMIME),
		bodyText: newSink(placeBody), visible: newSink(placeBody),
	}
	c.preview.unwanted()
	var p parser
	p.begin(new(Digest), lim.withDefaults(), c)
	p.noWire = true
	if err := p.read(r, make([]byte, readBuffer)); err != nil {
		return nil, err
	}
	for _, s := range []textSink{c.header, c.mime, c.bodyText, c.visible} {
		s.(*scanSink).settle()
	}
	return found, nil
}

// textPlace is a text of a [Text].
type textPlace uint8

const (
	placeHeader textPlace = iota
	placeMIME
	placeBody
)

// scanSink looks for needles in text that comes in pieces.
type scanSink struct {
	seekers []seeker
	found   []bool // for all sinks
	maybe   []bool // found since mark: may be taken back
	buf     []byte // the end of what was seen, and what is being looked at
	keep    int    // how much of the end matters
	folder  folder
}

// seeker is a key for one sink.
type seeker struct {
	key    int
	prefix []byte // for a field: how its line begins; else nil
	needle []byte
}

func newScanSink(where textPlace, keys []Key, found []bool) *scanSink {
	s := &scanSink{found: found, maybe: make([]bool, len(keys))}
	for i, k := range keys {
		sk := seeker{key: i, needle: lineFeedNeedle(k.Needle)}
		switch {
		case k.Where == InHeader:
			if where != placeHeader {
				continue
			}
			sk.prefix = headerPrefix(k.Name)
		case k.Where == InBody && where != placeBody:
			continue
		case len(sk.needle) == 0:
			found[i] = true
			continue
		}
		s.keep = max(s.keep, len(sk.needle)-1)
		s.seekers = append(s.seekers, sk)
	}
	return s
}

// lineFeedNeedle returns a needle with line ends as LF, which search text has.
func lineFeedNeedle(needle []byte) []byte {
	if bytes.IndexByte(needle, '\r') < 0 {
		return needle
	}
	return bytes.ReplaceAll(needle, []byte("\r\n"), []byte{'\n'})
}

func (s *scanSink) wants() bool { return true }

func (s *scanSink) mark() textMark {
	s.settle()
	return textMark{}
}

func (s *scanSink) back(textMark) {
	clear(s.maybe)
	s.buf = s.buf[:0]
}

// settle makes what was found final.
func (s *scanSink) settle() {
	for i, yes := range s.maybe {
		if yes {
			s.found[i], s.maybe[i] = true, false
		}
	}
}

func (s *scanSink) text(b []byte) {
	s.trim()
	s.buf = fold(&s.folder, s.buf, b)
	s.look()
}

func (s *scanSink) endLine() { s.text([]byte{'\n'}) }

func (s *scanSink) field(name, value []byte) {
	s.trim()
	start := len(s.buf)
	s.buf = fold(&s.folder, s.buf, name)
	s.buf = append(s.buf, ": "...)
	s.buf = fold(&s.folder, s.buf, value)
	for _, k := range s.seekers {
		line := s.buf[start:]
		if k.prefix != nil && bytes.HasPrefix(line, k.prefix) && bytes.Contains(line[len(k.prefix):], k.needle) {
			s.maybe[k.key] = true
		}
	}
	s.buf = append(s.buf, '\n')
	s.look()
}

// trim leaves of buf what may be the beginning of a needle.
func (s *scanSink) trim() {
	if drop := len(s.buf) - s.keep; drop > 0 {
		s.buf = append(s.buf[:0], s.buf[drop:]...)
	}
}

func (s *scanSink) look() {
	for _, k := range s.seekers {
		if k.prefix == nil && !s.maybe[k.key] && !s.found[k.key] && bytes.Contains(s.buf, k.needle) {
			s.maybe[k.key] = true
		}
	}
}
