package message_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/message"
)

func TestFold(t *testing.T) {
	tests := []struct{ a, b string }{
		{"straße", "STRAßE"},
		{"Ärger", "a\u0308RGER"},
		{"\u01C4", "D\u007A\u030C"}, // the example of RFC 5051
		{"пРИВЕТ", "Привет"},
		{"ﬁ", "ﬁ"},
		{"한글", "\u1112\u1161\u11AB\u1100\u1173\u11AF"},
		{"Ａ", "a"},
		{"漢字", "漢字"},
		{"\u00a0", " "},
	}
	for _, test := range tests {
		a, b := message.FoldString(test.a), message.FoldString(test.b)
		if test.b == "D\u007A\u030C" {
			b = test.b // z stays in lower case there
		}
		if a != b {
			t.Errorf("%q and %q fold to %q and %q", test.a, test.b, a, b)
		}
	}
	if got := message.FoldString("a\xffb"); got != "A\xffB" {
		t.Errorf("octets that are not UTF-8 fold to %q", got)
	}
	if got := string(message.Fold([]byte("x"), "y")); got != "xY" {
		t.Errorf("Fold does not append: %q", got)
	}
}

// TestFoldPlaces: a character folds to the same wherever it stands, also where
// several octets are taken at once.
func TestFoldPlaces(t *testing.T) {
	characters := []string{"a", "z", "A", "Z", "@", "[", "`", "{", "\x7f", "\x00", "é", "ß", "漢", "\xc3", "\xff"}
	for _, c := range characters {
		folded := message.FoldString(c)
		for before := range 140 {
			in := strings.Repeat("m", before) + c + "nopqrstuvwxyz"
			want := strings.Repeat("M", before) + folded + "NOPQRSTUVWXYZ"
			if got := message.FoldString(in); got != want {
				t.Fatalf("%q folds to %q, want %q", in, got, want)
			}
		}
	}
}

func TestCharsets(t *testing.T) {
	tests := []struct{ charset, in, want string }{
		{"UTF-8", "\xc3\xa4", "ä"},
		{"utf-8", "\xe4", "ä"},
		{"us-ascii", "\x93x\x94", "“x”"},
		{"ISO-8859-1", "\xe4\x80", "ä€"},
		{"iso-8859-15", "\xa4", "€"},
		{"ISO8859-2", "\xb1", "ą"},
		{"iso_8859-9:1989", "\xfe", "ş"},
		{"windows-1251", "\xef", "п"},
		{"cp1251", "\xef", "п"},
		{"CP-1251", "\xef", "п"},
		{"win-1251", "\xef", "п"},
		{"x-cp1251", "\xef", "п"},
		{"cp850", "\x84", "ä"},
		{"IBM437", "\x84", "ä"},
		{"koi8-r", "\xc1", "а"},
		{"koi8-u", "\xa4", "є"},
		{"iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本"},
		{"Shift_JIS", "\x93\xfa", "日"},
		{"cp932", "\x93\xfa", "日"},
		{"euc-jp", "\xc6\xfc", "日"},
		{"gb2312", "\xc4\xe3", "你"},
		{"gb18030", "\xc4\xe3", "你"},
		{"hz-gb-2312", "~{Dc~}", "你"},
		{"big5", "\xa7A", "你"},
		{"ks_c_5601-1987", "\xb0\xa1", "가"},
		{"cp949", "\xb0\xa1", "가"},
		{"tis-620", "\xa1", "ก"},
		{"utf-16", "\xff\xfea\x00", "a"},
		{"utf-16le", "a\x00", "a"},
		{"utf-16be", "\x00a", "a"},
		{"utf-32be", "\x00\x00\x00a", "a"},
		{"utf-7", "A+ImIDkQ-. +2D3eAA +-", "A≢Α. 😀 +"},
		{"macintosh", "\x8a", "ä"},
		{`"utf-8"`, "ä", "ä"},
	}
	for _, test := range tests {
		got, ok := message.DecodeCharset(test.charset, []byte(test.in))
		if !ok || got != test.want || !message.KnownCharset(test.charset) {
			t.Errorf("%q in %s is %q (known: %v), want %q", test.in, test.charset, got, ok, test.want)
		}
	}
	for _, name := range []string{"", "x-unknown", "utf-9", "replacement", "iso-2022-kr", "8bit"} {
		if _, ok := message.DecodeCharset(name, []byte("x")); ok || message.KnownCharset(name) {
			t.Errorf("charset %q is known", name)
		}
	}
}

