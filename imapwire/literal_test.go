package imapwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/internal/corpus"
)

// After a failure anywhere in a command, what comes next is the next command:
// never the bytes of a literal that was refused.
func TestDiscardCommand(t *testing.T) {
	const next = "next NOOP\r\n"
	for _, c := range []struct {
		name, rest string
	}{
		{"rest of the line", "( x y z\r\n"},
		{"bare line feed", "( x\n"},
		{"end of the line", "\r\n"},
		{"non-synchronizing literal", "( {13+}\r\nevil LOGOUT\r\n\r\n"},
		{"literal8", "( ~{13+}\r\nevil LOGOUT\r\n\r\n"},
		{"bare line feeds around a literal", "( {5+}\nevil\n\n"},
		{"several literals", "( {5+}\r\nevil\n x {6+}\r\nevil\r\n y\r\n"},
		{"empty literal", "( {0+}\r\n\r\n"},
		{"empty line behind a literal", "( {2+}\r\nhi\r\n"},
		{"synchronizing literal, not asked for", "( {5}\r\n"},
		{"synchronizing after non-synchronizing", "( {5+}\r\nevil\n {5}\r\n"},
		{"literal whose bytes look like one", "( {9+}\r\n {100+}\r\n\r\n"},
		{"braces within the line", "( {5+} x\r\n"},
		{"braces within quotes", "( \"{5+}\"\r\n"},
		{"braces without a number", "( {+}\r\n"},
		{"sign in a wrong place", "( {+5}\r\n"},
		{"unclosed quote that ends like a literal", "\"abc {5+}\r\nevil\n\r\n"},
		{"unclosed quote with an escape", "\"a\\\"c {5+}\r\nevil\n\r\n"},
		{"bad escape before a literal", "\"a\\bc\" {5+}\r\nevil\n\r\n"},
		{"fault within the announcement", "{5-{5+}\r\nevil\n\r\n"},
		{"fault behind the announcement", "{5+}{5+}\r\nevil\n\r\n"},
		{"CR behind the announcement", "{5+}\rx {5+}\r\nevil\n\r\n"},
		{"NUL before a literal", "\x00 {5+}\r\nevil\n\r\n"},
		{"literal with a NUL", "{5+}\r\nev\x00l\n {5+}\r\nevil\n\r\n"},
		{"literal too long to read", "{300000+}\r\n" + strings.Repeat("evil\n", 60000) + "\r\n"},
		{"line too long", "\"" + strings.Repeat("x", 70000) + "\" {5+}\r\nevil\n\r\n"},
		{"leading zeros", "( {" + strings.Repeat("0", 300) + "5+}\r\nevil\n\r\n"},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
		} {
			d := imapwire.NewDecoder(wrap(strings.NewReader("a "+c.rest+next)), imapwire.DecoderOptions{
				Continue: func() error { t.Errorf("%s: the literal was asked for", c.name); return nil },
			})
			d.Tag()
			d.SP()
			d.Mailbox()
			d.SP()
			if d.Err() == nil {
				t.Errorf("%s: no error", c.name)
			}
			if err := d.DiscardCommand(); err != nil {
				t.Errorf("%s (%s): %v", c.name, how, err)
			}
			d.Begin()
			if got := d.Tag(); got != "next" {
				t.Errorf("%s (%s): after %v the next command is %q, %v", c.name, how, d.Err(), got, d.Err())
			}
		}
	}
}

// A limit that strikes within an announcement does not hide it.
func TestDiscardWhenTheLimitStrikesAnywhere(t *testing.T) {
	const input = "a \"xyz\\\\\" zz {5+}\r\nevil\n {000006+}\r\nevil\r\n q {3}\r\nb NOOP\r\n"
	for limit := 1; limit < 60; limit++ {
		for _, size := range []int{1, 1024} {
			r := io.Reader(strings.NewReader(input))
			if size == 1 {
				r = iotest.OneByteReader(r)
			}
			d := imapwire.NewDecoder(r, imapwire.DecoderOptions{Limits: imapwire.Limits{MaxLine: limit}})
			d.Tag()
			for range 4 {
				d.SP()
				d.Astring()
			}
			if err := d.DiscardCommand(); err != nil {
				t.Fatal(err)
			}
			d.Begin()
			if got := d.Tag(); limit > 1 && got != "b" {
				t.Errorf("limit %d: the next command is %q, %v", limit, got, d.Err())
			}
		}
	}
}

