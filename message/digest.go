package message

import (
	"time"
)

// Digest is what is derived from a message once. It does not change after
// [Parse] returned it, and may be read by many goroutines.
type Digest struct {
	// Version is the [Version] of the parser that made it.
	Version uint16
	// Size is the size of the message in octets, as served: RFC822.SIZE.
	Size int64
	// Lines is the number of line feeds in the whole message.
	Lines int64

	// Wire is what FETCH sends as it is.
	Wire
	// Fields are the header fields that are asked for most.
	Fields Fields

	// Root is the message itself: its header, its body, its parts.
	Root Part

	// Preview is RFC 8970's: at most 200 characters of UTF-8, "" where the
	// message has no text.
	Preview string

	// MessageID is the normalised message identifier (RFC 5256 section 2.3,
	// without angle brackets and quoting), "" where there is none.
	MessageID string
	// References is the thread ancestry, oldest first: the identifiers of the
	// References field, or else the first one of In-Reply-To. At most 1,000:
	// of more, the first and the last 999 are kept.
	References []string

	// Subject is the base subject (RFC 5256 section 2.1), case-folded: the key
	// for SORT SUBJECT, and equal for subjects that THREAD groups.
	Subject string
	// IsReplyOrForward tells whether something was removed from the subject
	// that marks a reply or a forward (RFC 5256 section 5, "re", "(fwd)", ...).
	IsReplyOrForward bool
	// Sort holds the other keys of SORT.
	Sort SortKeys

	// SentUnix is the moment of the Date field in seconds since 1970, SentZone
	// its zone in minutes east of UTC. They count where HasSent is set.
	SentUnix int64
	SentZone int16
	HasSent  bool

	// HasNUL says that the stored message holds NUL octets, so that it must be
	// served through [ServedReader]; see there.
	HasNUL bool
	// Has8BitHeader says that a header of the message or of a part holds
	// octets above 127.
	Has8BitHeader bool
	// Truncated says that a limit was hit: the digest does not show all of the
	// message. Offsets are true nevertheless.
	Truncated bool
}

// Wire has what FETCH sends of a message as it is.
type Wire struct {
	// Envelope, Body and BodyStructure are the values of the FETCH items
	// ENVELOPE, BODY and BODYSTRUCTURE, ready to be sent under RFC 3501 and
	// RFC 9051. They may contain literals, never NUL.
	Envelope, Body, BodyStructure []byte
}

// SortKeys are sort keys of RFC 5256 and RFC 5957, case-folded by [Fold], to
// be compared as octets. A key is "" where the message has no such address.
type SortKeys struct {
	// From, To and Cc are addr-mailbox of the first address.
	From, To, Cc string
	// DisplayFrom and DisplayTo are RFC 5957's.
	DisplayFrom, DisplayTo string
}

// SentDate returns the time of the Date field in its own zone; ok is false
// where the field is missing or no date can be read from it (RFC 5256
// section 2.2 and SENTON then use the internal date). The day that SENTBEFORE,
// SENTON and SENTSINCE compare is the one in the returned time's zone.
func (d *Digest) SentDate() (t time.Time, ok bool) {
	if !d.HasSent {
		return time.Time{}, false
	}
	return time.Unix(d.SentUnix, 0).In(time.FixedZone("", int(d.SentZone)*60)), true
}

// Part is a message or a part of one. Offsets are octets from the start of
// the message as served: 0 <= HeaderStart <= BodyStart <= End <= Digest.Size.
type Part struct {
	// HeaderStart is where the header begins, BodyStart where the body does:
	// the empty line between them belongs to the header. End is the body's
	// end: the line end before a delimiter line belongs to the delimiter.
	HeaderStart, BodyStart, End int64
	// Lines is the number of line feeds in the body.
	Lines int64
	// Type and Subtype are the content type in lower case, as BODYSTRUCTURE
	// has it (see the package comment for broken ones).
	Type, Subtype string
	// Charset is the charset parameter in lower case, "" where absent.
	Charset string
	// Disposition is the type of Content-Disposition in lower case, or "".
	Disposition string
	// Encoding is the content transfer encoding; RawEncoding is its name as
	// the message has it, "" where the field is absent.
	Encoding    Encoding
	RawEncoding string
	// Children are the parts of a multipart, at least one. Other parts have
	// none.
	Children []Part
	// Message is the message that a message/rfc822 or message/global holds;
	// its HeaderStart is this part's BodyStart. It is nil for other parts.
	Message *Part
}

// Size returns the size of the body in octets, in its transfer encoding.
func (p *Part) Size() int64 { return p.End - p.BodyStart }

// IsMultipart tells whether the part has children.
func (p *Part) IsMultipart() bool { return len(p.Children) > 0 }

// Encoding is a content transfer encoding (RFC 2045 section 6).
type Encoding uint8

// Encodings. An absent or empty field means 7bit.
const (
	Encoding7Bit Encoding = iota
	Encoding8Bit
	EncodingBinary
	EncodingQuotedPrintable
	EncodingBase64
	EncodingUnknown // anything else: it cannot be decoded
)
