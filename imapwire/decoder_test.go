package imapwire_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imapwire"
)

func decoder(input string, limits imapwire.Limits) *imapwire.Decoder {
	return imapwire.NewDecoder(strings.NewReader(input), imapwire.DecoderOptions{
		Limits:   limits,
		Continue: func() error { return nil },
	})
}

// productions are the methods of the decoder under the names that the tables
// use; each gives a value to compare.
var productions = map[string]func(d *imapwire.Decoder) any{
	"tag":     func(d *imapwire.Decoder) any { return d.Tag() },
	"atom":    func(d *imapwire.Decoder) any { return d.Atom() },
	"keyword": func(d *imapwire.Decoder) any { return d.Keyword() },
	"quoted":  func(d *imapwire.Decoder) any { return d.Quoted() },
	"string":  func(d *imapwire.Decoder) any { return d.Str() },
	"literal": func(d *imapwire.Decoder) any { return string(d.Literal()) },
	"astring": func(d *imapwire.Decoder) any { return d.Astring() },
	"nstring": func(d *imapwire.Decoder) any {
		s, ok := d.NString()
		return fmt.Sprintf("%s %v", s, ok)
	},
	"number":   func(d *imapwire.Decoder) any { return int64(d.Number()) },
	"nznumber": func(d *imapwire.Decoder) any { return int64(d.NzNumber()) },
	"number64": func(d *imapwire.Decoder) any { return d.Number64() },
	"uid":      func(d *imapwire.Decoder) any { return int64(d.UID()) },
	"modseq":   func(d *imapwire.Decoder) any { return int64(d.ModSeq()) },
	"valzer":   func(d *imapwire.Decoder) any { return int64(d.ModSeqOrZero()) },
	"numset": func(d *imapwire.Decoder) any {
		set, saved := d.NumSet()
		return fmt.Sprintf("%s %v", set, saved)
	},
	"uidset":      func(d *imapwire.Decoder) any { return d.UIDSet().String() },
	"flag":        func(d *imapwire.Decoder) any { return string(d.Flag()) },
	"flaglist":    func(d *imapwire.Decoder) any { return fmt.Sprint(d.FlagList()) },
	"flags":       func(d *imapwire.Decoder) any { return fmt.Sprint(d.Flags()) },
	"attr":        func(d *imapwire.Decoder) any { return string(d.MailboxAttr()) },
	"mailbox":     func(d *imapwire.Decoder) any { return d.Mailbox() },
	"listmailbox": func(d *imapwire.Decoder) any { return d.ListMailbox() },
	"mailbox8": func(d *imapwire.Decoder) any {
		d.SetMode(imapwire.ModeUTF8)
		return d.Mailbox()
	},
	"date":     func(d *imapwire.Decoder) any { return d.Date().String() },
	"datetime": func(d *imapwire.Decoder) any { return d.DateTime().String() },
	"list": func(d *imapwire.Decoder) any {
		var items []string
		n := d.List(func() { items = append(items, d.Atom()) })
		return fmt.Sprint(n, items)
	},
	"nonempty": func(d *imapwire.Decoder) any {
		var items []string
		n := d.NonEmptyList(func() { items = append(items, d.Atom()) })
		return fmt.Sprint(n, items)
	},
	"initial": func(d *imapwire.Decoder) any { return fmt.Sprintf("%q", d.InitialResponse()) },
}

