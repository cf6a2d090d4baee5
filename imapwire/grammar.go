package imapwire

import (
	"encoding/base64"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/rookery-mail/rookery/imap"
)

// ModSeq reads a mod-sequence-value of RFC 7162 section 7: 1 to 63 bits.
func (d *Decoder) ModSeq() imap.ModSeq {
	return imap.ModSeq(d.nzNumber(math.MaxInt64, "mod-sequence from 1 to 9223372036854775807"))
}

// ModSeqOrZero reads a mod-sequence-valzer, as UNCHANGEDSINCE takes it.
func (d *Decoder) ModSeqOrZero() imap.ModSeq {
	return imap.ModSeq(d.number(math.MaxInt64, "mod-sequence up to 9223372036854775807"))
}

// UID reads a uniqueid.
func (d *Decoder) UID() imap.UID { return imap.UID(d.NzNumber()) }

// NumSet reads a sequence-set. saved is true, and the set nil, for "$", the
// saved search result (RFC 9051 section 6.4.4.1).
func (d *Decoder) NumSet() (set imap.NumSet, saved bool) {
	if d.TryByte('$') {
		return nil, true
	}
	start := d.line
	text := string(d.token(classSet, `number set like "1,4:7,9:*"`))
	if d.err != nil {
		return nil, false
	}
	set, err := imap.ParseNumSet(text)
	if err != nil {
		d.failAt(start, `number set like "1,4:7,9:*"`, describe(text)+" ("+err.Error()+")")
		return nil, false
	}
	return set, false
}

// UIDSet reads a uid-set without "*" and "$", as QRESYNC takes it.
func (d *Decoder) UIDSet() imap.UIDSet {
	start := d.line
	text := string(d.token(classSet, `set of UIDs like "1,4:7"`))
	if d.err != nil {
		return imap.UIDSet{}
	}
	set, err := imap.ParseUIDSet(text)
	if err != nil {
		d.failAt(start, `set of UIDs like "1,4:7"`, describe(text)+" ("+err.Error()+")")
	}
	return set
}