func TestDecodePart(t *testing.T) {
	tests := []struct {
		encoding message.Encoding
		in, want string
	}{
		{message.Encoding7Bit, "a=3D\r\n", "a=3D\r\n"},
		{message.EncodingBinary, "\x00\xff", "\x00\xff"},
		{message.EncodingBase64, "aGVsbG8=", "hello"},
		{message.EncodingBase64, "aGVs\r\nbG8", "hello"},
		{message.EncodingBase64, "a-G!V s*bG8=\r\njunk", "hello\x8e\xe9\xe4"},
		{message.EncodingBase64, "aGVsbA==bG8=", "helllo"},
		{message.EncodingBase64, "a", ""},
		{message.EncodingBase64, "", ""},
		{message.EncodingQuotedPrintable, "a=3Db=3d\r\n", "a=b=\r\n"},
		{message.EncodingQuotedPrintable, "soft=\r\n break=\n", "soft break"},
		{message.EncodingQuotedPrintable, "soft= \t\r\nx", "softx"},
		{message.EncodingQuotedPrintable, "trailing \t\r\n x \n", "trailing\r\n x\n"},
		{message.EncodingQuotedPrintable, "bad =zz =4 =\tx", "bad =zz =4 =\tx"},
		{message.EncodingQuotedPrintable, "cr\rx \rlf", "cr\rx \rlf"},
		{message.EncodingQuotedPrintable, "end=", "end"},
		{message.EncodingQuotedPrintable, "end=4", "end=4"},
		{message.EncodingQuotedPrintable, "end ", "end"},
		{message.EncodingQuotedPrintable, "=\rx", "x"},
	}
	for _, test := range tests {
		p := &message.Part{Encoding: test.encoding}
		for _, chunk := range []int{1, 2, 3, 1000} {
			r, err := message.DecodePart(p, &chunkReader{test.in, chunk})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != test.want {
				t.Errorf("encoding %d: %q by %d gives %q (%v), want %q", test.encoding, test.in, chunk, got, err, test.want)
			}
		}
	}
}

// chunkReader gives out a few octets at a time.
type chunkReader struct {
	s string
	n int
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if c.s == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.s)
	c.s = c.s[n:]
	return n, nil
}

// searchTests are needles in a message that has a bit of everything.
func searchMessage() string {
	return strings.ReplaceAll(`From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>
Subject: a long subject that
 is folded =?utf-8?B?w6Q=?= end
X-Empty:
Content-Type: multipart/mixed; boundary=b

preamble words
--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

gr=FC=DFe aus M=FC=
nchen
second line
--b
Content-Type: message/rfc822

Subject: attached subject
Content-Type: text/html

<p title="hidden attribute">visible <b>te</b>xt</p>
--b
Content-Type: application/pdf; name*=utf-8''r%C3%A9sum%C3%A9.pdf
Content-Transfer-Encoding: base64

c2VjcmV0IGJpbmFyeQ==
--b--
epilogue words
`, "\n", "\r\n")
}