var goodTable = []struct {
	production, input string
	want              any
}{
	{"tag", "a.1]x", "a.1]x"},
	{"atom", "X-Foo+bar[", "X-Foo+bar["},
	{"keyword", "body.peek", "BODY.PEEK"},
	{"keyword", "rfc822.size", "RFC822.SIZE"},
	{"quoted", `""`, ""},
	{"quoted", `"a b(c){3}"`, "a b(c){3}"},
	{"quoted", `"\"x\\"`, `"x\`},
	{"quoted", "\"tab\tü\"", "tab\tü"},
	{"string", "{3}\r\na\r\n", "a\r\n"},
	{"string", "{0+}\r\n", ""},
	{"string", "{2+}\n\xff\xfe", "\xff\xfe"},
	{"literal", "{003}\r\nabc", "abc"},
	{"astring", "a]b", "a]b"},
	{"astring", `"a]b"`, "a]b"},
	{"astring", "{1}\r\n ", " "},
	{"nstring", "nil", " false"},
	{"nstring", `"NIL"`, "NIL true"},
	{"nstring", "{3+}\r\nNIL", "NIL true"},
	{"number", "0", int64(0)},
	{"number", "007", int64(7)},
	{"number", "4294967295", int64(4294967295)},
	{"nznumber", "1", int64(1)},
	{"uid", "4294967295", int64(4294967295)},
	{"number64", "9223372036854775807", int64(9223372036854775807)},
	{"modseq", "9223372036854775807", int64(9223372036854775807)},
	{"valzer", "0", int64(0)},
	{"numset", "1,5:3,*:9", "1,5:3,*:9 false"},
	{"numset", "$", " true"},
	{"uidset", "9,1:3,2:4", "1:4,9"},
	{"flag", `\seen`, `\Seen`},
	{"flag", `\Extension`, `\Extension`},
	{"flag", "$Forwarded", "$Forwarded"},
	{"flaglist", "()", "[]"},
	{"flaglist", `(\Deleted x)`, `[\Deleted x]`},
	{"flags", `\Deleted x`, `[\Deleted x]`},
	{"flags", `(\Deleted x)`, `[\Deleted x]`},
	{"attr", `\drafts`, `\Drafts`},
	{"mailbox", "Entw&APw-rfe", "Entwürfe"},
	{"mailbox", `"R&-D"`, "R&D"},
	{"mailbox", "{5}\r\ninbox", "inbox"},
	{"mailbox8", `"R&D ü"`, "R&D ü"},
	{"mailbox8", "{2+}\r\nü", "ü"},
	{"mailbox", `"ü & x"`, "ü & x"}, // RFC 9755 section 3
	{"listmailbox", "a/%*]", "a/%*]"},
	{"listmailbox", `"&APw-%"`, "ü%"},
	{"listmailbox", `""`, ""},
	{"date", "1-feb-2020", "1-Feb-2020"},
	{"date", `"01-Feb-2020"`, "1-Feb-2020"},
	{"datetime", `" 1-Feb-2020 03:04:05 +0100"`, " 1-Feb-2020 03:04:05 +0100"},
	{"list", "()", "0 []"},
	{"list", "(a)", "1 [a]"},
	{"list", "(a b)", "2 [a b]"},
	{"nonempty", "(a b)", "2 [a b]"},
	{"initial", "=", `""`},
	{"initial", "AGEAYg==", `"\x00a\x00b"`},
}

// Every production reads its input whole, also when it comes byte by byte.
func TestProductions(t *testing.T) {
	for _, c := range goodTable {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "late error": iotest.DataErrReader,
		} {
			r := wrap(strings.NewReader(c.input + "\r\n"))
			d := imapwire.NewDecoder(r, imapwire.DecoderOptions{Continue: func() error { return nil }})
			got := productions[c.production](d)
			d.CRLF()
			if d.Err() != nil || got != c.want {
				t.Errorf("%s of %q (%s) = %v, %v; want %v", c.production, c.input, name, got, d.Err(), c.want)
			}
		}
	}
}

var badTable = []struct{ production, input, want string }{
	{"tag", "+", `expected tag at position 1, got "+"`},
	{"tag", "", "expected tag at position 1, got end of line"},
	{"atom", "(", `expected atom at position 1, got "("`},
	{"atom", "\x00", "expected atom at position 1, got NUL"},
	{"atom", "\xc3\xbc", "expected atom at position 1, got byte 0xc3"},
	{"keyword", "[", `expected keyword at position 1, got "["`},
	{"quoted", "x", `expected quoted string at position 1, got "x"`},
	{"quoted", `"abc`, `expected '"' that ends the quoted string at position 5, got end of line`},
	{"quoted", "\"a\x00\"", `expected '"' that ends the quoted string at position 3, got NUL`},
	{"quoted", "\"a\rb\"", `expected '"' that ends the quoted string at position 3, got end of line`},
	{"quoted", `"a\x"`, `expected '"' or "\" after "\" in a quoted string at position 4, got "x"`},
	{"quoted", "\"\xff\"", "expected quoted string in UTF-8 at position 1, got other bytes"},
	{"string", "abc", `expected string at position 1, got "a"`},
	{"string", "~{3}", `expected string at position 1, got "~"`},
	{"literal", `"x"`, `expected literal at position 1, got '"'`},
	{"literal", "{}", `expected literal size as {n} or {n+} at position 2, got "}"`},
	{"literal", "{3-}", `expected literal size as {n} or {n+} at position 3, got "-"`},
	{"literal", "{+}", `expected literal size as {n} or {n+} at position 2, got "+"`},
	{"literal", "{3", `expected literal size as {n} or {n+} at position 3, got end of line`},
	{"literal", "{{3}", `expected literal size as {n} or {n+} at position 2, got "{"`},
	{"literal", "{3}x", `expected line end after the literal size at position 4, got "x"`},
	{"literal", "{3}\rx", `expected LF after CR at position 5, got "x"`},
	{"literal", "{9223372036854775808}", "expected literal size up to 9223372036854775807 at position 1, got a greater one"},
	{"literal", "{262145}", "literal of 262145 bytes: at most 262144 bytes are accepted"},
	{"literal", "{3+}\r\na\x00b", "NUL byte at offset 1 of a literal: only literal8 (~{n}) may carry it"},
	{"astring", ")", `expected atom or string at position 1, got ")"`},
	{"nstring", "nill", `expected string or NIL at position 1, got "NILL"`},
	{"nstring", "(", `expected string or NIL at position 1, got "("`},
	{"number", "4294967296", `expected number up to 4294967295 at position 1, got "4294967296"`},
	{"number", "99999999999999999999999999", `expected number up to 4294967295 at position 1, got "99999999999999999999999999"`},
	{"number", "-1", `expected number up to 4294967295 at position 1, got "-"`},
	{"nznumber", "0", `expected number from 1 to 4294967295 at position 1, got "0"`},
	{"number64", "9223372036854775808", `expected number up to 9223372036854775807 at position 1, got "9223372036854775808"`},
	{"modseq", "0", `expected mod-sequence from 1 to 9223372036854775807 at position 1, got "0"`},
	{"valzer", "9223372036854775808", `expected mod-sequence up to 9223372036854775807 at position 1, got "9223372036854775808"`},
	{"numset", "1,,2", `expected number set like "1,4:7,9:*" at position 1, got "1,,2" (number missing in number set)`},
	{"numset", "abc", `expected number set like "1,4:7,9:*" at position 1, got "a"`},
	{"uidset", "1:*", `expected set of UIDs like "1,4:7" at position 1, got "1:*" ("*" is not allowed in this set)`},
	{"flag", `\`, `expected name of a flag after "\" at position 2, got end of line`},
	{"flag", "(", `expected flag at position 1, got "("`},
	{"flaglist", `\Seen`, `expected "(" at position 1, got "\"`},
	{"flaglist", `(\Seen`, `expected space or ")" at position 7, got end of line`},
	{"flaglist", `(\Seen )`, `expected flag at position 8, got ")"`},
	{"attr", "x", `expected "\" at position 1, got "x"`},
	{"mailbox", "(", `expected mailbox name at position 1, got "("`},
	{"mailbox", "R&D", `expected mailbox name in modified UTF-7 at position 1, got "R&D" (modified UTF-7: "&" without the "-" that closes it (a plain "&" is written "&-"))`},
	{"mailbox", "{1+}\r\n\xff", "expected mailbox name in UTF-8 at position 1, got other bytes"},
	{"mailbox8", "{1+}\r\n\xff", "expected mailbox name in UTF-8 at position 1, got other bytes"},
	{"listmailbox", ")", `expected mailbox name or pattern at position 1, got ")"`},
	{"date", "32-Feb-2020", `expected date like "1-Feb-2020" at position 1, got "32-Feb-2020" (date: expected a day that this month has, got "32-Feb-2020")`},
	{"datetime", "x", `expected date-time like " 1-Feb-2020 03:04:05 +0000" in quotes at position 1, got "x"`},
	{"datetime", `"1-Feb-2020"`, `expected date-time like " 1-Feb-2020 03:04:05 +0000" in quotes at position 1, got "1-Feb-2020" (date: expected a space after the year, got its end)`},
	{"list", "(a  b)", `expected atom at position 4, got space`},
	{"list", "a", `expected "(" at position 1, got "a"`},
	{"list", "(a,)(", `expected space or ")" at position 4, got ")"`},
	{"nonempty", "()", `expected atom at position 2, got ")"`},
	{"initial", "AGEAYg", `expected initial response in base64, or "=" at position 1, got invalid base64`},
	{"initial", "*", `expected initial response in base64, or "=" at position 1, got "*"`},
}

// Every failure says what was expected, sticks, and leaves the decoder able to
// find the next command.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range badTable {
		d := decoder(c.input+"\r\na2 NOOP\r\n", imapwire.Limits{})
		productions[c.production](d)
		d.CRLF()
		err := d.Err()
		want := c.want
		if c.input == "(a,)(" {
			want = `expected end of line at position 5, got "("`
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s of %q:\n got %v\nwant %s", c.production, c.input, err, want)
			continue
		}
		if !imapwire.Recoverable(err) {
			t.Errorf("%s of %q: the error %v ends the connection", c.production, c.input, err)
		}
		for name, again := range productions {
			got := again(d)
			if zero := productions[name](decoder("", imapwire.Limits{})); got != zero {
				t.Fatalf("%s of %q: after the error %s gives %v", c.production, c.input, name, got)
			}
			if d.Err() != err {
				t.Fatalf("%s of %q: %s has changed the error to %v", c.production, c.input, name, d.Err())
			}
		}
		d.SetMode(imapwire.ModeASCII)
		if err := d.DiscardCommand(); err != nil {
			t.Errorf("%s of %q: discarding fails: %v", c.production, c.input, err)
		}
		d.Begin()
		if got := d.Tag(); got != "a2" {
			t.Errorf("%s of %q: the next tag is %q, %v", c.production, c.input, got, d.Err())
		}
	}
}

