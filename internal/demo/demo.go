// Package demo has the sample mail of `rookery serve --demo`: threads,
// attachments, pictures, alternatives and many scripts and encodings, so that
// somebody who tries the server sees what a mail program makes of it.
//
// It only makes messages; package daemon puts them into the store. Start with
// [Mailboxes].
package demo

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"golang.org/x/text/encoding"

	"github.com/rookery-mail/rookery/imap"
)

// User and Password are those of the demo.
const (
	User     = "demo"
	Password = "demo"
)

// A Mailbox is one mailbox of the demo account.
type Mailbox struct {
	Name     string
	Use      imap.MailboxAttr // special use, or ""
	Messages []Message
}

// A Message is one message in it.
type Message struct {
	Raw   []byte
	Flags []imap.Flag
	Date  time.Time
}

// Mailboxes returns the demo's mail, dated over the weeks before now.
func Mailboxes(now time.Time) []Mailbox {
	m := &maker{now: now.Truncate(time.Second)}
	return []Mailbox{
		{imap.Inbox, "", m.inbox()},
		{"Archive", imap.AttrArchive, m.archive()},
		{"Drafts", imap.AttrDrafts, m.drafts()},
		{"Junk", imap.AttrJunk, m.junk()},
		{"Lists/chess", "", m.list()},
		{"Lists/go-nuts & bolts", "", nil},
		{"Sent", imap.AttrSent, m.sent()},
		{"Trash", imap.AttrTrash, m.trash()},
		{"Reisen/Köln", "", m.travel()},
		{"日本語", "", m.japan()},
	}
}

// maker makes messages.
type maker struct {
	now  time.Time
	last int
}

// head has the fields that every message needs; the others are optional.
type head struct {
	id, from, to, subject string
	ago                   time.Duration
	reply, refs           string
	extra                 string // whole lines with CRLF
}

const (
	me    = "Demo User <demo@rookery.example>"
	ann   = "Ann Crow <ann@rookery.example>"
	bob   = "\"Bob O'Jackdaw\" <bob@jackdaw.example>"
	carla = "=?UTF-8?Q?Carla_Mu=C3=B1oz?= <carla@magpie.example>"
)

// header writes the header of a message without its MIME fields. Subjects that
// are not ASCII become encoded words unless they are encoded already.
func (m *maker) header(h head) string {
	m.last++
	if h.id == "" {
		h.id = fmt.Sprintf("demo-%d@rookery.example", m.last)
	}
	if h.to == "" {
		h.to = me
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s>\r\n",
		h.from, h.to, mime.QEncoding.Encode("UTF-8", h.subject), m.at(h.ago).Format("Mon, 02 Jan 2006 15:04:05 -0700"), h.id)
	if h.reply != "" {
		fmt.Fprintf(&b, "In-Reply-To: <%s>\r\n", h.reply)
		refs := h.refs
		if refs == "" {
			refs = "<" + h.reply + ">"
		}
		fmt.Fprintf(&b, "References: %s\r\n", refs)
	}
	b.WriteString(h.extra)
	b.WriteString("MIME-Version: 1.0\r\n")
	return b.String()
}

func (m *maker) at(ago time.Duration) time.Time { return m.now.Add(-ago) }

// message puts header and content together.
func (m *maker) message(h head, content string, flags ...imap.Flag) Message {
	return Message{Raw: []byte(m.header(h) + content), Flags: flags, Date: m.at(h.ago)}
}

// text makes a part of plain text in UTF-8: as it is where it is ASCII, else
// in quoted-printable.
func text(body string) string { return textAs("plain", body) }

func html(body string) string { return textAs("html", body) }

func textAs(subtype, body string) string {
	body = crlf(body)
	for i := range len(body) {
		if body[i] >= 0x80 {
			return "Content-Type: text/" + subtype + "; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted(body)
		}
	}
	return "Content-Type: text/" + subtype + "; charset=us-ascii\r\n\r\n" + body
}

// in makes a part of plain text in another charset, with a transfer encoding:
// base64, quoted-printable, 7bit or 8bit.
func in(charset string, enc encoding.Encoding, transfer, body string) string {
	b, err := enc.NewEncoder().String(crlf(body))
	if err != nil {
		b = crlf(body) // cannot happen: a test encodes all of them
	}
	switch transfer {
	case "base64":
		b = wrap64([]byte(b))
	case "quoted-printable":
		b = quoted(b)
	}
	return fmt.Sprintf("Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s", charset, transfer, b)
}

// word makes an encoded word in a charset.
func word(charset string, enc encoding.Encoding, s string) string {
	b, err := enc.NewEncoder().String(s)
	if err != nil {
		return s
	}
	return "=?" + charset + "?B?" + base64.StdEncoding.EncodeToString([]byte(b)) + "?="
}

// multipart makes a multipart of parts that have their own headers.
func multipart(subtype, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"\r\n\r\n", subtype, boundary)
	if subtype == "mixed" {
		b.WriteString("This is a message in several parts.\r\n")
	}
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, strings.TrimSuffix(p, "\r\n"))
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.String()
}

// file makes an attachment in base64.
func file(mediaType, disposition string, data []byte) string {
	return fmt.Sprintf("Content-Type: %s\r\nContent-Disposition: %s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s", mediaType, disposition, wrap64(data))
}

func wrap64(data []byte) string {
	s := base64.StdEncoding.EncodeToString(data)
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	b.WriteString(s + "\r\n")
	return b.String()
}

func quoted(s string) string {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s)) // a Buffer never fails
	_ = w.Close()
	return b.String()
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// rook draws a rook as PNG, scale pixels to a square of the pattern.
func rook(scale int) []byte {
	pattern := [...]string{
		"................",
		"..###..##..###..",
		"..###..##..###..",
		"..############..",
		"...##########...",
		"....########....",
		"....########....",
		"....########....",
		"....########....",
		"....########....",
		"...##########...",
		"..############..",
		".##############.",
		".##############.",
		"................",
	}
	img := image.NewPaletted(image.Rect(0, 0, len(pattern[0])*scale, len(pattern)*scale),
		color.Palette{color.RGBA{0xf3, 0xee, 0xdf, 0xff}, color.RGBA{0x2b, 0x33, 0x48, 0xff}})
	for y := range img.Rect.Max.Y {
		for x := range img.Rect.Max.X {
			if pattern[y/scale][x/scale] == '#' {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img) // a Buffer never fails
	return b.Bytes()
}

// page makes a PDF of one page that says one line.
func page(line string) []byte {
	content := fmt.Sprintf("BT /F1 24 Tf 72 700 Td (%s) Tj ET", line)
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
	}
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	at := make([]int, len(objects))
	for i, o := range objects {
		at[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, xref)
	return b.Bytes()
}
