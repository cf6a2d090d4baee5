package message_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/message"
)

// generatedMail makes messages of the kinds that mailboxes are full of.
func generatedMail() map[string][]byte {
	rnd := rand.New(rand.NewPCG(7, 7))
	words := strings.Fields("the quick brown fox jumps over a lazy dog while Übergröße naïve привет said nothing at all")
	text := func(n int) string {
		var b strings.Builder
		for line := 0; b.Len() < n; {
			w := words[rnd.IntN(len(words))]
			if line += len(w) + 1; line > 72 {
				b.WriteString("\r\n")
				line = 0
			}
			b.WriteString(w + " ")
		}
		return b.String()
	}
	header := strings.Repeat("Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example with ESMTPS id 123456\r\n\tfor <anna@example.org>; Tue, 1 Jul 2003 10:52:37 +0200\r\n", 4) +
		"From: \"Smith, Anna\" <anna@example.org>\r\nTo: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>, bob@example.com\r\n" +
		"Subject: Re: [list] =?utf-8?Q?Gr=C3=BC=C3=9Fe?= from here\r\nDate: Tue, 1 Jul 2003 10:52:37 +0200\r\n" +
		"Message-ID: <1234567890@example.org>\r\nReferences: <1@example.org>\r\n <2@example.org>\r\nMIME-Version: 1.0\r\n"
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	var attachment strings.Builder
	for b := data; len(b) > 0; {
		n := min(57, len(b))
		attachment.WriteString(base64.StdEncoding.EncodeToString(b[:n]) + "\r\n")
		b = b[n:]
	}
	html := "<html><body><p>" + strings.ReplaceAll(text(4000), "fox", "<b>fox</b>") + "</p></body></html>"
	plain := header + "Content-Type: text/plain; charset=utf-8\r\n\r\n" + text(4000)
	alternative := header + "Content-Type: multipart/alternative; boundary=\"=_alt\"\r\n\r\n--=_alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
		text(2000) + "\r\n--=_alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + "\r\n--=_alt--\r\n"
	mixed := header + "Content-Type: multipart/mixed; boundary=\"=_mix\"\r\n\r\n--=_mix\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
		text(2000) + "\r\n--=_mix\r\nContent-Type: image/jpeg; name=a.jpg\r\nContent-Transfer-Encoding: base64\r\n\r\n" + attachment.String() + "--=_mix--\r\n"
	encoded := header + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(text(6000))) + "\r\n"
	return map[string][]byte{
		"plain-5kB": []byte(plain), "alternative-8kB": []byte(alternative),
		"attachment-400kB": []byte(mixed), "base64text-9kB": []byte(encoded),
	}
}

func BenchmarkParse(b *testing.B) {
	for name, raw := range generatedMail() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			r := bytes.NewReader(raw)
			p := message.NewParser(message.Limits{})
			for b.Loop() {
				r.Reset(raw)
				if _, _, err := p.Parse(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDigest is what BenchmarkParse does, without the text.
func BenchmarkDigest(b *testing.B) {
	for name, raw := range generatedMail() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			r := bytes.NewReader(raw)
			p := message.NewParser(message.Limits{})
			for b.Loop() {
				if _, err := p.DigestServed(r, int64(len(raw))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkText is what BenchmarkParse does, without the digest.
func BenchmarkText(b *testing.B) {
	for name, raw := range generatedMail() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			r := bytes.NewReader(raw)
			p := message.NewParser(message.Limits{})
			for b.Loop() {
				if _, err := p.TextServed(r, int64(len(raw))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFold(b *testing.B) {
	for name, s := range map[string]string{
		"ascii":    strings.Repeat("The quick brown fox. ", 1000),
		"german":   strings.Repeat("Übergrößen träumen süß. ", 1000),
		"cyrillic": strings.Repeat("Привет, мир. ", 1000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			var buf []byte
			for b.Loop() {
				buf = message.Fold(buf[:0], s)
			}
		})
	}
}

func BenchmarkDecodePart(b *testing.B) {
	for name, test := range map[string]struct {
		encoding message.Encoding
		line     string
	}{
		"base64":           {message.EncodingBase64, strings.Repeat("QUJD", 19) + "\r\n"},
		"quoted-printable": {message.EncodingQuotedPrintable, "Stra=C3=9Fe and some more words of plain text with few escapes =\r\n"},
	} {
		b.Run(name, func(b *testing.B) {
			in := strings.Repeat(test.line, 2000)
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				r, err := message.DecodePart(&message.Part{Encoding: test.encoding}, strings.NewReader(in))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshalDigest(b *testing.B) {
	d, _, err := message.Parse(bytes.NewReader(generatedMail()["alternative-8kB"]), message.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	stored, _ := d.AppendBinary(nil)
	b.ReportAllocs()
	b.ReportMetric(float64(len(stored)), "octets")
	for b.Loop() {
		if _, err := message.UnmarshalDigest(stored); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWire has what FETCH does for a message when it is asked for ENVELOPE
// or for header fields.
func BenchmarkWire(b *testing.B) {
	d, _, err := message.Parse(bytes.NewReader(generatedMail()["alternative-8kB"]), message.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	stored, _ := d.AppendBinary(nil)
	set, ok := message.FieldSetOf(strings.Fields("From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To"))
	if !ok {
		b.Fatal("a field is not known")
	}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := message.UnmarshalWire(stored); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fields", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = d.Fields.Append(buf[:0], set)
		}
	})
}

func BenchmarkFilterHeader(b *testing.B) {
	raw := generatedMail()["plain-5kB"]
	header := raw[:bytes.Index(raw, []byte("\r\n\r\n"))+4]
	names := strings.Fields("From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To")
	b.SetBytes(int64(len(header)))
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = message.FilterHeader(buf[:0], header, names, false)
	}
	if len(buf) == 0 {
		b.Fatal(fmt.Errorf("nothing found"))
	}
}
