package imapmodel

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rookery-mail/rookery/imap"
)

// Draft is a message by its parts, for data that has no text in the form of
// RFC 5322: tickets, feed items, tasks. All text is UTF-8.
type Draft struct {
	From, To  mail.Address // left out where Address is empty
	Subject   string
	Date      time.Time // left out where zero
	MessageID string    // without angle brackets; left out where empty
	InReplyTo string    // the MessageID of the message that this one answers
	Header    []Field   // more header fields, in this order
	Text      string    // the body, with any line ends
	HTML      string    // where set, the same as HTML
}

// Field is a header field. Its value is encoded where it is not ASCII.
type Field struct{ Name, Value string }

// Compose writes a message in the form of RFC 5322. The same draft always
// gives the same bytes, as [Model.Open] must. Line ends in header values become
// spaces, so that no field can be smuggled in.
func Compose(d *Draft) []byte {
	var b bytes.Buffer
	field := func(name, value string) { writeField(&b, name, value) }
	if !d.Date.IsZero() {
		field("Date", d.Date.Format(time.RFC1123Z))
	}
	if d.From.Address != "" {
		field("From", addressString(d.From))
	}
	if d.To.Address != "" {
		field("To", addressString(d.To))
	}
	field("Subject", encodeWords(d.Subject))
	if d.MessageID != "" {
		field("Message-ID", "<"+d.MessageID+">")
	}
	if d.InReplyTo != "" {
		field("In-Reply-To", "<"+d.InReplyTo+">")
		field("References", "<"+d.InReplyTo+">")
	}
	for _, f := range d.Header {
		field(f.Name, encodeWords(f.Value))
	}
	field("MIME-Version", "1.0")
	if d.HTML == "" {
		writeTextPart(&b, "plain", d.Text)
		return b.Bytes()
	}
	// The boundary cannot occur in the parts: in quoted-printable "=" never
	// stands before "_".
	const boundary = "=_part"
	field("Content-Type", `multipart/alternative; boundary="`+boundary+`"`)
	b.WriteString("\r\n")
	for _, part := range [][2]string{{"plain", d.Text}, {"html", d.HTML}} {
		b.WriteString("--" + boundary + "\r\n")
		writeTextPart(&b, part[0], part[1])
		if !bytes.HasSuffix(b.Bytes(), []byte("\r\n")) {
			b.WriteString("\r\n")
		}
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes()
}

// OpenBytes returns a message that is in memory as Model.Open does.
func OpenBytes(text []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(text)) }

func addressString(a mail.Address) string {
	a.Name = strings.Join(strings.FieldsFunc(a.Name, isControl), " ")
	a.Address = strings.Join(strings.FieldsFunc(a.Address, isControl), "")
	return a.String()
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// encodeWords makes a value fit for a header (RFC 2047).
func encodeWords(s string) string {
	s = strings.Join(strings.FieldsFunc(s, isControl), " ")
	s = mime.QEncoding.Encode("utf-8", strings.ToValidUTF8(s, "\uFFFD"))
	return strings.ReplaceAll(s, "\r\n ", " ") // writeField folds
}

// writeField writes a field, folded at spaces where it is long.
func writeField(b *bytes.Buffer, name, value string) {
	const width = 76
	value = strings.Join(strings.FieldsFunc(value, isControl), " ")
	b.WriteString(name + ":")
	column := len(name) + 1
	for i, word := range strings.Split(value, " ") {
		// A line of white space only would end the header for some readers.
		if i > 0 && word != "" && column+1+len(word) > width {
			b.WriteString("\r\n")
			column = 0
		}
		b.WriteString(" " + word)
		column += 1 + len(word)
	}
	b.WriteString("\r\n")
}

// writeTextPart writes the content fields, the empty line, and the text.
func writeTextPart(b *bytes.Buffer, subtype, text string) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	writeField(b, "Content-Type", "text/"+subtype+"; charset=utf-8")
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		writeField(b, "Content-Transfer-Encoding", "base64")
		b.WriteString("\r\n")
		line := base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
		for chunk := range slices.Chunk([]byte(line), 76) {
			b.Write(chunk)
			b.WriteString("\r\n")
		}
		return
	}
	writeField(b, "Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(b)
	// Writing to a bytes.Buffer does not fail.
	_, _ = io.WriteString(w, strings.ReplaceAll(text, "\n", "\r\n"))
	_ = w.Close()
}

// CRLF returns a reader of what r reads with each LF that stands alone turned
// into CRLF, for texts from files. It closes r.
func CRLF(r io.ReadCloser) io.ReadCloser { return &crlfReader{src: r} }

type crlfReader struct {
	src    io.ReadCloser
	in     [16 << 10]byte
	rest   []byte // of in, still to be given
	err    error  // what src ended with
	last   byte   // given before
	wantLF bool   // a CR was put in
}

func (r *crlfReader) Close() error { return r.src.Close() }

func (r *crlfReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.rest) == 0 {
			if n > 0 || r.err != nil {
				break
			}
			var got int
			got, r.err = r.src.Read(r.in[:])
			r.rest = r.in[:got]
			continue
		}
		c := r.rest[0]
		if c == '\n' && r.last != '\r' && !r.wantLF {
			p[n], r.wantLF = '\r', true
			n++
			continue
		}
		p[n], r.last, r.wantLF = c, c, false
		r.rest = r.rest[1:]
		n++
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, r.err
}

// ChangeFlags returns have with the flags in add added and those in remove
// taken away, as [Flagger.SetFlags] is to do. It makes a new slice.
func ChangeFlags(have, add, remove []imap.Flag) []imap.Flag {
	out := make([]imap.Flag, 0, len(have)+len(add))
	for _, f := range have {
		if !HasFlag(remove, f) && !HasFlag(out, f) {
			out = append(out, f)
		}
	}
	for _, f := range add {
		if !HasFlag(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// HasFlag reports whether flag is among flags, in any case.
func HasFlag(flags []imap.Flag, flag imap.Flag) bool {
	return slices.ContainsFunc(flags, func(f imap.Flag) bool { return imap.EqualFlag(f, flag) })
}
