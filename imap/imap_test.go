package imap_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
)

func TestTimeForms(t *testing.T) {
	for in, want := range map[string]string{
		" 1-Feb-2020 03:04:05 +0100": " 1-Feb-2020 03:04:05 +0100",
		"01-feb-2020 03:04:05 +0100": " 1-Feb-2020 03:04:05 +0100",
		"1-FEB-2020 03:04:05 -0000":  " 1-Feb-2020 03:04:05 +0000",
		"17-Jul-1996 02:44:25 -0700": "17-Jul-1996 02:44:25 -0700",
		"31-Dec-2016 23:59:60 +0000": " 1-Jan-2017 00:00:00 +0000",
		"29-Feb-2000 00:00:00 +1400": "29-Feb-2000 00:00:00 +1400",
		"31-Dec-1969 23:59:59 -0001": "31-Dec-1969 23:59:59 -0001",
		"31-Dec-9999 23:59:59 -9959": "31-Dec-9999 23:59:59 -9959",
		" 1-Jan-0000 00:00:00 +9959": " 1-Jan-0000 00:00:00 +9959",
	} {
		if got, err := imap.ParseTime(in); err != nil || got.String() != want {
			t.Errorf("ParseTime(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                            "day from 1 to 31, got its end",
		"x":                           `day from 1 to 31, got "x"`,
		"1":                           `"-" after the day, got its end`,
		" 01-Feb-2020 03:04:05 +0100": `"-" after the day, got "1-Feb-2020 0"`,
		"1-Foo-2020 03:04:05 +0100":   `month from Jan to Dec, got "Foo-2020 03:"`,
		"1-Fe":                        `month from Jan to Dec, got "Fe"`,
		"1-Feb 2020":                  `"-" after the month, got " 2020"`,
		"1-Feb-20":                    `year of four digits, got "20"`,
		"30-Feb-2020 03:04:05 +0100":  `a day that this month has, got "30-Feb-2020 "`,
		"00-Feb-2020 03:04:05 +0100":  `a day that this month has, got "00-Feb-2020 "`,
		"1-Feb-2020":                  "a space after the year, got its end",
		"1-Feb-2020 24:04:05 +0100":   `hour from 00 to 23, got "24:04:05 +01"`,
		"1-Feb-2020 03:60:05 +0100":   `minute from 00 to 59, got "60:05 +0100"`,
		"1-Feb-2020 03:04:61 +0100":   `second from 00 to 60, got "61 +0100"`,
		"1-Feb-2020 03-04-05 +0100":   `":" after the hour, got "-04-05 +0100"`,
		"1-Feb-2020 03:04 +0100":      `":" after the minute, got " +0100"`,
		"1-Feb-2020 03:04:05":         "a space before the zone, got its end",
		"1-Feb-2020 03:04:05 GMT":     `zone as "+hhmm" or "-hhmm", got "GMT"`,
		"1-Feb-2020 03:04:05 +1":      `zone as "+hhmm", got "1"`,
		"1-Feb-2020 03:04:05 +0160":   `zone with minutes from 00 to 59, got "60"`,
		"1-Feb-2020 03:04:05 +0100 ":  `date-time ends after the zone, got " "`,
	} {
		if got, err := imap.ParseTime(in); err == nil || err.Error() != "date: expected "+want {
			t.Errorf("ParseTime(%q) = %q, %v; want error %q", in, got, err, want)
		}
	}
}

func TestDates(t *testing.T) {
	for in, want := range map[string]string{
		"1-Feb-2020": "1-Feb-2020", "01-feb-2020": "1-Feb-2020", " 1-Feb-2020": "1-Feb-2020",
		"31-Dec-1969": "31-Dec-1969", "29-Feb-2024": "29-Feb-2024", "1-Jan-0001": "1-Jan-0001",
	} {
		if got, err := imap.ParseDate(in); err != nil || got.String() != want {
			t.Errorf("ParseDate(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := imap.ParseDate("1-Feb-2020 "); err == nil {
		t.Error("a date with a tail was taken")
	}
	// BEFORE, ON and SINCE disregard the zone: the day is that of the zone.
	late := imap.TimeOf(time.Date(2020, 2, 1, 23, 30, 0, 0, time.FixedZone("", -8*3600)))
	if got := late.Date().String(); got != "1-Feb-2020" {
		t.Errorf("the day is %s", got)
	}
	if imap.DateOf(time.Unix(-1, 0).UTC()) != -1 || imap.Date(0).AsTime() != time.Unix(0, 0).UTC() {
		t.Error("days before 1970 are off")
	}
}

func TestTimeConversion(t *testing.T) {
	var zero imap.Time
	if zero.String() != " 1-Jan-1970 00:00:00 +0000" || zero != imap.TimeOf(time.Unix(0, 0).UTC()) {
		t.Errorf("the zero Time is %s", zero)
	}
	rapid.Check(t, func(rt *rapid.T) {
		unix := rapid.Int64Range(-62135596800, 253402300799-6*86400).Draw(rt, "unix")
		zone := rapid.IntRange(-99*60-59, 99*60+59).Draw(rt, "zone")
		packed := imap.MakeTime(unix, zone)
		if packed.Unix() != unix || packed.ZoneMinutes() != zone {
			rt.Fatalf("came back as %d, %d", packed.Unix(), packed.ZoneMinutes())
		}
		if again := imap.TimeOf(packed.AsTime()); again != packed {
			rt.Fatalf("by way of time.Time: %s, then %s", packed, again)
		}
		if unix < -62135596800+5*86400 {
			return // the local year could have five digits or a sign
		}
		if again, err := imap.ParseTime(packed.String()); err != nil || again != packed {
			rt.Fatalf("by way of the wire: %s, then %s, %v", packed, again, err)
		}
		if earlier := imap.MakeTime(unix-1, 0); earlier >= packed {
			rt.Fatal("an earlier second is not less")
		}
	})
	if got := imap.MakeTime(1<<62, 100*60).ZoneMinutes(); got != 0 {
		t.Errorf("an impossible zone became %d", got)
	}
}

func TestNoAllocation(t *testing.T) {
	buf := make([]byte, 0, 64)
	when := imap.MakeTime(1580522645, 60)
	patterns := imap.NewMailboxPatterns('/', "a/%/c*", "b")
	for what, fn := range map[string]func(){
		"Time.AppendWire": func() { buf = when.AppendWire(buf[:0]) },
		"Date.AppendWire": func() { buf = when.Date().AppendWire(buf[:0]) },
		"Flag.Canonical":  func() { _ = imap.Flag(`\seen`).Canonical() },
		"MailboxPatterns": func() { patterns.Match("a/b/cde") },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

func FuzzDates(f *testing.F) {
	for _, s := range []string{" 1-Feb-2020 03:04:05 +0100", "1-Feb-2020", "31-Dec-2016 23:59:60 -0830", "99-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if when, err := imap.ParseTime(s); err == nil {
			if again, err := imap.ParseTime(when.String()); s[len(s)-5:] != "-0000" && (err != nil || again != when) {
				// A leap second may lead into the year 10000.
				if !strings.Contains(s, "-9999 ") {
					t.Fatalf("%q is %q, then %q, %v", s, when, again, err)
				}
			}
		}
		if date, err := imap.ParseDate(s); err == nil {
			if again, err := imap.ParseDate(date.String()); err != nil || again != date {
				t.Fatalf("%q is %q, then %q, %v", s, date, again, err)
			}
		}
	})
}

func TestFlags(t *testing.T) {
	for in, want := range map[imap.Flag]imap.Flag{
		`\SEEN`: imap.FlagSeen, `\recent`: imap.FlagRecent, "$forwarded": "$forwarded", "": "", `\Foo`: `\Foo`,
	} {
		if got := in.Canonical(); got != want {
			t.Errorf("%q.Canonical() = %q", in, got)
		}
	}
	if !imap.EqualFlag("$JUNK", "$Junk") || imap.EqualFlag("$Junk", "$Jun") || imap.EqualFlag("K", "\u212a") {
		t.Error("EqualFlag is wrong")
	}
	if got := imap.Flag("$MDNSent").Fold() + imap.Flag("abc").Fold(); got != "$mdnsentabc" {
		t.Errorf("Fold gives %q", got)
	}
	for s, want := range map[string]bool{
		"$Work": true, "a[b": true, "": false, "a b": false, `\Seen`: false, "a]": false, "a*": false,
		"ü": false, "a\x7f": false, strings.Repeat("k", 256): false,
	} {
		if got := imap.ValidKeyword(s); got != want {
			t.Errorf("ValidKeyword(%q) = %v", s, got)
		}
	}
	if !imap.Flag(`\dELETED`).Valid() || imap.Flag(`\Foo`).Valid() || !imap.Flag("x").Valid() {
		t.Error("Valid is wrong")
	}
	if !imap.MailboxAttr(`\sent`).IsSpecialUse() || imap.AttrNoselect.IsSpecialUse() {
		t.Error("IsSpecialUse is wrong")
	}
	if imap.MailboxAttr(`\haschildren`).Canonical() != imap.AttrHasChildren || imap.MailboxAttr(`\x`).Canonical() != `\x` {
		t.Error("attributes have a wrong canonical form")
	}
	for id, want := range map[imap.ObjectID]bool{"M6-a_Z": true, "": false, "a b": false, "ü": false,
		imap.ObjectID(strings.Repeat("a", 255)): true, imap.ObjectID(strings.Repeat("a", 256)): false} {
		if got := id.Valid(); got != want {
			t.Errorf("ObjectID(%q).Valid() = %v", id, got)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := fmt.Errorf("read: %w", fs.ErrNotExist)
	err := imap.E("store: open Work", imap.NotFound, cause)
	if got, want := err.Error(), "store: open Work: does not exist: read: file does not exist"; got != want {
		t.Errorf("the text is %q, want %q", got, want)
	}
	if !errors.Is(err, imap.NotFound) || errors.Is(err, imap.Exists) || !errors.Is(err, fs.ErrNotExist) {
		t.Error("errors.Is is wrong")
	}
	outer := imap.E("copy", imap.Other, fmt.Errorf("wrapped: %w", err))
	if imap.KindOf(outer) != imap.NotFound || !errors.Is(outer, imap.NotFound) {
		t.Errorf("the kind was lost: %v", outer)
	}
	if got, want := outer.Error(), "copy: wrapped: "+err.Error(); got != want {
		t.Errorf("the kind is said twice: %q", got)
	}
	for _, c := range []struct {
		err  error
		kind imap.Kind
		code string
	}{
		{nil, imap.Other, ""},
		{errors.New("x"), imap.Other, ""},
		{imap.OverQuota, imap.OverQuota, "OVERQUOTA"},
		{errors.Join(errors.New("x"), err), imap.NotFound, "NONEXISTENT"},
		{imap.No("BADCHARSET (UTF-8)", "try UTF-8"), imap.Refused, "BADCHARSET (UTF-8)"},
		{imap.E("op", imap.Other, imap.No("OVERQUOTA", "full")), imap.Refused, "OVERQUOTA"},
		{imap.Bad("no such thing"), imap.Malformed, ""},
		{imap.E("op", imap.Limit, nil), imap.Limit, "LIMIT"},
	} {
		if got := imap.KindOf(c.err); got != c.kind {
			t.Errorf("the kind of %v is %v, want %v", c.err, got, c.kind)
		}
		if e, ok := errors.AsType[*imap.Error](c.err); ok && e.ResponseCode() != c.code {
			t.Errorf("the code of %v is %q, want %q", c.err, e.ResponseCode(), c.code)
		}
	}
	kept := imap.E("append", imap.Other, imap.No("OVERQUOTA", "mailbox is full"))
	if e, _ := errors.AsType[*imap.Error](kept); e.Text != "mailbox is full" || kept.Error() != "append: mailbox is full" {
		t.Errorf("the text for the client was lost or said twice: %v", kept)
	}
	if !errors.Is(kept, &imap.Error{Kind: imap.Refused, Code: "OVERQUOTA"}) || errors.Is(kept, &imap.Error{Op: "x"}) ||
		errors.Is(kept, &imap.Error{}) {
		t.Error("comparing with an *Error is wrong")
	}
	if imap.Kind(200).Error() != "internal error" || imap.Other.Code() != "" || imap.Conflict.Code() != "INUSE" {
		t.Error("a kind's words are wrong")
	}
}