func TestLineEnds(t *testing.T) {
	for input, want := range map[string]string{
		"a\r\n": "", "a\n": "", "a \n": "expected end of line at position 2, got space",
		"a\rb\n":  `expected LF after CR at position 3, got "b"`,
		"a\r\r\n": "expected LF after CR at position 3, got end of line",
	} {
		d := decoder(input, imapwire.Limits{})
		d.Atom()
		if got := d.AtEOL(); got != (input != "a \n") {
			t.Errorf("%q: AtEOL is %v", input, got)
		}
		d.CRLF()
		if got := fmt.Sprint(d.Err()); got != want && (want != "" || d.Err() != nil) {
			t.Errorf("%q: %s, want %s", input, got, want)
		}
	}
}

func TestFetchItemsReadTopDown(t *testing.T) {
	d := decoder("(FLAGS body.peek[1.2.header.fields (Date \"From\")]<0.100>)\r\n", imapwire.Limits{})
	var got []any
	d.NonEmptyList(func() {
		got = append(got, d.Keyword())
		if d.TryByte('[') {
			got = append(got, d.Number())
			d.Byte('.')
			got = append(got, d.Number())
			d.Byte('.')
			got = append(got, d.Keyword())
			d.SP()
			d.NonEmptyList(func() { got = append(got, d.Astring()) })
			d.Byte(']')
			d.Byte('<')
			got = append(got, d.Number())
			d.Byte('.')
			got = append(got, d.NzNumber())
			d.Byte('>')
		}
	})
	d.CRLF()
	want := []any{"FLAGS", "BODY.PEEK", uint32(1), uint32(2), "HEADER.FIELDS", "Date", "From", uint32(0), uint32(100)}
	if diff := cmp.Diff(want, got); diff != "" || d.Err() != nil {
		t.Errorf("%v\n%s", d.Err(), diff)
	}
}

