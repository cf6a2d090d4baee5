package imapwire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

func TestEncoderProductions(t *testing.T) {
	long := strings.Repeat("x", 1001)
	for _, c := range []struct {
		name  string
		write func(e *imapwire.Encoder)
		ascii string
		utf8  string // "" where it is the same
	}{
		{"string", func(e *imapwire.Encoder) { e.String(`a "b" \c`) }, `"a \"b\" \\c"`, ""},
		{"empty string", func(e *imapwire.Encoder) { e.String("") }, `""`, ""},
		{"string with CR", func(e *imapwire.Encoder) { e.String("a\rb") }, "{3}\r\na\rb", ""},
		{"string with NUL", func(e *imapwire.Encoder) { e.String("a\x00b") }, `"a?b"`, ""},
		{"literal with NUL", func(e *imapwire.Encoder) { e.String("a\x00\nb\x00") }, "{5}\r\na?\nb?", ""},
		{"long string", func(e *imapwire.Encoder) { e.String(long) }, "{1001}\r\n" + long, ""},
		{"8-bit string", func(e *imapwire.Encoder) { e.String("grün\"") }, "{6}\r\ngrün\"", `"grün\""`},
		{"invalid UTF-8", func(e *imapwire.Encoder) { e.String("a\xff") }, "{2}\r\na\xff", ""},
		{"cut UTF-8", func(e *imapwire.Encoder) { e.StringBytes([]byte("a\xe2\x82")) }, "{3}\r\na\xe2\x82", ""},
		{"encoded replacement character", func(e *imapwire.Encoder) { e.String("\uFFFD") }, "{3}\r\n\uFFFD", "\"\uFFFD\""},
		{"NIL", func(e *imapwire.Encoder) { e.NString("x", false); e.Nil() }, "NILNIL", ""},
		{"nstring", func(e *imapwire.Encoder) { e.NString("NIL", true) }, `"NIL"`, ""},
		{"astring", func(e *imapwire.Encoder) { e.Astring("abc"); e.SP(); e.Astring("a b"); e.SP(); e.Astring("") }, `abc "a b" ""`, ""},
		{"astring NIL", func(e *imapwire.Encoder) { e.Astring("nil") }, `"nil"`, ""},
		{"mailbox", func(e *imapwire.Encoder) { e.Mailbox("Entwürfe") }, "Entw&APw-rfe", `"Entwürfe"`},
		{"mailbox with ampersand", func(e *imapwire.Encoder) { e.Mailbox("R&D") }, "R&-D", "R&D"},
		{"mailbox with space", func(e *imapwire.Encoder) { e.Mailbox("a b") }, `"a b"`, ""},
		{"numbers", func(e *imapwire.Encoder) { e.Number(4294967295); e.SP(); e.Number64(1 << 63); e.SP(); e.ModSeq(0) },
			"4294967295 9223372036854775808 0", ""},
		{"flags", func(e *imapwire.Encoder) {
			e.FlagList(nil)
			e.FlagList([]imap.Flag{imap.FlagSeen, "x"})
			e.Flag("y")
		}, `()(\Seen x)y`, ""},
		{"dates", func(e *imapwire.Encoder) {
			e.DateTime(imap.MakeTime(1580522645, 60))
			e.Date(imap.MakeTime(1580522645, 60).Date())
		}, `" 1-Feb-2020 03:04:05 +0100"1-Feb-2020`, ""},
		{"sets", func(e *imapwire.Encoder) {
			e.UIDSet(imap.UIDSetOf(5, 1, 2))
			e.SP()
			e.SeqSet(imap.SeqSetOf(3))
			e.SP()
			e.NumSet(imap.NumSet{{Start: 5, Stop: 0}})
		}, "1:2,5 3 5:*", ""},
		{"list", func(e *imapwire.Encoder) { e.List(3, func(i int) { e.Number(uint32(i)) }); e.List(0, nil) }, "(0 1 2)()", ""},
		{"text", func(e *imapwire.Encoder) { e.Text("a\r\nb\x00 ü") }, "a  b? ??", "a  b? ü"},
		{"text with invalid UTF-8", func(e *imapwire.Encoder) { e.Text("a\xff") }, "a?", ""},
		{"literals", func(e *imapwire.Encoder) { e.Literal([]byte("ab")); e.Literal8([]byte("\x00")) }, "{2}\r\nab~{1}\r\n\x00", ""},
		{"raw", func(e *imapwire.Encoder) {
			e.Raw("* ")
			e.Atom("OK")
			e.Byte(' ')
			e.Quoted(`"`)
			e.RawBytes([]byte("."))
			e.Append(func(b []byte) []byte { return append(b, "!"...) })
			e.CRLF()
		}, "* OK \"\\\"\".!\r\n", ""},
		{"streamed literal", func(e *imapwire.Encoder) {
			e.LiteralFrom(strings.NewReader("abcdef"), 3, false)
			e.LiteralFrom(strings.NewReader("\x00"), 1, true)
			e.LiteralFrom(nil, 0, false)
		}, "{3}\r\nabc~{1}\r\n\x00{0}\r\n", ""},
	} {
		for mode, want := range map[imapwire.Mode]string{imapwire.ModeASCII: c.ascii, imapwire.ModeUTF8: c.utf8} {
			if want == "" {
				want = c.ascii
			}
			var out bytes.Buffer
			e := imapwire.NewEncoder(&out, imapwire.EncoderOptions{})
			e.SetMode(mode)
			c.write(e)
			if err := e.Flush(); err != nil || out.String() != want || e.Mode() != mode {
				t.Errorf("%s in mode %d is %q, %v; want %q", c.name, mode, out.String(), err, want)
			}
		}
	}
}

