package message_test

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/tools/txtar"

	"github.com/rookery-mail/rookery/internal/corpus"
	"github.com/rookery-mail/rookery/message"
)

// seedMessages adds the messages of testdata.
func seedMessages(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/digest/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
		f.Add(bytes.ReplaceAll(a.Files[0].Data, []byte(`\x00`), []byte{0}))
	}
	f.Add([]byte(searchMessage()))
	f.Add([]byte(rfcExample))
	for _, m := range corpus.Messages(f) {
		if len(m.Raw) < 20_000 {
			f.Add(m.Raw)
		}
	}
}

func FuzzParse(f *testing.F) {
	seedMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkMessage(t, raw, message.Limits{})
		d, _ := checkMessage(t, raw, message.Limits{Depth: 2, Parts: 3, HeaderBytes: 200, HeaderFields: 4, Addresses: 2, TextBytes: 50})
		for _, spec := range []string{"", "HEADER", "TEXT", "1", "1.MIME", "1.HEADER", "2.1", "1.1.TEXT"} {
			if r, ok := d.Section(parseSection(spec)); ok && (r.Start < 0 || r.Start > r.End || r.End > d.Size) {
				t.Fatalf("BODY[%s] is %v of %d octets", spec, r, d.Size)
			}
		}
	})
}

func FuzzFilterHeader(f *testing.F) {
	f.Add([]byte("To: a\r\n b\r\nX: y\r\n\r\n"), "to cc", true)
	f.Add([]byte("To: a\r\n b\r\n[x]: y\r\n{X}: y\r\n: z\r\n\r\n"), "TO {x} b", false)
	f.Fuzz(func(t *testing.T, raw []byte, names string, not bool) {
		d, _, err := message.Parse(bytes.NewReader(raw), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		header := raw[:d.Root.BodyStart]
		got := message.FilterHeader(nil, header, strings.Fields(names), not)
		rest := message.FilterHeader(nil, header, strings.Fields(names), !not)
		blank := message.FilterHeader(nil, header, nil, false)
		// Many names are looked up in another way.
		many := append(strings.Fields(names), strings.Fields(strings.Repeat("No-Such-Field-Here ", 40))...)
		if again := message.FilterHeader(nil, header, many, not); !bytes.Equal(again, got) {
			t.Fatalf("with many names %q, with few %q", again, got)
		}
		if len(got)+len(rest) != len(header)+len(blank) {
			t.Fatalf("%q and %q are not %q", got, rest, header)
		}
		if again := message.FilterHeader(nil, got, strings.Fields(names), not); !bytes.Equal(again, got) && bytes.IndexByte(got, ':') > 0 {
			t.Fatalf("filtered again: %q, before: %q", again, got)
		}
	})
}

func FuzzFold(f *testing.F) {
	f.Add("Straße \u01c4 ﬁ 한 \xff")
	f.Fuzz(func(t *testing.T, s string) {
		folded := message.FoldString(s)
		if utf8.ValidString(s) && !utf8.ValidString(folded) {
			t.Fatalf("%q folds to %q", s, folded)
		}
		_, size := utf8.DecodeRuneInString(s) // folding is character by character
		if parts := message.FoldString(s[:size]) + message.FoldString(s[size:]); parts != folded {
			t.Fatalf("%q folds to %q, its parts at %d to %q", s, folded, size, parts)
		}
		if !bytes.Equal(message.Fold(nil, s), []byte(folded)) {
			t.Fatal("Fold and FoldString differ")
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("a=3D=\r\n b \r\n=", "utf-8")
	f.Add("aGVsbG8=", "utf-7")
	f.Add("\x1b$BF|K\\", "iso-2022-jp")
	f.Fuzz(func(t *testing.T, s, charset string) {
		for e := message.Encoding7Bit; e < message.EncodingUnknown; e++ {
			var whole string
			for _, n := range []int{1, 7, len(s) + 1} {
				r, err := message.DecodePart(&message.Part{Encoding: e}, &chunkReader{s, n})
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if n > 1 && string(b) != whole {
					t.Fatalf("%q by %d gives %q, by 1 %q", s, n, b, whole)
				}
				whole = string(b)
			}
		}
		if text, ok := message.DecodeCharset(charset, []byte(s)); ok && !utf8.ValidString(text) {
			t.Fatalf("%q in %s is %q", s, charset, text)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	for _, m := range []string{searchMessage(), rfcExample, ""} {
		d, text, err := message.Parse(strings.NewReader(m), message.Limits{})
		if err != nil {
			f.Fatal(err)
		}
		stored, _ := d.AppendBinary(nil)
		f.Add(stored)
		stored, _ = text.AppendBinary(nil)
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := message.UnmarshalDigest(b); err == nil {
			if again, _ := d.AppendBinary(nil); len(again) > len(b) {
				t.Fatalf("%q is stored again as %q", b, again)
			}
			if r, ok := d.Section(message.Section{Path: []int{1, 1}}); ok && r.Start > r.End {
				t.Fatalf("range %v", r)
			}
		}
		if text, err := message.UnmarshalText(b); err == nil {
			text.MatchText([]byte("X"))
		}
	})
}