// Flag reads one flag: a keyword, or a system flag with its backslash, which
// is returned in its registered case.
func (d *Decoder) Flag() imap.Flag {
	if !d.TryByte('\\') {
		return imap.Flag(d.token(classAtom, "flag"))
	}
	name := d.token(classAtom, `name of a flag after "\"`)
	for _, known := range [...]imap.Flag{
		imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, imap.FlagAnswered, imap.FlagDraft, imap.FlagRecent,
	} {
		if strings.EqualFold(string(name), string(known[1:])) {
			return known // without an allocation
		}
	}
	if d.err != nil {
		return ""
	}
	return imap.Flag(`\` + string(name))
}

// FlagList reads a flag list in parentheses, which may be empty.
func (d *Decoder) FlagList() []imap.Flag {
	var flags []imap.Flag
	d.List(func() { flags = append(flags, d.Flag()) })
	return flags
}

// Flags reads what STORE takes: a flag list, or one or more flags without
// parentheses.
func (d *Decoder) Flags() []imap.Flag {
	if d.Peek() == '(' {
		return d.FlagList()
	}
	flags := []imap.Flag{d.Flag()}
	for d.err == nil && d.TrySP() {
		flags = append(flags, d.Flag())
	}
	return flags
}

// MailboxAttr reads a mailbox attribute such as \Drafts, with its backslash.
func (d *Decoder) MailboxAttr() imap.MailboxAttr {
	d.Byte('\\')
	name := d.token(classAtom, `name of an attribute after "\"`)
	if d.err != nil {
		return ""
	}
	return imap.MailboxAttr(`\` + string(name)).Canonical()
}

// Mailbox reads a mailbox name and returns it in UTF-8: from modified UTF-7,
// or after SetMode(ModeUTF8) as it is. A name with bytes beyond ASCII is UTF-8
// in every mode, since clients may send that as soon as UTF8=ACCEPT is
// announced (RFC 9755 section 3). It is not normalised: see
// [imap.NormalizeMailbox].
func (d *Decoder) Mailbox() string {
	return d.mailboxName(classAstring, "mailbox name")
}

// ListMailbox reads the pattern of LIST, in UTF-8 as Mailbox does.
func (d *Decoder) ListMailbox() string {
	return d.mailboxName(classList, "mailbox name or pattern")
}

func (d *Decoder) mailboxName(class uint16, expected string) string {
	start := d.line
	s := d.astring(class, expected)
	if d.err != nil {
		return ""
	}
	if d.utf8 || strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) {
		if !utf8.ValidString(s) {
			d.failAt(start, expected+" in UTF-8", "other bytes")
			return ""
		}
		return s
	}
	name, err := imap.DecodeUTF7(s)
	if err != nil {
		d.failAt(start, expected+" in modified UTF-7", describe(s)+" ("+err.Error()+")")
		return ""
	}
	return name
}

// Date reads a date with or without quotes, as SEARCH takes it.
func (d *Decoder) Date() imap.Date {
	const expected = `date like "1-Feb-2020"`
	start := d.line
	text := d.astring(classAtom, expected)
	if d.err != nil {
		return 0
	}
	date, err := imap.ParseDate(text)
	if err != nil {
		d.failAt(start, expected, describe(text)+" ("+err.Error()+")")
	}
	return date
}

// DateTime reads a date-time with its quotes, as APPEND takes it.
func (d *Decoder) DateTime() imap.Time {
	const expected = `date-time like " 1-Feb-2020 03:04:05 +0000" in quotes`
	start := d.line
	if c, ok := d.peek(); ok && c != '"' {
		d.Fail(expected, "")
	}
	text := d.Quoted()
	if d.err != nil {
		return 0
	}
	t, err := imap.ParseTime(text)
	if err != nil {
		d.failAt(start, expected, describe(text)+" ("+err.Error()+")")
	}
	return t
}

// List reads "(", items with a space between two of them, ")", and returns how
// many items there were. item is called for each and reads exactly one. The
// list may be empty; see NonEmptyList.
func (d *Decoder) List(item func()) int {
	d.Byte('(')
	if d.err != nil || d.TryByte(')') {
		return 0
	}
	return d.listItems(item)
}

// NonEmptyList is List for a list of one or more items.
func (d *Decoder) NonEmptyList(item func()) int {
	d.Byte('(')
	if d.err != nil {
		return 0
	}
	return d.listItems(item)
}

func (d *Decoder) listItems(item func()) int {
	if !d.Enter() {
		return 0
	}
	defer d.Leave()
	for n := 1; ; n++ {
		item()
		if d.err != nil {
			return n
		}
		switch c, ok := d.peek(); {
		case !ok:
			return n
		case c == ')':
			d.consume(1)
			return n
		case c == ' ':
			d.consume(1)
		default:
			d.Fail(`space or ")"`, "")
			return n
		}
	}
}

// Base64Line reads a line of an AUTHENTICATE exchange with its line end. The
// line "*" cancels the exchange (RFC 9051 section 6.2.2). An empty line is an
// empty answer, which is not nil.
func (d *Decoder) Base64Line() (data []byte, cancelled bool) {
	if d.TryByte('*') {
		if !d.AtEOL() {
			d.Fail(`line of base64, or "*" alone`, "")
		}
		d.CRLF()
		return nil, d.err == nil
	}
	data = d.base64(d.takeWhile(classBase64), "line of base64")
	d.CRLF()
	if d.err != nil {
		return nil, false
	}
	return data, false
}

// InitialResponse reads the initial response of AUTHENTICATE (RFC 4959): base64,
// or "=" for the empty one, which is not nil.
func (d *Decoder) InitialResponse() []byte {
	const expected = `initial response in base64, or "="`
	text := d.token(classBase64, expected)
	if string(text) == "=" {
		return []byte{}
	}
	return d.base64(text, expected)
}

// base64 decodes text, which has just been read. Its content is a secret and
// not shown in the error.
func (d *Decoder) base64(text []byte, expected string) []byte {
	if d.err != nil {
		return nil
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(data, text)
	if err != nil {
		d.failAt(d.line-len(text), expected, "invalid base64")
		return nil
	}
	return data[:n]
}