func TestSearch(t *testing.T) {
	tests := []struct {
		where  message.Where
		name   string
		needle string
		want   bool
	}{
		{message.InHeader, "From", "jÖrg", true},
		{message.InHeader, "from", "example.ORG>", true},
		{message.InHeader, "fro", "joerg", false},
		{message.InHeader, "Subject", "that is folded ä END", true},
		{message.InHeader, "subject", "attached", false},
		{message.InHeader, "x-empty", "", true},
		{message.InHeader, "x-none", "", false},
		{message.InHeader, "x-empty", "x", false},
		{message.InBody, "", "Grüße aus münchen", true},
		{message.InBody, "", "MÜNCHEN\r\nSECOND", true},
		{message.InBody, "", "joerg", false},
		{message.InBody, "", "hidden attribute", true},
		{message.InBody, "", "visible text", true},
		{message.InBody, "", "visible <b>te</b>xt", true},
		{message.InBody, "", "attached subject", true},
		{message.InBody, "", "résumé", false},
		{message.InBody, "", "secret binary", false},
		{message.InBody, "", "preamble", false},
		{message.InBody, "", "epilogue", false},
		{message.InBody, "", "", true},
		{message.InText, "", "résumé.PDF", true},
		{message.InText, "", "subject: a long", true},
		{message.InText, "", "münchen", true},
		{message.InText, "", "", true},
		{message.InText, "", "not there", false},
	}
	raw := searchMessage()
	_, text := checkMessage(t, []byte(raw), message.Limits{})
	keys := make([]message.Key, len(tests))
	for i, test := range tests {
		keys[i] = message.Key{Where: test.where, Name: test.name, Needle: message.Fold(nil, test.needle)}
		if got := text.Match(keys[i]); got != test.want {
			t.Errorf("Match(%d, %q, %q) = %v", test.where, test.name, test.needle, got)
		}
	}
	for _, chunk := range []int{1, 10, 100_000} {
		found, err := message.Scan(&chunkReader{raw, chunk}, message.Limits{}, keys)
		if err != nil {
			t.Fatal(err)
		}
		for i, test := range tests {
			if found[i] != test.want {
				t.Errorf("Scan(%d, %q, %q) = %v", test.where, test.name, test.needle, found[i])
			}
		}
	}
}

