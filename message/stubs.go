package message

import (
	"io"
)

// Parse reads a message to its end, in one pass, and digests it.
//
// Only errors of r are returned. The result shares no memory with what r
// returned.
func Parse(r io.Reader, lim Limits) (*Digest, *Text, error) {
	n, err := io.Copy(io.Discard, r)
	return &Digest{Version: Version, Size: n, Envelope: []byte("(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")}, &Text{Version: Version}, err
}

// ParseServed digests a stored message of the given size as it is served:
// like [Parse] where it holds no NUL, else the digest is that of what
// [ServedReader] returns, with HasNUL set.
func ParseServed(raw io.ReaderAt, size int64, lim Limits) (*Digest, *Text, error) {
	return Parse(io.NewSectionReader(raw, 0, size), lim)
}

// ServedReader returns the form in which a stored message that holds NULs
// is served.
func ServedReader(raw io.ReaderAt, size int64, lim Limits) (io.Reader, error) {
	return io.NewSectionReader(raw, 0, size), nil
}

// Served is [ServedReader] for a message in memory. It returns raw itself
// where that holds no NUL.
func Served(raw []byte) []byte { return raw }

// Scan searches a whole message.
func Scan(r io.Reader, lim Limits, keys []Key) (found []bool, err error) {
	return make([]bool, len(keys)), nil
}

// FilterHeader appends to dst the fields of header (a header with its empty
// line, as HEADER gives it) whose names are among names, or, with not set, are
// not among them: HEADER.FIELDS and HEADER.FIELDS.NOT.
func FilterHeader(dst, header []byte, names []string, not bool) []byte { return dst }

// DecodePart returns the body of p, read from body in its transfer encoding,
// decoded.
func DecodePart(p *Part, body io.Reader) (io.Reader, error) { return body, nil }

// AppendBinary appends the stored form of d.
func (d *Digest) AppendBinary(b []byte) ([]byte, error) { return b, nil }

// UnmarshalDigest reads what [Digest.AppendBinary] wrote.
func UnmarshalDigest(b []byte) (*Digest, error) { return &Digest{}, nil }

// AppendBinary appends the stored form of t.
func (t *Text) AppendBinary(b []byte) ([]byte, error) { return b, nil }

// UnmarshalText reads what [Text.AppendBinary] wrote.
func UnmarshalText(b []byte) (*Text, error) { return &Text{}, nil }

// Fold appends s to dst, folded.
func Fold(dst []byte, s string) []byte { return append(dst, s...) }

// FoldString returns s folded.
func FoldString(s string) string { return string(Fold(nil, s)) }

// KnownCharset tells whether SEARCH CHARSET name can be served.
func KnownCharset(name string) bool { return false }

// DecodeCharset converts s from charset to UTF-8; ok is false for an unknown charset.
func DecodeCharset(charset string, s []byte) (text string, ok bool) { return string(s), false }
