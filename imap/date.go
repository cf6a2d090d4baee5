package imap

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Date is a calendar day: the count of days since 1 January 1970. Dates
// compare and subtract as the integers they are.
type Date int32

// Time is the internal date of a message (RFC 9051 section 2.3.3): a second
// and the time zone in which it was given, packed into 64 bits so that columns
// of them stay small. Times are the same when they are ==. They order by
// instant first, so that < works as "earlier" (at equal instants the zone
// decides, without a meaning). The zero Time is 1970-01-01 00:00:00 +0000.
type Time int64

// The low bits of a Time hold the zone in minutes east of UTC, as a signed
// number; the others the seconds since 1970.
const (
	zoneBits = 14
	zoneMask = 1<<zoneBits - 1
	zoneMax  = 99*60 + 59 // what the wire form can say
)

const monthNames = "JanFebMarAprMayJunJulAugSepOctNovDec"

// MakeTime packs unix seconds and minutes east of UTC. Zones beyond 99:59,
// which have no wire form, become UTC; seconds are cut to what fits 49 bits.
func MakeTime(unix int64, zoneMinutes int) Time {
	if zoneMinutes < -zoneMax || zoneMinutes > zoneMax {
		zoneMinutes = 0
	}
	const limit = math.MaxInt64 >> zoneBits
	unix = max(min(unix, limit), -limit-1)
	return Time(unix<<zoneBits | int64(zoneMinutes)&zoneMask)
}

// TimeOf converts t: fractions of a second are cut off, and the seconds of a
// zone's offset, which only zones before about 1930 have.
func TimeOf(t time.Time) Time {
	_, offset := t.Zone()
	return MakeTime(t.Unix(), offset/60)
}

// Unix returns seconds since 1970.
func (t Time) Unix() int64 { return int64(t) >> zoneBits }

// ZoneMinutes returns the zone in minutes east of UTC.
func (t Time) ZoneMinutes() int { return int(int16(t<<(16-zoneBits)) >> (16 - zoneBits)) }

// AsTime converts to a time.Time in a fixed zone (UTC for +0000).
func (t Time) AsTime() time.Time {
	utc := time.Unix(t.Unix(), 0).UTC()
	zone := t.ZoneMinutes()
	if zone == 0 {
		return utc
	}
	return utc.In(time.FixedZone(string(appendZone(nil, zone)), zone*60))
}

// Date returns the day in the time's own zone, which is what the search keys
// BEFORE, ON and SINCE look at (RFC 9051 section 6.4.4).
func (t Time) Date() Date { return dayOf(t.Unix() + int64(t.ZoneMinutes())*60) }

func dayOf(sec int64) Date {
	day := sec / 86400
	if sec%86400 < 0 {
		day--
	}
	return Date(max(min(day, math.MaxInt32), math.MinInt32))
}

// DateOf returns the day of t in t's own zone.
func DateOf(t time.Time) Date { return TimeOf(t).Date() }

// AsTime returns midnight UTC of the day.
func (d Date) AsTime() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String returns the wire form without quotes.
func (d Date) String() string { return string(d.AppendWire(nil)) }

// String returns the wire form without quotes.
func (t Time) String() string { return string(t.AppendWire(nil)) }

// AppendWire appends the date-text of RFC 9051: "1-Feb-2020", without quotes.
func (d Date) AppendWire(dst []byte) []byte {
	year, month, day := d.AsTime().Date()
	if day >= 10 {
		dst = append(dst, byte('0'+day/10))
	}
	dst = append(dst, byte('0'+day%10))
	return appendMonthYear(dst, month, year)
}

// AppendWire appends the date-time of RFC 9051 without its quotes:
// " 1-Feb-2020 03:04:05 +0100". It does not allocate. Years beyond four digits
// are written as the nearest year that fits.
func (t Time) AppendWire(dst []byte) []byte {
	zone := t.ZoneMinutes()
	local := time.Unix(t.Unix()+int64(zone)*60, 0).UTC()
	year, month, day := local.Date()
	hour, minute, sec := local.Clock()
	if day < 10 {
		dst = append(dst, ' ')
	} else {
		dst = append(dst, byte('0'+day/10))
	}
	dst = append(dst, byte('0'+day%10))
	dst = appendMonthYear(dst, month, year)
	dst = append(dst, ' ')
	dst = append2(dst, hour)
	dst = append2(append(dst, ':'), minute)
	dst = append2(append(dst, ':'), sec)
	return appendZone(append(dst, ' '), zone)
}

func appendMonthYear(dst []byte, month time.Month, year int) []byte {
	year = max(min(year, 9999), 0)
	dst = append(dst, '-')
	dst = append(dst, monthNames[(month-1)*3:month*3]...)
	dst = append(dst, '-')
	return append2(append2(dst, year/100), year%100)
}

