// Package message digests Internet messages for an IMAP server: everything
// that FETCH, SEARCH, SORT and THREAD need of a message is derived from its
// octets once, at delivery, and kept.
//
// It is not for composing or editing messages, and it never judges one: any
// sequence of octets is a message, and gets a digest.
//
// Start at [Parse], which reads a message in one pass and returns a [Digest]
// (wire forms of ENVELOPE, BODY and BODYSTRUCTURE, part offsets, thread and
// sort keys, preview) and a [Text] (decoded, case-folded search text).
// [Digest.Section] finds the octets of BODY[...], [FilterHeader] makes
// HEADER.FIELDS, [DecodePart] makes BINARY. A message that holds NUL octets
// is served through [ServedReader].
//
// # Choices
//
// Where the RFCs leave freedom, or mail ignores them:
//
//   - Offsets are octets of the message as it is, whatever its line ends are:
//     a line ends in LF, and a CR before it belongs to the line end.
//   - A header ends at the first empty line, or at a line of white space that
//     no field follows. Lines in it that are no fields
//     (an mbox "From " line, text without a colon) are skipped.
//   - Of a field that must not be repeated, the first counts, even when it is
//     empty.
//   - Types, subtypes and parameter names keep the case that the message has;
//     defaults are in lower case ("text" "plain" ("charset" "us-ascii"),
//     "7bit"). A text part without charset is given the default, as Dovecot
//     does.
//   - Parameters continued by RFC 2231 section 3 become one, as RFC 9051
//     section 7.5.2 asks: name*0, name*1 become name; with any extended
//     segment they become name* in the extended form charset'language'%xx
//     (that is, charset and percent encoding stay, so that the client knows
//     how to decode them). All other parameters are sent as they came.
//   - A multipart without a usable boundary, or in which no delimiter line is
//     found, is served as one text/plain part, so that people can read it.
//   - A delimiter line is the boundary, perhaps "--", and white space; nothing
//     else. The innermost open multipart with that boundary takes it.
//   - The body of message/rfc822 and message/global is a message whatever its
//     transfer encoding claims.
//   - An address without a domain has "" as host, never NIL: NIL is the mark
//     of group syntax.
package message

// Version is the version of what [Parse] computes. It rises when a bug of the
// parser is fixed; a digest or text with a lower version should be made anew.
const Version = 1

// Limits bounds the work and the memory that one message may cost. Memory is
// a small multiple of HeaderBytes plus twice TextBytes. A zero or negative
// field means its default.
type Limits struct {
	// Depth is how deep parts may be nested; 100, and 1,000 at most. A multipart below it is
	// served as one text/plain part, a message as application/octet-stream.
	Depth int
	// Parts is the number of parts of all levels; 10,000. The last one takes
	// the rest of the message.
	Parts int
	// HeaderBytes is the number of octets that are looked at in all headers
	// of a message and its parts together; 4 MiB. Fields beyond it are as if
	// absent from the digest.
	HeaderBytes int64
	// HeaderFields is the same for their number; 20,000.
	HeaderFields int
	// Addresses is the number of addresses of all envelopes together; 20,000.
	Addresses int
	// TextBytes is the size of the search text; 1 MiB. Beyond it the text is
	// cut, and says so.
	TextBytes int64
}

// maxDepth bounds the recursion over parts, whatever Limits say.
const maxDepth = 1000

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Depth, 100)
	l.Depth = min(l.Depth, maxDepth)
	def(&l.Parts, 10_000)
	def(&l.HeaderFields, 20_000)
	def(&l.Addresses, 20_000)
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = 4 << 20
	}
	if l.TextBytes <= 0 {
		l.TextBytes = 1 << 20
	}
	return l
}
