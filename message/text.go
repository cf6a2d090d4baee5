package message

import "bytes"

// Text is the search text of a message: decoded to UTF-8 from transfer
// encodings, charsets and encoded words, and folded by [Fold]. It does not
// change after [Parse] returned it, and may be read by many goroutines. A
// [Parser] has it in memory of its own until it is used again.
//
// SEARCH TEXT looks at all three texts, SEARCH BODY at Body only.
type Text struct {
	// Version is the [Version] of the parser that made it.
	Version uint16
	// Truncated says that the text was cut at Limits.TextBytes (or header
	// limits): what is found is there, what is not found must be looked for
	// with [Scan].
	Truncated bool
	// Header is the message's own header: a line "NAME: value" for each field,
	// unfolded, ended by LF. Extended parameters (RFC 2231) of a field stand
	// decoded behind its value.
	Header []byte
	// MIME is the same for the headers of the parts.
	MIME []byte
	// Body is the text of all text parts (and of reports and the like of type
	// message) with their line ends as LF, and of the headers of messages that
	// the message holds. For HTML it is the source, and then the text that a
	// reader sees. Quoted-printable soft line breaks and those of format=flowed
	// (RFC 3676) are joined. A LF ends each part.
	Body []byte
}

// Where is the place that a [Key] looks at.
type Where uint8

// Places to search.
const (
	InHeader Where = iota // one field of the message's header: HEADER, SUBJECT, FROM...
	InBody                // BODY
	InText                // TEXT
)

// Key is a search for a substring.
type Key struct {
	Where Where
	// Name is the field name for InHeader, in any case.
	Name string
	// Needle is what to find, folded by [Fold]. An empty one is in every text
	// and in every field of that name.
	Needle []byte
}

// Clone returns a copy that shares no memory with t.
func (t *Text) Clone() *Text {
	c := *t
	c.Header, c.MIME, c.Body = bytes.Clone(t.Header), bytes.Clone(t.MIME), bytes.Clone(t.Body)
	return &c
}

// Match tells whether the text has what k looks for. Where it is false and
// t.Truncated is set, ask [Scan].
func (t *Text) Match(k Key) bool {
	switch k.Where {
	case InHeader:
		return t.MatchHeader(k.Name, k.Needle)
	case InBody:
		return t.MatchBody(k.Needle)
	}
	return t.MatchText(k.Needle)
}

// MatchHeader tells whether a header field of the given name contains needle,
// which is folded. An empty needle matches when the field is there.
func (t *Text) MatchHeader(name string, needle []byte) bool {
	prefix := headerPrefix(name)
	for h := t.Header; len(h) > 0; {
		line := h
		if i := bytes.IndexByte(h, '\n'); i >= 0 {
			line, h = h[:i], h[i+1:]
		} else {
			h = nil
		}
		if bytes.HasPrefix(line, prefix) && bytes.Contains(line[len(prefix):], needle) {
			return true
		}
	}
	return false
}

// headerPrefix returns how a line of Text.Header begins for the field name.
func headerPrefix(name string) []byte {
	return append(Fold(make([]byte, 0, len(name)+2), name), ':', ' ')
}

// MatchBody tells whether the body contains needle, which is folded.
func (t *Text) MatchBody(needle []byte) bool {
	return bytes.Contains(t.Body, lineFeedNeedle(needle))
}

// MatchText tells whether a header or the body contains needle, which is
// folded.
func (t *Text) MatchText(needle []byte) bool {
	needle = lineFeedNeedle(needle)
	return bytes.Contains(t.Header, needle) || bytes.Contains(t.Body, needle) ||
		bytes.Contains(t.MIME, needle)
}
