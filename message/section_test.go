package message_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/message"
)

// rfcExample has the shape of the example of RFC 9051 section 6.4.5.1.
const rfcExample = `Subject: outer
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: text/plain
X-Part: 1

one
--o
Content-Type: application/octet-stream

two
--o
Content-Type: message/rfc822
X-Part: 3

Subject: third
Content-Type: multipart/mixed; boundary=i

--i

three one
--i
Content-Type: application/octet-stream

three two
--i--
--o
Content-Type: multipart/mixed; boundary=m
X-Part: 4

--m
Content-Type: image/gif
X-Part: 4.1

four one
--m
Content-Type: message/rfc822
X-Part: 4.2

Subject: four two
Content-Type: text/html

four two one
--m
Content-Type: message/rfc822

Content-Type: message/rfc822

Subject: innermost

four three one one
--m--
--o--
`

func TestSection(t *testing.T) {
	plain := "Subject: plain\n\nthe body\n"
	whole := "Subject: wrapper\nContent-Type: message/rfc822\n\nSubject: inner\n\ntext\n"
	const none = "(does not exist)"
	tests := []struct {
		message, section, want string
	}{
		{plain, "", plain},
		{plain, "HEADER", "Subject: plain\n\n"},
		{plain, "TEXT", "the body\n"},
		{plain, "MIME", none},
		{plain, "1", "the body\n"},
		{plain, "1.MIME", "Subject: plain\n\n"},
		{plain, "1.HEADER", none},
		{plain, "1.TEXT", none},
		{plain, "1.1", none},
		{plain, "2", none},
		{plain, "0", none},
		{whole, "1", "Subject: inner\n\ntext\n"},
		{whole, "1.HEADER", "Subject: inner\n\n"},
		{whole, "1.TEXT", "text\n"},
		{whole, "1.1", "text\n"},
		{whole, "1.1.MIME", "Subject: inner\n\n"},
		{whole, "1.1.HEADER", none},
		{rfcExample, "1", "one"},
		{rfcExample, "1.MIME", "Content-Type: text/plain\nX-Part: 1\n\n"},
		{rfcExample, "1.1", none},
		{rfcExample, "2", "two"},
		{rfcExample, "2.HEADER", none},
		{rfcExample, "3.MIME", "Content-Type: message/rfc822\nX-Part: 3\n\n"},
		{rfcExample, "3.HEADER", "Subject: third\nContent-Type: multipart/mixed; boundary=i\n\n"},
		{rfcExample, "3.TEXT", "--i\n\nthree one\n--i\nContent-Type: application/octet-stream\n\nthree two\n--i--"},
		{rfcExample, "3.1", "three one"},
		{rfcExample, "3.1.MIME", "\n"},
		{rfcExample, "3.2", "three two"},
		{rfcExample, "3.3", none},
		{rfcExample, "4.MIME", "Content-Type: multipart/mixed; boundary=m\nX-Part: 4\n\n"},
		{rfcExample, "4.HEADER", none},
		{rfcExample, "4.1", "four one"},
		{rfcExample, "4.1.MIME", "Content-Type: image/gif\nX-Part: 4.1\n\n"},
		{rfcExample, "4.2.HEADER", "Subject: four two\nContent-Type: text/html\n\n"},
		{rfcExample, "4.2.TEXT", "four two one"},
		{rfcExample, "4.2.1", "four two one"},
		{rfcExample, "4.2.2", none},
		{rfcExample, "4.2.1.1", none},
		{rfcExample, "4.3.1", "Subject: innermost\n\nfour three one one"},
		{rfcExample, "4.3.1.HEADER", "Subject: innermost\n\n"},
		{rfcExample, "4.3.1.1", "four three one one"},
		{rfcExample, "5", none},
	}
	for _, test := range tests {
		raw := []byte(strings.ReplaceAll(test.message, "\n", "\r\n"))
		d, _ := checkMessage(t, raw, message.Limits{})
		got := none
		if r, ok := d.Section(parseSection(test.section)); ok {
			got = strings.ReplaceAll(string(raw[r.Start:r.End]), "\r\n", "\n")
			if r.Len() != r.End-r.Start {
				t.Errorf("length of %v is %d", r, r.Len())
			}
		}
		if got != test.want {
			t.Errorf("BODY[%s] of a message of %d octets is %q, want %q", test.section, len(raw), got, test.want)
		}
	}
}