func append2(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

func appendZone(dst []byte, zone int) []byte {
	sign := byte('+')
	if zone < 0 {
		sign, zone = '-', -zone
	}
	return append2(append2(append(dst, sign), zone/60), zone%60)
}

// ParseDate parses a date-text without quotes: "1-Feb-2020", also
// "01-Feb-2020" and " 1-Feb-2020". Month names may be in any case.
func ParseDate(s string) (Date, error) {
	p := dateParser{rest: s}
	sec := p.day()
	if p.err == nil && p.rest != "" {
		p.fail("date ends after the year")
	}
	if p.err != nil {
		return 0, p.err
	}
	return dayOf(sec), nil
}

// ParseTime parses a date-time without quotes: " 1-Feb-2020 03:04:05 +0100".
// A day of one digit may stand with a space, a zero, or nothing before it; a
// second of 60 is a leap second and counts as the next one.
func ParseTime(s string) (Time, error) {
	p := dateParser{rest: s}
	sec := p.day()
	p.literal(' ', "a space after the year")
	sec += int64(p.two(23, "hour from 00 to 23")) * 3600
	p.literal(':', `":" after the hour`)
	sec += int64(p.two(59, "minute from 00 to 59")) * 60
	p.literal(':', `":" after the minute`)
	sec += int64(p.two(60, "second from 00 to 60"))
	p.literal(' ', "a space before the zone")
	negative := p.peek() == '-'
	if !negative && p.peek() != '+' {
		p.fail(`zone as "+hhmm" or "-hhmm"`)
	} else {
		p.skip()
	}
	zone := p.two(99, `zone as "+hhmm"`) * 60
	zone += p.two(59, "zone with minutes from 00 to 59")
	if p.err == nil && p.rest != "" {
		p.fail("date-time ends after the zone")
	}
	if p.err != nil {
		return 0, p.err
	}
	if negative {
		zone = -zone
	}
	return MakeTime(sec-int64(zone)*60, zone), nil
}

// dateParser reads a date left to right; the first error sticks.
type dateParser struct {
	rest string
	err  error
}

func (p *dateParser) fail(expected string) {
	if p.err == nil {
		got := "its end"
		if p.rest != "" {
			got = fmt.Sprintf("%.12q", p.rest)
		}
		p.err = errors.New("date: expected " + expected + ", got " + got)
	}
}

func (p *dateParser) peek() byte {
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

func (p *dateParser) skip() {
	if p.rest != "" {
		p.rest = p.rest[1:]
	}
}

func (p *dateParser) literal(c byte, expected string) {
	if p.err != nil {
		return
	}
	if p.peek() != c {
		p.fail(expected)
		return
	}
	p.skip()
}

// digits reads exactly n digits.
func (p *dateParser) digits(n int, expected string) int {
	if p.err != nil {
		return 0
	}
	v := 0
	for i := range n {
		if i >= len(p.rest) || p.rest[i] < '0' || p.rest[i] > '9' {
			p.fail(expected)
			return 0
		}
		v = v*10 + int(p.rest[i]-'0')
	}
	p.rest = p.rest[n:]
	return v
}

// two reads two digits with a value up to limit.
func (p *dateParser) two(limit int, expected string) int {
	before := p.rest
	v := p.digits(2, expected)
	if p.err == nil && v > limit {
		p.rest = before
		p.fail(expected)
	}
	return v
}

// day reads "1-Feb-2020" and returns the unix second of its midnight UTC.
func (p *dateParser) day() int64 {
	const expected = "day from 1 to 31"
	whole := p.rest
	if p.peek() == ' ' {
		p.skip()
	}
	width := 1
	if len(p.rest) > 1 && '0' <= p.rest[1] && p.rest[1] <= '9' && len(p.rest) == len(whole) {
		width = 2
	}
	day := p.digits(width, expected)
	p.literal('-', `"-" after the day`)
	month := p.month()
	p.literal('-', `"-" after the month`)
	year := p.digits(4, "year of four digits")
	if p.err != nil {
		return 0
	}
	t := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if day == 0 || t.Day() != day {
		p.rest = whole
		p.fail("a day that this month has")
	}
	return t.Unix()
}

func (p *dateParser) month() time.Month {
	if p.err != nil {
		return 0
	}
	if len(p.rest) >= 3 {
		for m := range 12 {
			if equalFold(p.rest[:3], monthNames[m*3:m*3+3]) {
				p.rest = p.rest[3:]
				return time.Month(m + 1)
			}
		}
	}
	p.fail("month from Jan to Dec")
	return 0
}