func TestBase64Line(t *testing.T) {
	for _, c := range []struct {
		input     string
		want      string
		cancelled bool
		err       string
	}{
		{"\r\n", "", false, "<nil>"},
		{"*\r\n", "", true, "<nil>"},
		{"YWI=\n", "ab", false, "<nil>"},
		{"YWI\r\n", "", false, "expected line of base64 at position 1, got invalid base64"},
		{"YWI=x \r\n", "", false, "expected line of base64 at position 1, got invalid base64"},
		{"YWI= \r\n", "", false, "expected end of line at position 5, got space"},
		{"**\r\n", "", false, `expected line of base64, or "*" alone at position 2, got "*"`},
		{strings.Repeat("A", 200) + "\r\n", "", false, "command line: at most 100 bytes are accepted"},
	} {
		d := decoder(c.input, imapwire.Limits{MaxLine: 100})
		got, cancelled := d.Base64Line()
		if string(got) != c.want || cancelled != c.cancelled || fmt.Sprint(d.Err()) != c.err {
			t.Errorf("%q = %q, %v, %v", c.input, got, cancelled, d.Err())
		}
		if c.err == "<nil>" && !cancelled && got == nil {
			t.Errorf("%q: an empty answer is nil", c.input)
		}
	}
	long := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("token"), 9000))
	d := imapwire.NewDecoder(strings.NewReader(long+"\r\n"), imapwire.DecoderOptions{Pool: imapwire.NewBufferPool(1024)})
	if got, _ := d.Base64Line(); len(got) != 45000 || d.Err() != nil {
		t.Errorf("a long token gives %d bytes, %v", len(got), d.Err())
	}
}

