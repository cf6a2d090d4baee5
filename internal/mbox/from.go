package mbox

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

func mayBeFrom(line []byte) bool { return bytes.HasPrefix(line, []byte("From ")) }

// isFrom reports whether a line after a blank one separates messages: it
// begins with From and ends in a date, or, as some versions of Thunderbird
// write it, has nothing behind From and a header field below it.
func isFrom(line []byte, r *Reader) bool {
	if !mayBeFrom(line) {
		return false
	}
	if hasFromDate(line) {
		return true
	}
	rest := string(bytes.TrimSpace(line[len("From "):]))
	return (rest == "" || rest == "-") && nextIsField(r)
}

// isStrictFrom reports whether a line separates messages although no blank
// line is in front of it: some programs leave it out.
func isStrictFrom(line []byte, r *Reader) bool { return hasFromDate(line) && nextIsField(r) }

func nextIsField(r *Reader) bool {
	next, err := r.peekLine(maxFromLine)
	if err != nil {
		return false
	}
	name, _, ok := bytes.Cut(next, []byte(":"))
	if !ok || len(name) == 0 {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

func hasFromDate(line []byte) bool {
	_, ok := fromDate(line)
	return ok
}

// fromEnd is the date of a From line, with the variations that are found: no
// seconds, a zone as a name or a number in front of the year or behind it, day
// and month in either order.
const fromEnd = `(?:^|\s)(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+)?` +
	`(?:([A-Z][a-z]{2})\s+(\d{1,2})|(\d{1,2})\s+([A-Z][a-z]{2})(?:\s+(\d{4}))?),?\s+(\d{1,2}):(\d{2})(?::(\d{2}))?` +
	`(?:\s+([A-Z]{1,5}|[+-]\d{4}))?(?:\s+(\d{4}))?(?:\s+([A-Z]{1,5}|[+-]\d{4}))?(?:\s+remote from \S+)?\s*$`

var fromDateForm = regexp.MustCompile(fromEnd)

// fromDate returns the date of a line "From sender date". A date without a
// zone is taken for UTC, as RFC 4155 has it.
func fromDate(line []byte) (time.Time, bool) {
	if !mayBeFrom(line) || len(line) > maxFromLine {
		return time.Time{}, false
	}
	f := fromDateForm.FindStringSubmatch(string(line[len("From "):]))
	if f == nil {
		return time.Time{}, false
	}
	month, day := f[1], f[2]
	if month == "" {
		month, day = f[4], f[3]
	}
	year := f[10]
	if year == "" {
		year = f[5]
	}
	seconds := f[8]
	if seconds == "" {
		seconds = "00"
	}
	zone := "+0000"
	for _, z := range [...]string{f[9], f[11]} {
		if z != "" && (z[0] == '+' || z[0] == '-') {
			zone = z
		}
	}
	t, err := time.Parse("Jan 2 15:04:05 2006 -0700", month+" "+day+" "+f[6]+":"+f[7]+":"+seconds+" "+year+" "+zone)
	return t, err == nil
}

// flagHeaders gathers flags from header fields.
type flagHeaders struct {
	system   [5]bool // in the order of systemFlags
	keywords []imap.Flag
}

func systemFlags() [5]imap.Flag {
	return [...]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}
}

const (
	seen = iota
	answered
	flagged
	deleted
	draft
)

// field takes a header field, its name in lower case, and reports whether it
// is one that mail programs rewrite in place.
func (h *flagHeaders) field(name, value string) bool {
	switch name {
	case "status", "x-status":
		// Status: RO, X-Status: AFTD (pine, mutt, Dovecot). A bug tracker's
		// "Status: Fixed" is something else.
		if strings.Trim(value, "ROAFDTUN") != "" {
			return false
		}
		h.status(value, name == "x-status")
	case "x-keywords", "x-mozilla-keys":
		h.words(value)
	case "x-mozilla-status":
		h.mozilla(value)
	case "x-mozilla-status2", "x-uid", "x-imap", "x-imapbase":
	default:
		return false
	}
	return true
}

// status takes the letters of Status or X-Status. In the former, D and T are
// not known to mean anything.
func (h *flagHeaders) status(letters string, extended bool) {
	for _, c := range letters {
		switch {
		case c == 'R':
			h.system[seen] = true
		case c == 'A':
			h.system[answered] = true
		case c == 'F':
			h.system[flagged] = true
		case c == 'D' && extended:
			h.system[deleted] = true
		case c == 'T' && extended:
			h.system[draft] = true
		}
	}
}

// words takes a list of keywords, which blanks part.
func (h *flagHeaders) words(value string) {
	for word := range strings.FieldsSeq(value) {
		word = strings.Trim(word, ",")
		f := imap.Flag(word)
		if imap.ValidKeyword(word) && !slices.ContainsFunc(h.keywords, func(g imap.Flag) bool { return imap.EqualFlag(f, g) }) {
			h.keywords = append(h.keywords, f)
		}
	}
}

// mozilla takes the four hexadecimal digits of X-Mozilla-Status.
func (h *flagHeaders) mozilla(value string) {
	low, err := strconv.ParseUint(value, 16, 16)
	if err != nil || len(value) != 4 {
		return
	}
	h.system[seen] = h.system[seen] || low&1 != 0
	h.system[answered] = h.system[answered] || low&2 != 0
	h.system[flagged] = h.system[flagged] || low&4 != 0
	h.system[deleted] = h.system[deleted] || low&8 != 0
}

func (h *flagHeaders) flags() []imap.Flag {
	var flags []imap.Flag
	for i, f := range systemFlags() {
		if h.system[i] {
			flags = append(flags, f)
		}
	}
	return append(flags, h.keywords...)
}