func parseSection(s string) (spec message.Section) {
	for word := range strings.SplitSeq(s, ".") {
		switch word {
		case "":
		case "HEADER":
			spec.Kind = message.SectionHeader
		case "TEXT":
			spec.Kind = message.SectionText
		case "MIME":
			spec.Kind = message.SectionMIME
		default:
			n, _ := strconv.Atoi(word)
			spec.Path = append(spec.Path, n)
		}
	}
	return spec
}

func TestFilterHeader(t *testing.T) {
	header := "From mbox x\r\nSubject: one\r\n two\r\nX-A : a\r\nsubject: again\r\nDate:\r\n \r\nTo: x\r\n\r\n"
	tests := []struct {
		header, names string
		not           bool
		want          string
	}{
		{header, "SUBJECT", false, "Subject: one\r\n two\r\nsubject: again\r\n\r\n"},
		{header, "to from subject", false, "Subject: one\r\n two\r\nsubject: again\r\nTo: x\r\n\r\n"},
		{header, "x-a DATE", false, "X-A : a\r\nDate:\r\n \r\n\r\n"},
		{header, "none", false, "\r\n"},
		{header, "", false, "\r\n"},
		{header, "", true, header},
		{header, "subject date", true, "From mbox x\r\nX-A : a\r\nTo: x\r\n\r\n"},
		{"To: a\nCc: b\n\n", "cc", false, "Cc: b\n\n"},
		{"To: a\nCc: b", "cc", false, "Cc: b"},
		{"To: a\r\nCc: b\r\n", "to", false, "To: a\r\n"},
		{"\r\n", "to", false, "\r\n"},
		{"", "to", true, ""},
		{"To[: a\r\nTo{: b\r\n\r\n", "to{", false, "To{: b\r\n\r\n"},
	}
	for _, test := range tests {
		got := message.FilterHeader([]byte("before"), []byte(test.header), strings.Fields(test.names), test.not)
		if string(got) != "before"+test.want {
			t.Errorf("fields %q (not: %v) of %q are %q, want %q", test.names, test.not, test.header, got, test.want)
		}
	}
}

func TestFieldSet(t *testing.T) {
	for _, name := range []string{"Received", "", "From:", strings.Repeat("x", 100)} {
		if _, ok := message.FieldSetOf([]string{"From", name}); ok {
			t.Errorf("the field %q is said to be kept", name)
		}
	}
	long := "Subject: " + strings.Repeat("x", 10_000) + "\r\n\r\n"
	d, _, err := message.Parse(strings.NewReader(long), message.Limits{})
	if err != nil || len(d.Fields) != 0 {
		t.Errorf("%d octets of fields are kept, err %v", len(d.Fields), err)
	}
	d, _, err = message.Parse(strings.NewReader("To: a\r\nSubject: b\r\n\r\n"), message.Limits{HeaderBytes: 8})
	if err != nil || len(d.Fields) != 0 {
		t.Errorf("fields of a header that was cut are %q, err %v", d.Fields, err)
	}
}

func TestPartOfMultipart(t *testing.T) {
	d, _, err := message.Parse(strings.NewReader(rfcExample), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := d.Part(nil); !ok || p != &d.Root {
		t.Error("the empty path is not the message")
	}
	if p, ok := d.Part([]int{4}); !ok || !p.IsMultipart() || len(p.Children) != 3 {
		t.Error("part 4 is not the multipart")
	}
	if p, ok := d.Part([]int{4, 1}); !ok || p.Type != "image" || p.Size() != int64(len("four one")) {
		t.Error("part 4.1 is not the image")
	}
	if !bytes.Contains(d.BodyStructure, []byte(`"four two"`)) {
		t.Errorf("the envelope of part 4.2 is missing in %s", d.BodyStructure)
	}
}