func TestLimits(t *testing.T) {
	d := decoder("a "+strings.Repeat("x", 200)+"\r\nb NOOP\r\n", imapwire.Limits{MaxLine: 100})
	d.Tag()
	d.SP()
	d.Atom()
	limit, ok := errors.AsType[*imapwire.LimitError](d.Err())
	if !ok || limit.Literal || limit.Limit != 100 || !imapwire.Recoverable(d.Err()) {
		t.Fatalf("got %v", d.Err())
	}
	if err := d.DiscardCommand(); err != nil {
		t.Fatal(err)
	}
	d.Begin()
	if d.Tag() != "b" {
		t.Error("the next command was lost")
	}

	deep := decoder(strings.Repeat("(", 200), imapwire.Limits{MaxDepth: 10})
	var nest func()
	nest = func() { deep.NonEmptyList(nest) }
	nest()
	if got := fmt.Sprint(deep.Err()); got != "nesting: at most 10 levels are accepted" {
		t.Errorf("got %s", got)
	}

	many := decoder("{40}\r\n"+strings.Repeat("x", 40)+" {40}\r\n", imapwire.Limits{MaxCommand: 90})
	many.Str()
	many.SP()
	many.Str()
	if got := fmt.Sprint(many.Err()); got != "command with its literals: at most 90 bytes are accepted" {
		t.Errorf("got %s", got)
	}

	minus := decoder("{4097+}\r\n", imapwire.Limits{MaxNonSync: 4096})
	minus.LiteralHeader()
	limit, ok = errors.AsType[*imapwire.LimitError](minus.Err())
	if !ok || !limit.Literal || limit.Error() != "non-synchronizing literal: at most 4096 bytes are accepted" {
		t.Errorf("got %v", minus.Err())
	}

	never := imapwire.NewDecoder(strings.NewReader("{3}\r\n"), imapwire.DecoderOptions{})
	never.Str()
	if got := fmt.Sprint(never.Err()); got != "expected no synchronizing literal here at position 1, got {n}" {
		t.Errorf("got %s", got)
	}
}