// TestScanLong looks for needles in a message that is longer than what is kept
// of its text, at every kind of place.
func TestScanLong(t *testing.T) {
	var b strings.Builder
	b.WriteString("Subject: long\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>")
	for i := range 60_000 {
		fmt.Fprintf(&b, "<i>wörd%d</i> ", i)
		if i%7 == 0 {
			b.WriteString("\r\n")
		}
	}
	raw := b.String()
	_, text, err := message.Parse(strings.NewReader(raw), message.Limits{TextBytes: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	if !text.Truncated || len(text.Body)+len(text.Header) > 10_000 {
		t.Fatalf("text of %d octets, truncated: %v", len(text.Body), text.Truncated)
	}
	var keys []message.Key
	for i := range 60_000 {
		if i%499 == 0 {
			keys = append(keys, message.Key{Where: message.InBody, Needle: message.Fold(nil, fmt.Sprintf("<i>WÖRD%d</i>", i))})
			if i%7 != 0 {
				keys = append(keys, message.Key{Where: message.InText, Needle: message.Fold(nil, fmt.Sprintf("wörd%d wörd%d ", i, i+1))})
			}
		}
	}
	keys = append(keys, message.Key{Where: message.InBody, Needle: []byte("WORD60000")})
	found, err := message.Scan(strings.NewReader(raw), message.Limits{}, keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if want := i < len(keys)-1; found[i] != want {
			t.Errorf("Scan for %q: %v", k.Needle, found[i])
		}
	}
}

// TestScanAgrees compares Scan with what Match finds in the text.
func TestScanAgrees(t *testing.T) {
	files, _ := filepath.Glob("testdata/digest/*.txtar")
	messages := [][]byte{[]byte(searchMessage())}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, raw)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, raw := range messages {
		_, text, err := message.Parse(bytes.NewReader(raw), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var keys []message.Key
		for _, s := range [][]byte{text.Header, text.MIME, text.Body} {
			for line := range bytes.Lines(s) {
				line = bytes.TrimSuffix(line, []byte{'\n'})
				if len(line) == 0 {
					continue
				}
				from := rnd.IntN(len(line))
				needle := line[from : from+1+rnd.IntN(len(line)-from)]
				for w := message.InHeader; w <= message.InText; w++ {
					keys = append(keys, message.Key{Where: w, Name: "subject", Needle: needle})
				}
			}
		}
		found, err := message.Scan(bytes.NewReader(raw), message.Limits{}, keys)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			if want := text.Match(k); found[i] != want {
				t.Errorf("where %d, needle %q: Scan says %v, Match %v", k.Where, k.Needle, found[i], want)
			}
		}
	}
}

// TestPreviewOfLongTexts: the preview is the same however long the text is, how much
// of it is kept, and where its own words begin.
func TestPreviewOfLongTexts(t *testing.T) {
	words := strings.Repeat("some words that go on\r\n", 4000)
	quoted := "Ann wrote:\r\n" + strings.Repeat("> what was said\r\n", 150)
	for name, test := range map[string]struct{ body, want string }{
		"long":                  {words, "some words that go on some"},
		"quoted":                {quoted + "Indeed.\r\n" + words, "Indeed. some words"},
		"introduced at the end": {strings.Repeat("\r\n", 500) + "A\r\nBob wrote:" + strings.Repeat("\r\n", 2000) + "> " + words, "A some words"},
		"one line":              {strings.ReplaceAll(words, "\r\n", " "), "some words that go on some"},
		"signature":             {"Yes.\r\n-- \r\n" + words, "Yes."},
	} {
		for _, head := range []string{"", "Content-Type: text/html; charset=utf-8\r\n"} {
			if head != "" {
				test.body = strings.ReplaceAll(strings.ReplaceAll(test.body, ">", "&gt;"), "\r\n", "<br>\r\n")
			}
			raw := []byte("Subject: x\r\n" + head + "\r\n" + test.body)
			for _, kept := range []int64{0, 300, 9000} {
				d, _ := checkMessage(t, raw, message.Limits{TextBytes: kept})
				if head == "" && !strings.HasPrefix(d.Preview, test.want) || d.Preview == "" {
					t.Errorf("%s, %d octets of text kept: preview %q", name, kept, d.Preview)
				}
			}
		}
	}
}

// TestPreviewOfPreamble: what stands before the first part is no preview, however
// long it is and however much text is kept.
func TestPreviewOfPreamble(t *testing.T) {
	preamble := strings.Repeat("This is a message in parts, which your program cannot show.\r\n", 100)
	raw := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + preamble + "--b\r\n\r\nHello.\r\n--b--\r\n"
	for _, kept := range []int64{1, 1 << 20} {
		d, _, err := message.Parse(strings.NewReader(raw), message.Limits{TextBytes: kept})
		if err != nil || d.Preview != "Hello." {
			t.Errorf("%d octets of text kept: preview %q, %v", kept, d.Preview, err)
		}
	}
	checkMessage(t, []byte(raw), message.Limits{})
}

// TestTextThatJustFits: a text is cut, and says so, when a part has no room left at all.
func TestTextThatJustFits(t *testing.T) {
	part := strings.Repeat("some words\r\n", 1000)
	raw := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + part + "--b\r\n\r\nneedle\r\n--b--\r\n"
	_, whole, err := message.Parse(strings.NewReader(raw), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for short := range 40 {
		lim := message.Limits{TextBytes: int64(len(whole.Header) + len(whole.MIME) + len(whole.Body) - short)}
		_, text := checkMessage(t, []byte(raw), lim)
		if !text.Truncated && !text.MatchBody([]byte("NEEDLE")) {
			t.Fatalf("with %d octets less, a text that is whole lacks a part", short)
		}
	}
}