// What passes the buffer in pieces of any size comes out whole and in order.
func TestEncoderBuffering(t *testing.T) {
	pool := imapwire.NewBufferPool(1024)
	rapid.Check(t, func(rt *rapid.T) {
		var out, want bytes.Buffer
		e := imapwire.NewEncoder(&out, imapwire.EncoderOptions{Pool: pool})
		for range rapid.IntRange(0, 20).Draw(rt, "steps") {
			p := bytes.Repeat([]byte{byte('a' + want.Len()%26)}, rapid.IntRange(0, 3000).Draw(rt, "size"))
			switch rapid.IntRange(0, 5).Draw(rt, "op") {
			case 0:
				e.Raw(string(p))
			case 1:
				e.RawBytes(p)
			case 2:
				want.Write(imapwire.AppendLiteralHeader(nil, int64(len(p)), true))
				if err := e.LiteralFrom(iotest.HalfReader(bytes.NewReader(p)), int64(len(p)), true); err != nil {
					rt.Fatal(err)
				}
			case 3:
				if err := e.Flush(); err != nil || e.Buffered() != 0 {
					rt.Fatal(err)
				}
				e.Release()
				p = nil
			case 4:
				e.String(string(p))
				p = imapwire.AppendString(nil, p, imapwire.ModeASCII)
			case 5:
				var set imap.UIDSet
				for i := range len(p) {
					set.Add(imap.UID(1 + 2*i))
				}
				e.UIDSet(set)
				p = set.AppendWire(nil)
			}
			want.Write(p)
		}
		if err := e.Flush(); err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) {
			rt.Fatalf("%d bytes came out of %d, %v", out.Len(), want.Len(), err)
		}
		e.Release()
	})
}

type brokenWriter struct{ left int }

var errBroken = errors.New("broken pipe")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errBroken
	}
	w.left -= len(p)
	return len(p), nil
}

func TestEncoderErrorsStick(t *testing.T) {
	e := imapwire.NewEncoder(&brokenWriter{left: 2}, imapwire.EncoderOptions{})
	e.Raw("ab")
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	e.Raw("c")
	for range 3 {
		if err := e.Flush(); err != errBroken {
			t.Errorf("got %v", err)
		}
		e.Raw(strings.Repeat("x", 100000))
		e.RawBytes(make([]byte, 100000))
		if err := e.LiteralFrom(strings.NewReader("abc"), 3, false); err != errBroken || e.Err() != errBroken {
			t.Errorf("got %v", err)
		}
	}
	var out bytes.Buffer
	e.Reset(&out)
	e.Raw("ok")
	if err := e.Flush(); err != nil || out.String() != "ok" {
		t.Errorf("after Reset: %q, %v", out.String(), err)
	}
}

func TestLiteralFromShortReader(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"short":  strings.NewReader("abc"),
		"failed": io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errBroken)),
	} {
		var out bytes.Buffer
		e := imapwire.NewEncoder(&out, imapwire.EncoderOptions{})
		err := e.LiteralFrom(r, 10, false)
		want := map[string]error{"short": io.ErrUnexpectedEOF, "failed": errBroken}[name]
		if !errors.Is(err, want) || e.Err() != err || !strings.Contains(err.Error(), "literal of 10 bytes broke off with 7 to go") {
			t.Errorf("%s: %v", name, err)
		}
		e.Raw("* OK more\r\n")
		if err := e.Flush(); err == nil || strings.Contains(out.String(), "more") {
			t.Errorf("%s: the encoder goes on: %q, %v", name, out.String(), err)
		}
	}
}