func TestEndOfInput(t *testing.T) {
	d := decoder("", imapwire.Limits{})
	if d.Tag(); d.Err() != io.EOF || imapwire.Recoverable(d.Err()) {
		t.Errorf("before a command: %v", d.Err())
	}
	d = decoder("a NOOP", imapwire.Limits{})
	d.Tag()
	d.SP()
	if d.Keyword(); d.Err() != io.ErrUnexpectedEOF {
		t.Errorf("within a command: %v", d.Err())
	}
	d.Begin()
	if d.Tag(); d.Err() != io.ErrUnexpectedEOF {
		t.Errorf("a dead connection came back to life: %v", d.Err())
	}
	if err := d.DiscardCommand(); err != io.ErrUnexpectedEOF {
		t.Errorf("discarding: %v", err)
	}
	if d.Wait() != io.ErrUnexpectedEOF {
		t.Error("waiting on a dead connection succeeds")
	}
	d = imapwire.NewDecoder(stuck{}, imapwire.DecoderOptions{})
	if err := d.Wait(); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestWaitAndReset(t *testing.T) {
	d := decoder("a STARTTLS\r\nb INJECTED\r\n", imapwire.Limits{})
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	d.Tag()
	d.SP()
	d.Keyword()
	d.CRLF()
	if got := d.Buffered(); got != len("b INJECTED\r\n") {
		t.Errorf("%d bytes are buffered", got)
	}
	rest := d.Reset(strings.NewReader("c NOOP\r\n"))
	if string(rest) != "b INJECTED\r\n" || d.Buffered() != 0 {
		t.Errorf("the rest is %q", rest)
	}
	if d.Tag() != "c" {
		t.Error("the new reader is not read")
	}
	d.Close()
	if d.Wait() != io.ErrClosedPipe {
		t.Error("a closed decoder waits")
	}
}

// Commands of all lengths around the little buffer of Wait come through whole.
func TestWaitThenRead(t *testing.T) {
	pool := imapwire.NewBufferPool(1024)
	for n := 1; n < 200; n++ {
		word := strings.Repeat("x", n)
		r := io.MultiReader(strings.NewReader("a "+word+"\r\n"), strings.NewReader("b {"+fmt.Sprint(n)+"+}\r\n"+word+"\r\n"))
		d := imapwire.NewDecoder(r, imapwire.DecoderOptions{Pool: pool})
		for range 2 {
			if err := d.Wait(); err != nil {
				t.Fatal(err)
			}
			d.Begin()
			d.Tag()
			d.SP()
			if got := d.Astring(); got != word {
				t.Fatalf("%d bytes: got %q, %v", n, got, d.Err())
			}
			d.CRLF()
		}
		if d.Wait() != io.EOF {
			t.Fatalf("%d bytes: something is left", n)
		}
		d.Close()
	}
}

func TestFailByTheCaller(t *testing.T) {
	d := decoder("a FROB x\r\n", imapwire.Limits{})
	d.Tag()
	d.SP()
	if word := d.Keyword(); word == "FROB" {
		d.Fail("command", `"FROB"`)
	}
	d.Fail("something else", "")
	if got := d.Err().Error(); got != `expected command at position 7, got "FROB"` {
		t.Errorf("got %s", got)
	}
	d = decoder("x\r\n", imapwire.Limits{})
	d.Peek()
	d.Fail("y", "")
	if got := d.Err().Error(); got != `expected y at position 1, got "x"` {
		t.Errorf("got %s", got)
	}
}
