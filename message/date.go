package message

import (
	"bytes"
	"strings"
	"time"
)

// dateReader collects what the words of a Date field say.
type dateReader struct {
	day, month, year int
	hour, min, sec   int
	hasTime          bool
	zone             int // minutes east of UTC
}

// parseDate reads a Date field: RFC 5322's form, its obsolete ones, that of
// asctime, and their mixtures. A time or zone that makes no sense counts as
// 00:00:00 and UTC (RFC 5256 section 2.2). It returns the moment in seconds since 1970,
// and its zone in minutes east of UTC.
func (p *parser) parseDate(v []byte) (unix int64, zone int16, ok bool) {
	v = v[:min(len(v), 200)]
	s := paramScanner{src: p.values.unfold(v)}
	var d dateReader
	for {
		s.skipSpace()
		if len(s.src) == 0 {
			break
		}
		word := s.token(endsWord)
		if len(word) == 0 {
			s.src = s.src[1:]
			continue
		}
		d.word(word)
	}
	switch {
	case d.year < 50 && d.year >= 0 && d.month > 0 && d.day > 0:
		d.year += 2000
	case d.year < 1000:
		d.year += 1900
	}
	if d.day < 1 || d.day > 31 || d.month == 0 || d.year < 1900 || d.year > 9999 {
		return 0, 0, false
	}
	local := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.min, d.sec, 0, time.UTC)
	return local.Unix() - int64(d.zone)*60, int16(d.zone), true
}

func (d *dateReader) word(w []byte) {
	c := w[0]
	switch {
	case (c == '+' || c == '-') && d.hasTime:
		d.zone = numericZone(w)
	case c-'0' >= 10:
		d.name(w)
	case bytes.IndexByte(w, ':') > 0:
		d.time(w)
	case bytes.IndexByte(w, '-') > 0: // 23-Nov-2026
		for more := true; more; {
			var part []byte
			if part, w, more = bytes.Cut(w, []byte{'-'}); len(part) > 0 {
				d.word(part)
			}
		}
	case len(w) <= 2 && d.day == 0:
		d.day = number(w)
	case d.year == 0:
		if d.year = number(w); len(w) > 3 && d.year < 1000 {
			d.year = -1
		}
	}
}

// name takes a month, a zone, or what says nothing.
func (d *dateReader) name(w []byte) {
	const months = "janfebmaraprmayjunjulaugsepoctnovdec"
	var buf [32]byte
	low := lowerName(&buf, w[:min(len(w), len(buf))])
	if len(low) >= 3 && d.month == 0 {
		if i := strings.Index(months, string(low[:3])); i >= 0 && i%3 == 0 {
			d.month = i/3 + 1
			return
		}
	}
	if !d.hasTime || d.zone != 0 {
		return
	}
	switch string(low) { // RFC 5322 section 4.3
	case "edt":
		d.zone = -4 * 60
	case "est", "cdt":
		d.zone = -5 * 60
	case "cst", "mdt":
		d.zone = -6 * 60
	case "mst", "pdt":
		d.zone = -7 * 60
	case "pst":
		d.zone = -8 * 60
	}
}

// time takes hours, minutes and perhaps seconds.
func (d *dateReader) time(w []byte) {
	if i := bytes.IndexAny(w, "+-"); i > 0 { // 10:00:00+0100
		defer func(zone int) { d.zone = zone }(numericZone(w[i:]))
		w = w[:i]
	}
	hours, rest, ok := bytes.Cut(w, []byte{':'})
	if d.hasTime || !ok { // 10-52:37 is no time
		return
	}
	d.hasTime = true
	minutes, rest, ok := bytes.Cut(rest, []byte{':'})
	h, m, s := number(hours), number(minutes), 0
	if ok {
		seconds, _, _ := bytes.Cut(rest, []byte{':'})
		s = number(seconds)
	}
	if h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s > 60 {
		return
	}
	d.hour, d.min, d.sec = h, m, s
}

// numericZone reads +hhmm; 0 for what is none.
func numericZone(w []byte) int {
	n := number(w[1:])
	if len(w) != 5 || n < 0 || n/100 > 23 || n%100 > 59 {
		return 0
	}
	zone := n/100*60 + n%100
	if w[0] == '-' {
		return -zone
	}
	return zone
}

// number reads at most nine digits; -1 for anything else.
func number(w []byte) int {
	if len(w) == 0 || len(w) > 9 {
		return -1
	}
	n := 0
	for _, c := range w {
		if c-'0' >= 10 {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