func TestDiscardIsBounded(t *testing.T) {
	for name, input := range map[string]string{
		"literal":             "( {101+}\r\n",
		"greater than 64 bit": "( {99999999999999999999999999+}\r\n",
		"read before":         "{99999999999999999999999999+}\r\n",
		"sum of literals":     "( {50+}\r\n" + strings.Repeat("x", 50) + " {50+}\r\n",
		"line":                "(" + strings.Repeat("x", 200) + "\r\n",
	} {
		d := decoder(input, imapwire.Limits{MaxSkip: 100})
		d.Mailbox()
		if err := d.DiscardCommand(); err != imapwire.ErrSkipTooLarge {
			t.Errorf("%s: %v", name, err)
		}
		d.Begin()
		if d.Tag(); d.Err() != imapwire.ErrSkipTooLarge || imapwire.Recoverable(d.Err()) {
			t.Errorf("%s: the connection goes on: %v", name, d.Err())
		}
	}
	// A synchronizing literal of any size costs nothing.
	d := decoder("( {99999999999999999999999999}\r\nb NOOP\r\n", imapwire.Limits{MaxSkip: 100})
	d.Mailbox()
	if err := d.DiscardCommand(); err != nil {
		t.Error(err)
	}
	d.Begin()
	if d.Tag() != "b" {
		t.Error("the next command was lost")
	}
}

func TestStreamedLiterals(t *testing.T) {
	body := strings.Repeat("0123456789", 20000)
	for announcement, want := range map[string]imapwire.LiteralInfo{
		"{200000}": {Size: 200000, Sync: true}, "{200000+}": {Size: 200000},
		"~{200000}": {Size: 200000, Sync: true, Binary: true}, "~{200000+}": {Size: 200000, Binary: true},
	} {
		asked := 0
		d := imapwire.NewDecoder(strings.NewReader(announcement+"\r\n"+body+" next\r\n"), imapwire.DecoderOptions{
			Continue: func() error { asked++; return nil },
		})
		info, ok := d.LiteralHeader()
		if !ok || info != want || asked != 0 {
			t.Errorf("%s: %+v, %v; asked %d times", announcement, info, d.Err(), asked)
		}
		got, err := io.ReadAll(d.AcceptLiteral())
		if err != nil || string(got) != body || (asked == 1) != want.Sync {
			t.Errorf("%s: %d bytes, %v; asked %d times", announcement, len(got), err, asked)
		}
		d.SP()
		if d.Atom() != "next" || d.Err() != nil {
			t.Errorf("%s: what follows is lost: %v", announcement, d.Err())
		}
	}
}