// What the encoder writes, the decoder reads.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mode := imapwire.Mode(rapid.IntRange(0, 1).Draw(rt, "mode"))
		text := rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 1100).Draw(rt, "string")
		mailbox := rapid.StringN(0, 50, 100).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }).Draw(rt, "mailbox")
		when := imap.MakeTime(rapid.Int64Range(0, 200000000000).Draw(rt, "unix"), rapid.IntRange(-5999, 5999).Draw(rt, "zone"))
		set := imap.UIDSetOf(rapid.SliceOfN(rapid.Map(rapid.Uint32Min(1), func(n uint32) imap.UID { return imap.UID(n) }), 1, 50).Draw(rt, "set")...)
		number := rapid.Int64Min(0).Draw(rt, "number")
		flags := []imap.Flag{imap.FlagSeen, imap.Flag(rapid.StringMatching(`[$a-zA-Z0-9]{1,20}`).Draw(rt, "flag"))}

		var out bytes.Buffer
		e := imapwire.NewEncoder(&out, imapwire.EncoderOptions{})
		e.SetMode(mode)
		e.StringBytes(text)
		e.SP()
		e.NString(string(text), true)
		e.SP()
		e.Mailbox(mailbox)
		e.SP()
		e.DateTime(when)
		e.SP()
		e.UIDSet(set)
		e.SP()
		e.Number64(uint64(number))
		e.SP()
		e.FlagList(flags)
		e.CRLF()
		if err := e.Flush(); err != nil {
			rt.Fatal(err)
		}

		d := decoder(out.String(), imapwire.Limits{})
		d.SetMode(mode)
		got := d.Str()
		d.SP()
		again, isString := d.NString()
		d.SP()
		name := d.Mailbox()
		d.SP()
		date := d.DateTime()
		d.SP()
		uids := d.UIDSet()
		d.SP()
		n := d.Number64()
		d.SP()
		list := d.FlagList()
		d.CRLF()
		switch {
		case d.Err() != nil:
			rt.Fatalf("%v in %q", d.Err(), out.String())
		case got != string(text) || again != got || !isString:
			rt.Fatalf("string %q came back as %q", text, got)
		case name != mailbox && utf8.ValidString(mailbox):
			rt.Fatalf("mailbox %q came back as %q", mailbox, name)
		case date != when || !uids.Equal(set) || n != number || len(list) != 2 || list[1] != flags[1]:
			rt.Fatalf("%v %v %v %v came back from %q", date, uids, n, list, out.String())
		}
	})
}

func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a\"\\", "grün", "\xff\r\n", strings.Repeat("y", 1000), "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, mode := range []imapwire.Mode{imapwire.ModeASCII, imapwire.ModeUTF8} {
			wire := imapwire.AppendAstring(nil, s, mode)
			d := decoder(string(wire)+"\r\n", imapwire.Limits{MaxLiteral: 1 << 20, MaxCommand: 1 << 21})
			got := d.Astring()
			d.CRLF()
			if want := strings.ReplaceAll(s, "\x00", "?"); d.Err() != nil || got != want {
				t.Fatalf("%q went as %q and came back as %q, %v", s, wire, got, d.Err())
			}
			text := imapwire.AppendText(nil, s, mode)
			if bytes.ContainsAny(text, "\r\n\x00") || mode == imapwire.ModeUTF8 && !utf8.Valid(text) {
				t.Fatalf("text %q became %q", s, text)
			}
		}
	})
}

func TestEncoderDoesNotAllocate(t *testing.T) {
	e := imapwire.NewEncoder(io.Discard, imapwire.EncoderOptions{Pool: imapwire.NewBufferPool(0)})
	e.SP()
	flags := []imap.Flag{imap.FlagSeen, "$Forwarded"}
	when := imap.MakeTime(1580522645, 60)
	set := imap.UIDSetOf(1, 2, 3, 9)
	body := make([]byte, 100)
	n := testing.AllocsPerRun(100, func() {
		e.Number(12345)
		e.ModSeq(1 << 60)
		e.FlagList(flags)
		e.DateTime(when)
		e.Date(when.Date())
		e.UIDSet(set)
		e.String(`a "quoted" string`)
		e.StringBytes(body)
		e.Mailbox("INBOX")
		e.Text("done")
		e.Literal(body)
	})
	if n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
}

func BenchmarkEncoderFetchFlags(b *testing.B) {
	e := imapwire.NewEncoder(io.Discard, imapwire.EncoderOptions{Pool: imapwire.NewBufferPool(0)})
	flags := []imap.Flag{imap.FlagSeen, imap.FlagAnswered}
	when := imap.MakeTime(1580522645, 60)
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		n++
		e.Raw("* ")
		e.Number(n)
		e.Raw(" FETCH (UID ")
		e.Number(n)
		e.Raw(" FLAGS ")
		e.FlagList(flags)
		e.Raw(" INTERNALDATE ")
		e.DateTime(when)
		e.Raw(")\r\n")
	}
}

func BenchmarkEncoderLiteral(b *testing.B) {
	e := imapwire.NewEncoder(io.Discard, imapwire.EncoderOptions{Pool: imapwire.NewBufferPool(0)})
	data := make([]byte, 1<<20)
	body := bytes.NewReader(data)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(data)
		if err := e.LiteralFrom(body, 1<<20, false); err != nil {
			b.Fatal(err)
		}
	}
}
