package imapmodel_test

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
)

func TestCompose(t *testing.T) {
	d := &imapmodel.Draft{
		From: mail.Address{Name: "Zoë, the \"boss\"", Address: "zoe@example.org"}, To: mail.Address{Address: "ann@example.org"},
		Subject: "Überaus lange Sache " + strings.Repeat("mit vielen Wörtern ", 20) + "\r\nBcc: victim@example.org",
		Date:    time.Date(2024, 2, 29, 12, 0, 0, 0, time.FixedZone("", 3600)), MessageID: "1@example.org", InReplyTo: "0@example.org",
		Header: []imapmodel.Field{{Name: "X-Ticket", Value: "17\nX-Evil: yes"}},
		Text:   "Grüße\n.\nFrom here\r\nlong " + strings.Repeat("x", 2000) + "\n",
	}
	raw := imapmodel.Compose(d)
	if !bytes.Equal(raw, imapmodel.Compose(d)) {
		t.Error("the same draft gives other bytes")
	}
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		if len(line) > 200 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("bad line %q", line)
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil || strings.Join(strings.Fields(subject), " ") != strings.Join(strings.Fields(d.Subject), " ") {
		t.Errorf("subject %q, %v", subject, err)
	}
	if msg.Header.Get("Bcc") != "" || msg.Header.Get("X-Evil") != "" {
		t.Error("a header field was smuggled in")
	}
	from, err := msg.Header.AddressList("From")
	if err != nil || *from[0] != d.From {
		t.Errorf("from %v, %v", from, err)
	}
	if date, err := msg.Header.Date(); err != nil || !date.Equal(d.Date) {
		t.Errorf("date %v, %v", date, err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if want := strings.ReplaceAll(strings.ReplaceAll(d.Text, "\r\n", "\n"), "\n", "\r\n"); err != nil || string(body) != want {
		t.Errorf("body %q, %v", body, err)
	}
}

func TestComposeHTML(t *testing.T) {
	raw := imapmodel.Compose(&imapmodel.Draft{Text: "plain --=_part--", HTML: "<p>--=_part</p>\n--=_part\n"})
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range []string{"plain --=_part--", "<p>--=_part</p>\r\n--=_part"} {
		part, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); err != nil || string(got) != want {
			t.Errorf("part %q, %v, want %q", got, err, want)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

func TestComposeBinaryText(t *testing.T) {
	raw := imapmodel.Compose(&imapmodel.Draft{Subject: "\xff\x00", Text: "a\x00b\xff"})
	if bytes.IndexByte(raw, 0) >= 0 || bytes.IndexByte(raw, 0xff) >= 0 {
		t.Errorf("bytes that are no text stay: %q", raw)
	}
}

func TestCRLF(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"a\nb":                        "a\r\nb",
		"\n\n":                        "\r\n\r\n",
		"a\r\nb\n\r\n":                "a\r\nb\r\n\r\n",
		"a\rb\r":                      "a\rb\r",
		strings.Repeat("x\n", 20_000): strings.Repeat("x\r\n", 20_000),
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "bytes": iotest.OneByteReader(strings.NewReader(in)), "with end": iotest.DataErrReader(strings.NewReader(in))} {
			got, err := io.ReadAll(iotest.OneByteReader(imapmodel.CRLF(io.NopCloser(r))))
			if err != nil || string(got) != want {
				t.Errorf("%.20q (%s): %.40q, %v, want %.40q", in, name, got, err, want)
			}
		}
	}
	broken := errors.New("broken")
	got, err := io.ReadAll(imapmodel.CRLF(io.NopCloser(io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(broken)))))
	if string(got) != "a\r\n" || err != broken {
		t.Errorf("%q, %v, want what was read and the error", got, err)
	}
}

func TestChangeFlags(t *testing.T) {
	got := imapmodel.ChangeFlags([]imap.Flag{`\Seen`, "kw", "KW"}, []imap.Flag{"new", "Kw", "NEW"}, []imap.Flag{`\SEEN`, "none"})
	if len(got) != 2 || got[0] != "kw" || got[1] != "new" {
		t.Errorf("got %v", got)
	}
}