func TestLiteralLeftUnread(t *testing.T) {
	d := decoder("{10+}\r\n0123456789 next {5+}\r\nevil\n\r\nb NOOP\r\n", imapwire.Limits{})
	d.LiteralHeader()
	r := d.AcceptLiteral()
	var three [3]byte
	if _, err := io.ReadFull(r, three[:]); err != nil {
		t.Fatal(err)
	}
	d.SP()
	if d.Atom() != "next" {
		t.Errorf("what follows is lost: %v", d.Err())
	}
	if n, err := r.Read(three[:]); n != 0 || err != io.EOF {
		t.Errorf("the old reader gives %d bytes, %v", n, err)
	}
	d.SP()
	d.LiteralHeader()
	r = d.AcceptLiteral()
	if err := d.DiscardCommand(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(three[:]); n != 0 || err != io.EOF {
		t.Errorf("the reader of a discarded command gives %d bytes, %v", n, err)
	}
	d.Begin()
	if d.Tag() != "b" {
		t.Error("the next command was lost")
	}
}

func TestRefuseLiteral(t *testing.T) {
	// Non-synchronizing: skipped, the command goes on.
	d := decoder("{5+}\r\nevil\n next\r\n", imapwire.Limits{})
	d.LiteralHeader()
	if err := d.RefuseLiteral(); err != nil {
		t.Fatal(err)
	}
	d.SP()
	if d.Atom() != "next" || d.Err() != nil {
		t.Errorf("what follows is lost: %v", d.Err())
	}
	// Synchronizing: the command ends here.
	d = decoder("{5}\r\nb NOOP\r\n", imapwire.Limits{})
	d.LiteralHeader()
	if err := d.RefuseLiteral(); err != nil || d.Err() == nil {
		t.Errorf("%v, %v", err, d.Err())
	}
	if err := d.DiscardCommand(); err != nil {
		t.Fatal(err)
	}
	d.Begin()
	if d.Tag() != "b" {
		t.Error("the next command was lost")
	}
	// Too large to be skipped.
	d = decoder("{101+}\r\n", imapwire.Limits{MaxSkip: 100})
	d.LiteralHeader()
	if err := d.RefuseLiteral(); err != imapwire.ErrSkipTooLarge {
		t.Errorf("got %v", err)
	}
	// Neither accepted nor refused counts as refused.
	d = decoder("{5}\r\nb NOOP\r\n", imapwire.Limits{})
	d.LiteralHeader()
	if d.Atom(); d.Err() == nil {
		t.Error("the decoder has read on behind a literal that was not accepted")
	}
}

func TestLiteralBreaksOff(t *testing.T) {
	d := decoder("{10+}\r\n0123", imapwire.Limits{})
	d.LiteralHeader()
	if got, err := io.ReadAll(d.AcceptLiteral()); string(got) != "0123" || err != io.ErrUnexpectedEOF {
		t.Errorf("%q, %v", got, err)
	}
	if d.Err() != io.ErrUnexpectedEOF {
		t.Errorf("the decoder says %v", d.Err())
	}
	boom := errors.New("boom")
	d = imapwire.NewDecoder(strings.NewReader("{10}\r\n"), imapwire.DecoderOptions{Continue: func() error { return boom }})
	if d.Str(); d.Err() != boom {
		t.Errorf("the error of Continue became %v", d.Err())
	}
}

// A literal that was not announced, or whose announcement failed, is an error
// to read and not an empty message.
func TestAcceptLiteralAfterFailure(t *testing.T) {
	d := decoder("{x}\r\n", imapwire.Limits{})
	d.LiteralHeader()
	if got, err := io.ReadAll(d.AcceptLiteral()); len(got) != 0 || err == nil || err != d.Err() {
		t.Errorf("%q, %v", got, err)
	}
	d = decoder("x\r\n", imapwire.Limits{})
	if got, err := io.ReadAll(d.AcceptLiteral()); len(got) != 0 || err == nil || err != d.Err() {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNULReader(t *testing.T) {
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		got, err := io.ReadAll(imapwire.NewNULReader(wrap(strings.NewReader("abc\x00def"))))
		nul, ok := errors.AsType[*imapwire.NULError](err)
		if string(got) != "abc" || !ok || nul.Offset != 3 || !imapwire.Recoverable(err) {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := io.ReadAll(imapwire.NewNULReader(wrap(strings.NewReader("abc")))); string(got) != "abc" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// FuzzDecoder runs a grammar that the fuzzer chooses over any bytes: no panic,
// no endless loop, errors that stick, and texts that fit a response.
func FuzzDecoder(f *testing.F) {
	names := []string{"tag", "atom", "keyword", "quoted", "string", "astring", "nstring", "number", "nznumber",
		"number64", "modseq", "numset", "uidset", "flags", "flaglist", "mailbox", "mailbox8", "listmailbox",
		"date", "datetime", "list", "initial", "literal"}
	for _, c := range goodTable {
		for i, n := range names {
			if n == c.production {
				f.Add([]byte("a "+c.input+"\r\n"), []byte{0, byte(i)})
			}
		}
	}
	for _, c := range badTable {
		f.Add([]byte("a "+c.input+"\r\n"), []byte{0, 14, 5, 5})
	}
	for _, m := range corpus.Messages(f) {
		line, _, _ := bytes.Cut(m.Raw, []byte("\n"))
		f.Add([]byte("a "+string(line)+"\r\n"), []byte{0, 5, 5})
		f.Add(fmt.Appendf(nil, "a APPEND x {%d+}\r\n%s\r\nb NOOP\r\n", len(m.Raw), m.Raw), []byte{0, 1, 5, 22})
		f.Add(append([]byte("a "), m.Raw...), []byte{0, 14, 5, 5})
	}
	f.Fuzz(func(t *testing.T, input, program []byte) {
		src := bytes.NewReader(input)
		d := imapwire.NewDecoder(src, imapwire.DecoderOptions{
			Limits:   imapwire.Limits{MaxLine: 500, MaxLiteral: 200, MaxSkip: 1000},
			Continue: func() error { return nil },
		})
		for range 10 {
			if d.Wait() != nil {
				break
			}
			d.Begin()
			before := d.Buffered() + src.Len()
			for _, op := range program {
				productions[names[int(op)%len(names)]](d)
				d.SP()
			}
			d.CRLF()
			if err := d.Err(); err != nil {
				if text := err.Error(); imapwire.Recoverable(err) && (len(text) > 320 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })) {
					t.Fatalf("an error text that fits no response: %q", text)
				}
				productions["astring"](d)
				if d.Err() != err {
					t.Fatalf("%v did not stick: %v", err, d.Err())
				}
			}
			if err := d.DiscardCommand(); err != nil {
				break
			}
			if d.Buffered()+src.Len() >= before {
				t.Fatal("no progress")
			}
			used := input[:len(input)-d.Buffered()-src.Len()]
			if len(used) > 0 && used[len(used)-1] != '\n' {
				t.Fatalf("the command ends within a line: %q", used)
			}
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	for name, line := range map[string]string{
		"noop":   "a1 NOOP\r\n",
		"fetch":  "a1 UID FETCH 1:100,205,300:* (FLAGS UID RFC822.SIZE INTERNALDATE)\r\n",
		"store":  "a1 UID STORE 1:4 +FLAGS.SILENT (\\Seen \\Deleted)\r\n",
		"append": "a1 APPEND INBOX (\\Seen) \" 1-Feb-2020 03:04:05 +0100\" {10+}\r\n0123456789\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			input := &endless{line: line}
			d := imapwire.NewDecoder(input, imapwire.DecoderOptions{Pool: imapwire.NewBufferPool(0)})
			var sink [16]byte
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				d.Begin()
				d.Tag()
				d.SP()
				d.Keyword()
				switch name {
				case "fetch":
					d.SP()
					d.Keyword()
					d.SP()
					d.NumSet()
					d.SP()
					d.NonEmptyList(func() { d.Keyword() })
				case "store":
					d.SP()
					d.Keyword()
					d.SP()
					d.NumSet()
					d.SP()
					d.Byte('+')
					d.Keyword()
					d.SP()
					d.Flags()
				case "append":
					d.SP()
					d.Mailbox()
					d.SP()
					d.FlagList()
					d.SP()
					d.DateTime()
					d.SP()
					d.LiteralHeader()
					if _, err := io.ReadFull(d.AcceptLiteral(), sink[:10]); err != nil {
						b.Fatal(err)
					}
				}
				d.CRLF()
				if d.Err() != nil {
					b.Fatal(fmt.Sprint(name, d.Err()))
				}
			}
		})
	}
}

// endless repeats a line.
type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], e.line[e.at:])
		n += k
		e.at = (e.at + k) % len(e.line)
	}
	return n, nil
}
